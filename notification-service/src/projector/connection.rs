//! The process's connection to NATS, for whoever has a question of its own.

use async_nats::{
    Client,
    jetstream::{self, Context},
};
use tokio::sync::watch;

/// Empty until NATS was first reached; replaced if the client has ended for good.
#[derive(Debug, Clone)]
pub(crate) struct Connection(watch::Sender<Option<Client>>);

impl Default for Connection {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Connection {
    pub(super) fn set(&self, client: Option<Client>) {
        self.0.send_replace(client);
    }

    pub(crate) fn jetstream(&self) -> Option<Context> {
        self.0.borrow().clone().map(jetstream::new)
    }
}
