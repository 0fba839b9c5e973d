//! A connection to NATS that is made when it is first needed, for what only looks now and then.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use async_nats::{
    Client,
    connection::State,
    jetstream::{self, Context, ErrorCode, response::Response, stream::Info},
};
use service_runtime::nats::{self, NatsSettings};
use tokio::{sync::Mutex, time};

/// How long anything here may take that NATS is asked.
const DEADLINE: Duration = Duration::from_millis(1_500);
const CONNECTION_NAME: &str = "outbox feed";

/// Apart from the relay's: a message whose headers the client can't read costs it its connection.
/// Clones share it.
#[derive(Debug, Clone)]
pub struct NatsOnDemand(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: NatsSettings,
    client: Mutex<Option<Client>>,
}

impl NatsOnDemand {
    #[must_use]
    pub fn new(settings: NatsSettings) -> Self {
        let client = Mutex::default();
        Self(Arc::new(Shared { settings, client }))
    }

    /// # Errors
    /// If NATS can't be reached now.
    pub(crate) async fn jetstream(&self) -> anyhow::Result<Context> {
        let client = self.client().await?;
        Ok(jetstream::ContextBuilder::new()
            .timeout(DEADLINE)
            .build(client))
    }

    /// One that is reconnecting is left to it; one that has ended for good, as it does when it meets
    /// headers that it can't read, is replaced.
    async fn client(&self) -> anyhow::Result<Client> {
        let mut client = self.0.client.lock().await;
        if let Some(held) = &*client {
            match time::timeout(DEADLINE, held.flush()).await {
                Ok(Ok(())) if held.connection_state() == State::Connected => {
                    return Ok(held.clone());
                }
                Ok(Err(_)) => *client = None,
                Ok(Ok(())) | Err(_) => bail!("the connection to NATS is lost"),
            }
        }
        let connecting = nats::connect_once(&self.0.settings, CONNECTION_NAME);
        let connected = time::timeout(DEADLINE, connecting).await;
        let connected = connected.context("NATS does not answer")??;
        Ok(client.insert(connected).clone())
    }
}

/// `None` if there is no such stream.
pub(crate) async fn stream_info(jetstream: &Context, stream: &str) -> anyhow::Result<Option<Info>> {
    let request = jetstream.request(format!("STREAM.INFO.{stream}"), &());
    let answer = time::timeout(DEADLINE, request).await;
    match answer.context("JetStream does not answer")?? {
        Response::Ok(info) => Ok(Some(info)),
        Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        Response::Err { error } => bail!(error),
    }
}
