//! Messages as they come, in batches.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::{Context as _, bail};
use async_nats::{
    Client,
    connection::State,
    jetstream::{
        AckKind, Message,
        consumer::{Consumer, pull},
    },
};
use futures::{FutureExt, StreamExt};
use tokio::{task, time};

/// A batch is full with so many messages or so many bytes of them, whatever comes first.
const MAX_MESSAGES: usize = 1_000;
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Asked for ahead, so that the next batch is at hand when one is done.
const PULL_MESSAGES: usize = 2 * MAX_MESSAGES;
/// Above the largest message that NATS can be set to take.
const PULL_BYTES: usize = 80 * 1024 * 1024;
const PULL_EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);
const CONNECTION_CHECK: Duration = Duration::from_secs(1);
/// How long answers may wait for a connection that is gone; they are delivered again anyway.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// What the consumer delivers over one connection to NATS.
pub(super) struct Deliveries {
    client: Client,
    messages: pull::Stream,
    /// Which of the client's connections they come over.
    connection: u64,
    /// Came after messages that were handed out first.
    fault: Option<anyhow::Error>,
}

impl Deliveries {
    pub(super) async fn open(
        client: &Client,
        consumer: &Consumer<pull::Config>,
    ) -> anyhow::Result<Self> {
        let connection = connection(client);
        let messages = consumer
            .stream()
            .max_messages_per_batch(PULL_MESSAGES)
            .max_bytes_per_batch(PULL_BYTES)
            .expires(PULL_EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await?;
        Ok(Self {
            client: client.clone(),
            messages,
            connection,
            fault: None,
        })
    }

    /// Waits for a message and takes along what else is at hand. May be dropped while it waits.
    ///
    /// # Errors
    /// If nothing more comes this way: the consumer is gone, or the connection is another one.
    /// After a reconnect the server may have lost what it knew, so that all is to be checked.
    pub(super) async fn next_batch(&mut self) -> anyhow::Result<Vec<Message>> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let first = self.first().await?;
        let mut bytes = first.payload.len();
        let mut batch = vec![first];
        while batch.len() < MAX_MESSAGES && bytes < MAX_BYTES {
            match self.at_hand() {
                Some(Ok(message)) => {
                    bytes += message.payload.len();
                    batch.push(message);
                }
                Some(Err(fault)) => {
                    self.fault = Some(fault);
                    break;
                }
                None => break,
            }
        }
        Ok(batch)
    }

    async fn first(&mut self) -> anyhow::Result<Message> {
        loop {
            match time::timeout(CONNECTION_CHECK, self.messages.next()).await {
                Ok(message) => return Ok(message.context("deliveries ended")??),
                Err(_) if connection(&self.client) != self.connection => bail!("reconnected"),
                Err(_) => {}
            }
        }
    }

    fn at_hand(&mut self) -> Option<anyhow::Result<Message>> {
        // Without tokio's own bound, which would feign an empty queue every 128 messages.
        let next = task::unconstrained(self.messages.next()).now_or_never()??;
        Some(next.map_err(anyhow::Error::from))
    }

    /// Lets others have at once what was delivered here ahead.
    pub(super) async fn close(mut self) {
        let mut ahead = Vec::new();
        while let Some(Ok(message)) = self.at_hand() {
            ahead.push(message);
        }
        give_back(&self.client, &ahead).await;
    }
}

/// Has `messages` delivered again at once, here or elsewhere. Without a connection this is left to
/// the server, which does so after the ack wait.
pub(super) async fn give_back(client: &Client, messages: &[Message]) {
    if client.connection_state() != State::Connected {
        return;
    }
    if let Err(error) = answer(messages, AckKind::Nak(None)).await {
        tracing::warn!(
            error = format!("{error:#}"),
            "messages could not be given back"
        );
    }
}

/// Sends the same answer to each message, without a round trip.
pub(super) async fn answer(
    messages: impl IntoIterator<Item = &Message>,
    kind: AckKind,
) -> anyhow::Result<()> {
    let answers = async {
        for message in messages {
            message
                .ack_with(kind)
                .await
                .map_err(anyhow::Error::from_boxed)?;
        }
        Ok(())
    };
    time::timeout(ANSWER_DEADLINE, answers)
        .await
        .context("no connection to answer over")?
}

fn connection(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}
