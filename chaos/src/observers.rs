//! Who watches while faults strike: the changes of the copy, and what each service says of itself while a
//! server is away.

mod copy;
mod readiness;
mod seen;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{endpoints::Endpoints, history::Violation, sources::mongodb::Document};

pub(crate) struct Observers {
    copy: copy::Observer,
    readiness: readiness::Observer,
    stream_lost_messages: AtomicBool,
}

impl Observers {
    /// Before the first write: the copy has shown nothing yet.
    pub(crate) async fn start(endpoints: &Endpoints) -> anyhow::Result<Self> {
        Ok(Self {
            copy: copy::Observer::start(endpoints).await?,
            readiness: readiness::Observer::start(endpoints).await?,
            stream_lost_messages: AtomicBool::new(false),
        })
    }

    /// An earlier state of the database takes its place: users whose deletion is lost come back, until the next
    /// check.
    pub(crate) fn database_loses_writes(&self) {
        self.copy.may_revive();
    }

    /// An earlier state of the copy takes its place: it goes back, until the next check.
    pub(crate) fn copy_is_put_back(&self) {
        self.copy.may_go_back();
    }

    /// Tombstones are kept for less time than the run takes.
    pub(crate) fn tombstones_expire(&self) {
        self.copy.tombstones_expire();
    }

    /// Messages are about to be lost: what is published again comes late, until the next check.
    pub(crate) fn stream_loses_messages(&self) {
        self.stream_lost_messages.store(true, Ordering::Relaxed);
    }

    /// Whether it has lost some since the last check.
    pub(crate) fn take_stream_loss(&self) -> bool {
        self.stream_lost_messages.swap(false, Ordering::Relaxed)
    }

    /// What the changes of the copy have not shown yet, of what it has now.
    pub(crate) fn unseen(&self, documents: &[Document]) -> Vec<Violation> {
        self.copy.unseen(documents)
    }

    /// What was observed since the last check.
    pub(crate) fn take_violations(&self) -> Vec<Violation> {
        let mut violations = self.copy.take_violations();
        violations.extend(self.readiness.take_violations());
        violations
    }

    /// Services that do not say they are ready.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        self.readiness.not_ready()
    }

    /// How often the changes had to be followed anew since the last question, because MongoDB no longer knew
    /// the place. Nothing may have gone back meanwhile, but what did and came again was not seen.
    pub(crate) fn take_lost_places(&self) -> u64 {
        self.copy.take_lost_places()
    }
}
