//! The relay does its work when it does it for all of its streams.

use std::sync::{Arc, Mutex, PoisonError};

use service_runtime::progress::Progress;

/// What one stream reports. Clones report for the same stream.
#[derive(Debug, Clone)]
pub(super) struct StreamProgress {
    relay: Progress,
    number: usize,
    /// Which streams have succeeded since all had.
    have_succeeded: Arc<Mutex<Vec<bool>>>,
}

impl StreamProgress {
    pub(super) fn of_all(streams: usize, relay: &Progress) -> Vec<Self> {
        let have_succeeded = Arc::new(Mutex::new(vec![false; streams]));
        let of_one = |number| Self {
            relay: relay.clone(),
            number,
            have_succeeded: Arc::clone(&have_succeeded),
        };
        (0..streams).map(of_one).collect()
    }

    /// The relay has succeeded once every stream has.
    pub(super) fn succeeded(&self) {
        let have_succeeded = self.have_succeeded.lock();
        let mut have_succeeded = have_succeeded.unwrap_or_else(PoisonError::into_inner);
        have_succeeded[self.number] = true;
        if have_succeeded.iter().all(|it| *it) {
            have_succeeded.fill(false);
            self.relay.succeeded();
        } else {
            self.relay.attempted();
        }
    }
}
