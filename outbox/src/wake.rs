//! Telling the relay in this process that something was written. A relay elsewhere needs no word: it
//! waits within Postgres.

use std::sync::Arc;

use tokio::sync::Notify;

/// Raised by whoever has written to the outbox, after the commit. Raised twice before it is seen, it
/// wakes the relay once; raised before the relay waits, it is seen as well. Costs nothing if there is
/// no relay in this process.
#[derive(Debug, Clone, Default)]
pub struct Written(Arc<Notify>);

impl Written {
    pub fn raise(&self) {
        self.0.notify_one();
    }

    pub(crate) async fn raised(&self) {
        self.0.notified().await;
    }
}
