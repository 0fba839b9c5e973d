//! Reading what messages say of their events.

use async_nats::jetstream::Context;
use serde::Deserialize;
use service_runtime::nats::Topic;

use crate::{
    relay::{
        failure::Failure,
        stored_message::{self, StoredMessage},
    },
    said::{self, MAX_VERSION, Said},
};

/// A message on the stream.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) sequence: u64,
    /// Which event it is, or why that can't be told.
    pub(super) event: Result<Said, &'static str>,
}

/// Messages that were read together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Those on the relay's subject, in order.
    pub(super) found: Vec<Found>,
    /// Whether some of the sequences have no message, or none that can be read.
    pub(super) has_holes: bool,
}

/// The messages above `from`, up to `to`.
pub(super) async fn read(
    jetstream: &Context,
    topic: &Topic,
    from: u64,
    to: u64,
) -> Result<Batch, Failure> {
    let mut batch = Batch::default();
    let sequences = from.cast_signed() + 1..=to.cast_signed();
    stored_message::each(jetstream, &topic.stream, sequences, |sequence, message| {
        batch.has_holes |= message.is_none();
        if let Some(message) = message.filter(|it| it.subject() == topic.subject) {
            batch.found.push(Found {
                sequence: sequence.cast_unsigned(),
                event: read_one(&message),
            });
        }
    })
    .await?;
    Ok(batch)
}

fn read_one(message: &StoredMessage) -> Result<Said, &'static str> {
    let headers = message.headers().ok_or("headers that are no text")?;
    let mut said = said::read(&headers)?;
    if said.is_of_an_earlier_release() {
        said.version = message.payload().and_then(|body| version(&body));
    }
    Ok(said)
}

/// Where our own events have it.
fn version(body: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Body {
        payload: Payload,
    }
    #[derive(Deserialize)]
    struct Payload {
        version: i64,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    Some(body.payload.version).filter(|it| (0..=MAX_VERSION).contains(it))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn the_body_may_say_the_version() {
        let of = |body: &str| version(body.as_bytes());
        assert_eq!(
            of(r#"{"type":"x","payload":{"id":3,"version":4}}"#),
            Some(4)
        );
        assert_eq!(of(r#"{"type":"x","payload":{"id":3}}"#), None);
        assert_eq!(of(r#"{"payload":{"version":9223372036854775807}}"#), None);
        assert_eq!(of("junk"), None);
    }
}
