//! What is watched while faults strike, and checked when they are over.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    checks::Checker, endpoints::Endpoints, history::History, observers::Observers,
    workload::Workload,
};

pub(crate) struct Proof {
    observers: Observers,
    workload: Workload,
    history: Arc<History>,
    checker: Checker,
}

impl Proof {
    /// From now on clients write.
    pub(crate) async fn start(endpoints: &Endpoints, seed: u64, rate: u32) -> anyhow::Result<Self> {
        let observers = Observers::start(endpoints).await?;
        let checker = Checker::new(endpoints).await?;
        let workload = Workload::start(endpoints, seed, rate)?;
        let history = workload.history();
        Ok(Self {
            observers,
            workload,
            history,
            checker,
        })
    }

    /// Before a backup of Postgres begins, or its standby is cut off.
    pub(crate) fn mark(&self) -> Instant {
        Instant::now()
    }

    /// What was acknowledged since the mark may be absent from now on.
    pub(crate) fn lost_after(&self, mark: Instant) {
        self.observers.database_loses_writes();
        self.history.lost_after(mark);
    }

    /// Before a fault takes messages off the stream.
    pub(crate) fn stream_loses_messages(&self) {
        self.observers.stream_loses_messages();
    }

    /// Before an earlier state of the copy takes its place.
    pub(crate) fn copy_is_put_back(&self) {
        self.observers.copy_is_put_back();
    }

    /// Tombstones are kept for less time than the run takes.
    pub(crate) fn tombstones_expire(&self) {
        self.observers.tombstones_expire();
    }

    /// The longest time since `begin` in which no write was acknowledged.
    pub(crate) fn longest_pause(&self, begin: Instant) -> Duration {
        self.history.longest_pause(begin)
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.workload.acknowledged()
    }

    /// Waits until both sides are idle; what does not hold then. Clients wait meanwhile.
    pub(crate) async fn check(&self) -> anyhow::Result<Vec<String>> {
        self.workload.pause().await;
        let violations = self.checker.check(&self.history, &self.observers).await;
        self.workload.resume();
        let violations = violations?;
        let lost = self.observers.take_lost_places();
        if lost > 0 {
            println!("the changes of the copy were followed anew {lost} times");
        }
        Ok(violations.iter().map(ToString::to_string).collect())
    }
}
