//! The subscription that pulls messages, in batches.
//!
//! `async-nats` has a stream of messages of its own. It can't be told to stop asking for more, so
//! what is under way when it is dropped would only be delivered again after the ack wait. This one
//! can, and gives back all that it does not use.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use async_nats::{
    Client, StatusCode, Subject, Subscriber,
    connection::State,
    jetstream::{
        self, AckKind, Context,
        consumer::{
            Consumer,
            pull::{BatchConfig, Config},
        },
    },
};
use futures::{FutureExt, StreamExt};
use service_runtime::progress::Progress;
use tokio::{task, time};

use crate::{Message, batch_size::BatchSize};

/// A batch is full with so many bytes, if it is not for its number of messages.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// For as long the server may send messages into a connection that has fallen silent; each comes
/// again an ack wait later.
const REQUEST_EXPIRES: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Two heartbeats and a little.
const MAX_SILENCE: Duration = Duration::from_secs(5);
const CONNECTION_CHECK: Duration = Duration::from_secs(1);
/// Nothing is on its way any more when nothing has come for so long; and how long to wait for that.
const SILENCE: Duration = Duration::from_millis(100);
const MAX_ARRIVING: Duration = Duration::from_millis(500);
/// How long answers may wait for a connection; without one, the messages come again anyway.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// What the consumer delivers over one connection to NATS.
pub(crate) struct PullSubscription {
    client: Client,
    jetstream: Context,
    consumer: Consumer<Config>,
    inbox: Subject,
    arrivals: Subscriber,
    batch_size: Arc<BatchSize>,
    progress: Progress,
    /// How many messages the server may still send: one to two batches ahead, so that the next is
    /// at hand when one is done.
    asked: usize,
    /// Which of the client's connections they come over.
    connection: u64,
    /// What came after messages that were handed out first.
    fault: Option<anyhow::Error>,
}

impl PullSubscription {
    pub(crate) async fn open(
        client: &Client,
        consumer: Consumer<Config>,
        batch_size: Arc<BatchSize>,
        progress: Progress,
    ) -> anyhow::Result<Self> {
        let connection = connection(client);
        let inbox = Subject::from(client.new_inbox());
        Ok(Self {
            client: client.clone(),
            jetstream: jetstream::new(client.clone()),
            consumer,
            arrivals: client.subscribe(inbox.clone()).await?,
            inbox,
            batch_size,
            progress,
            asked: 0,
            connection,
            fault: None,
        })
    }

