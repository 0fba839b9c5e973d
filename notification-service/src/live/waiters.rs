//! Requests that wait for a version of a user.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::Listener;

/// By user. Has as many entries as requests wait, at most.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<i64, watch::Sender<Seen>>>);

/// What has been seen of a user since somebody waits for it.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    version: i64,
    /// How often changes may have been missed.
    gaps: u64,
}

impl Waiters {
    pub(super) fn wake(&self, user_id: i64, version: i64) {
        if let Some(seen) = self.lock().get(&user_id) {
            seen.send_modify(|seen| seen.version = seen.version.max(version));
        }
    }

    pub(super) fn wake_all(&self) {
        for seen in self.lock().values() {
            seen.send_modify(|seen| seen.gaps += 1);
        }
    }

    fn enter(&self, user_id: i64) -> watch::Receiver<Seen> {
        self.lock().entry(user_id).or_default().subscribe()
    }

    /// One receiver of the user is about to go.
    fn leave(&self, user_id: i64) {
        let mut waiters = self.lock();
        if waiters
            .get(&user_id)
            .is_some_and(|it| it.receiver_count() == 1)
        {
            waiters.remove(&user_id);
        }
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, watch::Sender<Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for changes of one user.
#[derive(Debug)]
pub(crate) struct Waiter {
    listener: Listener,
    user_id: i64,
    seen: watch::Receiver<Seen>,
    gaps: u64,
}

impl Waiter {
    pub(super) fn new(listener: Listener, user_id: i64) -> Self {
        let mut seen = listener.0.0.waiters.enter(user_id);
        let gaps = seen.borrow_and_update().gaps;
        Self {
            listener,
            user_id,
            seen,
            gaps,
        }
    }

    /// Whether the copy was announced to have `version` of the user or a later one.
    pub(crate) fn has_seen(&self, version: i64) -> bool {
        self.seen.borrow().version >= version
    }

    /// Waits until the copy has `version` of the user or a later one, or until that may have been
    /// missed: then it is time to look.
    pub(crate) async fn changed(&mut self, version: i64) {
        let gaps = self.gaps;
        let seen = self
            .seen
            .wait_for(|seen| seen.version >= version || seen.gaps > gaps)
            .await;
        // The sender is there for as long as this is.
        if let Ok(seen) = seen {
            self.gaps = seen.gaps;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.listener.0.0.waiters.leave(self.user_id);
    }
}
