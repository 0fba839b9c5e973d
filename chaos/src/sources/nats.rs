//! What NATS has: the stream to its end, the consumer, the dead letters.

use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::{
    HeaderMap, ServerAddr,
    jetstream::{
        self, ErrorCode,
        consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
        context::GetStreamErrorKind,
        stream::{RawMessageErrorKind, Stream},
    },
};
use futures::StreamExt;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use super::event::Event;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
const BATCH: usize = 1000;
/// Of the consumer that reads, after its last request.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) sequence: u64,
    /// Whether it was sent again because the stream had lost the first one: then it stands at the end,
    /// behind newer ones.
    pub(crate) is_refill: bool,
    pub(crate) event: Event,
}

#[derive(Debug)]
pub(crate) struct Nats {
    jetstream: jetstream::Context,
    stream: String,
    consumer: String,
    /// The last message that was read.
    position: Option<Position>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    sequence: u64,
    event_id: Uuid,
}

#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) messages: Vec<Message>,
    /// These are all of the stream's messages: it no longer has the last one that was read.
    pub(crate) is_replaced: bool,
}

impl Nats {
    pub(crate) async fn connect(url: &str, stream: &str, consumer: &str) -> anyhow::Result<Self> {
        let addresses: Result<Vec<ServerAddr>, _> = url.split(',').map(str::parse).collect();
        let addresses = addresses?;
        let connecting = timeout(CONNECT_DEADLINE, async_nats::connect(addresses)).await;
        let client = connecting.context("no connection to NATS")??;
        Ok(Self {
            jetstream: jetstream::new(client),
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
            position: None,
        })
    }

    /// The next reading begins with the first message.
    pub(crate) fn forget(&mut self) {
        self.position = None;
    }

    /// The messages after those that were read before, to the end of the stream.
    pub(crate) async fn read(&mut self) -> anyhow::Result<Read> {
        let reading = timeout(ANSWER_DEADLINE, self.try_read()).await;
        reading.context("the stream could not be read to its end in time")?
    }

    async fn try_read(&mut self) -> anyhow::Result<Read> {
        let stream = self.jetstream.get_stream(&self.stream).await?;
        let goes_on = self.goes_on(&stream).await?;
        let after = match &self.position {
            Some(position) if goes_on => position.sequence,
            _ => 0,
        };
        let is_replaced = self.position.is_some() && !goes_on;
        let end = stream.cached_info().state.last_sequence;
        let messages = match end > after {
            true => read(&stream, after, end).await?,
            false => Vec::new(),
        };
        if let Some(last) = messages.last() {
            self.position = Some(Position {
                sequence: last.sequence,
                event_id: last.event.event_id,
            });
        } else if is_replaced {
            self.position = None;
        }
        Ok(Read {
            messages,
            is_replaced,
        })
    }

    /// Whether the last message that was read is where it was.
    async fn goes_on(&self, stream: &Stream) -> anyhow::Result<bool> {
        let Some(position) = &self.position else {
            return Ok(false);
        };
        match stream.get_raw_message(position.sequence).await {
            Ok(message) => Ok(event_id(&message.headers)? == Some(position.event_id)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What the consumer of the copy has not acknowledged, and what it has set aside.
    pub(crate) async fn open(&self) -> anyhow::Result<Vec<String>> {
        let asking = timeout(ANSWER_DEADLINE, self.try_open()).await;
        asking.context("no answer from NATS")?
    }

    async fn try_open(&self) -> anyhow::Result<Vec<String>> {
        let mut open = Vec::new();
        let stream = self.jetstream.get_stream(&self.stream).await?;
        let consumer: PullConsumer = match stream.get_consumer(&self.consumer).await {
            Ok(consumer) => consumer,
            Err(error) => bail!("no consumer {}: {error}", self.consumer),
        };
        let info = consumer.cached_info();
        let (pending, unacknowledged) = (info.num_pending, info.num_ack_pending);
        if pending != 0 || unacknowledged != 0 {
            open.push(format!(
                "{pending} messages are not delivered, {unacknowledged} not acknowledged"
            ));
        }
        let letters = self.dead_letters().await?;
        if letters != 0 {
            open.push(format!("{letters} dead letters"));
        }
        Ok(open)
    }

    async fn dead_letters(&self) -> anyhow::Result<u64> {
        let name = format!("{}_DEAD_LETTERS", self.stream);
        match self.jetstream.get_stream(name).await {
            Ok(stream) => Ok(stream.cached_info().state.messages),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(0)
                }
                _ => Err(error.into()),
            },
        }
    }
}

async fn read(stream: &Stream, after: u64, end: u64) -> anyhow::Result<Vec<Message>> {
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: after + 1,
        },
        ack_policy: AckPolicy::None,
        inactive_threshold: INACTIVE_THRESHOLD,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut messages = Vec::new();
    let mut reached = after;
    while reached < end {
        let mut batch = consumer.fetch().max_messages(BATCH).messages().await?;
        let before = reached;
        while let Some(message) = batch.next().await {
            let message = message.map_err(anyhow::Error::from_boxed)?;
            let info = message.info().map_err(anyhow::Error::from_boxed)?;
            reached = info.stream_sequence;
            messages.extend(parse(&message, reached)?);
        }
        // The last ones were deleted meanwhile.
        if reached == before {
            break;
        }
    }
    let name = consumer.cached_info().name.clone();
    stream.delete_consumer(&name).await?;
    Ok(messages)
}

/// Nothing if it is no event of ours: sent past the outbox, or replayed for one consumer.
fn parse(message: &jetstream::Message, sequence: u64) -> anyhow::Result<Option<Message>> {
    let Some(headers) = &message.headers else {
        return Ok(None);
    };
    let Some(event_id) = event_id(headers)? else {
        return Ok(None);
    };
    if headers.get("Replay-Of").is_some() {
        return Ok(None);
    }
    let message_id = headers.get("Nats-Msg-Id").context("a message id")?;
    let body: Value = serde_json::from_slice(&message.payload)?;
    let kind = body["type"].as_str().context("a type")?;
    Ok(Some(Message {
        sequence,
        is_refill: message_id.as_str().contains('/'),
        event: Event::parse(event_id, kind, &body["payload"])?,
    }))
}

fn event_id(headers: &HeaderMap) -> anyhow::Result<Option<Uuid>> {
    let id = headers.get("ce-id").map(|id| id.as_str().parse());
    Ok(id.transpose()?)
}