    /// Waits for a message and takes along what else is at hand. May be dropped while it waits.
    ///
    /// # Errors
    /// If nothing more comes this way: the consumer is gone, or the connection is another one.
    /// After a reconnect the server may have lost what it knew, so that all is to be checked.
    pub(crate) async fn next_batch(&mut self) -> anyhow::Result<Vec<Message>> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let first = self.first().await?;
        let mut bytes = first.payload().len();
        let mut batch = vec![first];
        while batch.len() < self.batch_size.get() && bytes < MAX_BYTES {
            match self.at_hand() {
                Some(Ok(message)) => {
                    bytes += message.payload().len();
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
        let mut heard = time::Instant::now();
        loop {
            ensure!(connection(&self.client) == self.connection, "reconnected");
            if heard.elapsed() > MAX_SILENCE {
                return Err(self.replace_connection().await);
            }
            if self.asked <= self.batch_size.get() {
                self.ask().await?;
            }
            let Ok(arrival) = time::timeout(CONNECTION_CHECK, self.arrivals.next()).await else {
                continue;
            };
            heard = time::Instant::now();
            self.progress.succeeded();
            if let Some(message) = self.admit(arrival.context("the client has ended")?)? {
                return Ok(message);
            }
        }
    }

    /// The connection may have fallen silent; the client itself would notice later.
    async fn replace_connection(&self) -> anyhow::Error {
        let reconnect = time::timeout(ANSWER_DEADLINE, self.client.force_reconnect());
        match reconnect.await {
            Ok(Ok(())) => anyhow!("the consumer is silent; connecting again"),
            Ok(Err(error)) => anyhow!(error).context("the consumer is silent"),
            Err(_) => anyhow!("the consumer is silent, and so is the client"),
        }
    }

    fn at_hand(&mut self) -> Option<anyhow::Result<Message>> {
        loop {
            // Without tokio's own bound, which would feign an empty queue every 128 messages.
            let arrival = task::unconstrained(self.arrivals.next()).now_or_never()??;
            if let Some(admitted) = self.admit(arrival).transpose() {
                return Some(admitted);
            }
        }
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        let batch = self.batch_size.get();
        let request = BatchConfig {
            batch,
            // Any single message must fit, or the consumer would stand still before it.
            max_bytes: MAX_BYTES.max(2 * self.client.max_payload()),
            expires: Some(REQUEST_EXPIRES),
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        };
        self.consumer
            .request_batch(request, self.inbox.clone())
            .await?;
        self.asked += batch;
        Ok(())
    }

    /// A message of the stream; `None` if the server only says how a request goes.
    fn admit(&mut self, arrival: async_nats::Message) -> anyhow::Result<Option<Message>> {
        if arrival.reply.is_some() {
            self.asked = self.asked.saturating_sub(1);
            return Ok(Some(self.message(arrival)));
        }
        let description = arrival.description.as_deref().unwrap_or_default();
        match arrival.status {
            Some(StatusCode::IDLE_HEARTBEAT) => {}
            Some(StatusCode::TIMEOUT) => self.asked -= self.unsent(&arrival),
            Some(StatusCode::REQUEST_TERMINATED) if is_fulfilled(description) => {
                self.asked -= self.unsent(&arrival);
            }
            Some(status) => bail!("the consumer ended a request: {status} {description}"),
            None => bail!("unexpected message from the consumer"),
        }
        Ok(None)
    }

    /// How many messages of a request that has ended were not sent.
    fn unsent(&self, status: &async_nats::Message) -> usize {
        let headers = status.headers.as_ref();
        let pending = headers.and_then(|headers| headers.get("Nats-Pending-Messages"));
        let unsent = pending.and_then(|count| count.as_str().parse().ok());
        unsent.unwrap_or(self.asked).min(self.asked)
    }

    fn message(&self, message: async_nats::Message) -> Message {
        Message::new(jetstream::Message {
            message,
            context: self.jetstream.clone(),
        })
    }

    /// Has `held`, and all that was delivered ahead, delivered again at once, here or elsewhere.
    /// Without a connection this is left to the server, which does so after the ack wait.
    pub(crate) async fn close(mut self, mut held: Vec<Message>) {
        if self.client.connection_state() != State::Connected {
            return;
        }
        // What the server has on its way is lost to an inbox that is gone.
        let arriving = time::timeout(MAX_ARRIVING, self.await_silence(&mut held));
        let _ = arriving.await;
        let given_back = time::timeout(ANSWER_DEADLINE, async {
            // First nothing more may come, or it would all come here again.
            self.arrivals.drain().await?;
            while let Some(arrival) = self.arrivals.next().await {
                if arrival.reply.is_some() {
                    held.push(self.message(arrival));
                }
            }
            for message in held {
                let answered = message.original.ack_with(AckKind::Nak(None)).await;
                answered.map_err(anyhow::Error::from_boxed)?;
            }
            Ok(())
        });
        if let Err(error) = given_back.await.context("too late").flatten() {
            let error = format!("{error:#}");
            tracing::warn!(
                error,
                "could not give messages back; they will come again later"
            );
        }
    }

    async fn await_silence(&mut self, held: &mut Vec<Message>) {
        while self.asked > 0
            && let Ok(Some(arrival)) = time::timeout(SILENCE, self.arrivals.next()).await
            && let Ok(admitted) = self.admit(arrival)
        {
            held.extend(admitted);
        }
    }
}

/// Requests end so when the next message would exceed their bytes, or all of it was sent.
fn is_fulfilled(description: &str) -> bool {
    matches!(
        description,
        "Message Size Exceeds MaxBytes" | "Batch Completed"
    )
}

fn connection(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}
