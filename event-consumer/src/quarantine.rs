//! Messages with headers that the client can't read.
//!
//! Such headers make the client give up its connection, or itself, whenever the message is
//! delivered, and lose what was delivered along with it. Nobody who publishes with a client can
//! make them; who can write to the socket can.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod suspects;

use std::{pin::pin, time::Duration};

use anyhow::Context as _;
use async_nats::jetstream::{AckKind, Context, consumer::Info};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time;

pub(crate) use self::suspects::Suspects;
use crate::{
    Rejection,
    dead_letters::{DeadLetterWriter, NewDeadLetter},
    raw_message::{self, RawMessage},
};

/// How many messages are asked for at once.
const CONCURRENCY: usize = 32;
/// How long a sweep may hold up a session; what it does not reach, the next one does.
const SWEEP_LIMIT: Duration = Duration::from_secs(3);

/// When one is delivered again that could not be stored: that costs a connection each time. Short,
/// because what failed may be just the connection.
const REDELIVERY_DELAY: Duration = Duration::from_secs(10);

/// Sets aside what is unreadable among the messages that are pending: one of them may be what
/// ended the last session. The newest come first, since what ended it was just delivered.
///
/// `JetStream` does not tell which messages are pending, only between which sequences. There may
/// be many of those if one message stays pending for long, so none is read twice. Those that are
/// not on the consumer's `subjects` are none of its business. How many were stored.
///
/// # Errors
/// If `JetStream` does not answer.
pub(crate) async fn sweep(
    suspects: &mut Suspects,
    jetstream: &Context,
    consumer: &Info,
    subjects: &[String],
    dead_letters: &DeadLetterWriter,
) -> anyhow::Result<usize> {
    if consumer.num_ack_pending == 0 {
        *suspects = Suspects::default();
        return Ok(0);
    }
    let floor = consumer.ack_floor.stream_sequence;
    let sequences = suspects.begin(floor, consumer.delivered.stream_sequence);
    let reads = stream::iter(sequences)
        .map(async |sequence| {
            let message = raw_message::at(jetstream, &consumer.stream_name, sequence).await?;
            anyhow::Ok((sequence, message))
        })
        .buffered(CONCURRENCY);
    let mut reads = pin!(reads);
    let mut stored = 0;
    let sweep = async {
        while let Some((sequence, message)) = reads.try_next().await? {
            let own = message.filter(|message| subjects.contains(&message.subject));
            let unreadable = own.filter(|message| !message.has_readable_headers());
            let is_stored = match unreadable {
                None => true,
                Some(message) => {
                    let is_stored = set_aside(jetstream, consumer, dead_letters, message).await?;
                    stored += usize::from(is_stored);
                    is_stored
                }
            };
            suspects.checked(sequence, is_stored);
        }
        anyhow::Ok(())
    };
    time::timeout(SWEEP_LIMIT, sweep).await.unwrap_or(Ok(()))?;
    Ok(stored)
}

/// Ends its delivery, or has it come again later if it can't be stored now: false.
async fn set_aside(
    jetstream: &Context,
    consumer: &Info,
    dead_letters: &DeadLetterWriter,
    message: RawMessage,
) -> anyhow::Result<bool> {
    let (stream, sequence) = (consumer.stream_name.as_str(), message.sequence);
    let letter = NewDeadLetter {
        headers: message.headers,
        payload: message.payload,
        stream,
        sequence,
        published: message.time,
        rejection: &Rejection::new(
            Rejection::UNREADABLE_HEADERS,
            "headers that the client can't read",
        ),
    };
    let stored = dead_letters.store(&letter).await;
    let answer = match stored {
        Ok(()) => AckKind::Term,
        Err(_) => AckKind::Nak(Some(REDELIVERY_DELAY)),
    };
    // The subject that the message itself would name for its answer; only the sequence counts.
    let subject = format!("$JS.ACK.{stream}.{}.1.{sequence}.1.1.0", consumer.name);
    let answered = jetstream.client().publish(subject, answer.into()).await;
    answered.context("answering the delivery")?;
    Ok(stored.is_ok())
}
