//! Publishing the original of a dead letter again, for the consumer that rejected it.

use anyhow::{Context as _, bail, ensure};
use async_nats::{
    HeaderMap,
    jetstream::{
        Context,
        consumer::Config,
        context::{ConsumerInfoErrorKind, PublishError, PublishErrorKind},
        publish::PublishAck,
    },
};
use bytes::Bytes;
use service_runtime::nats::{
    ConsumerName, Topic,
    headers::{CE_TIME, EXPECTED_STREAM, MESSAGE_ID, REPLAY_OF},
};
use uuid::Uuid;

use super::{DeadLetter, Payload, publish_error::is_too_large};

/// The sequence of the new message.
pub(super) async fn publish(
    jetstream: &Context,
    topic: &Topic,
    consumer: &ConsumerName,
    letter: &DeadLetter,
) -> anyhow::Result<u64> {
    let Payload::Here(payload) = &letter.payload else {
        bail!("its message is no longer on the stream {}", letter.stream);
    };
    let subject = if letter.consumer.is_empty() {
        // An earlier release did not say whose it is: all consumers get the message.
        topic.subject.clone()
    } else {
        ensure_consumer_reads_replays(jetstream, topic, consumer).await?;
        consumer.replays(topic)
    };
    match publish_in_some_form(jetstream, topic, subject, letter, payload).await {
        Ok(published) => Ok(published.sequence),
        Err(error) if error.kind() == PublishErrorKind::StreamNotFound => bail!(
            "the stream {} does not take replays: an earlier release has set its subjects; \
             start the relay of this release, then try again",
            topic.stream
        ),
        Err(error) => Err(error).context("publishing the message"),
    }
}

/// A consumer that does not would pass over the message, and never come back to it.
async fn ensure_consumer_reads_replays(
    jetstream: &Context,
    topic: &Topic,
    consumer: &ConsumerName,
) -> anyhow::Result<()> {
    let stream = jetstream.get_stream_no_info(&topic.stream).await?;
    let config = match stream.consumer_info(consumer.as_str()).await {
        Ok(info) => info.config,
        // It reads everything once it is created.
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context("looking up the consumer"),
    };
    ensure!(
        reads(&config, &consumer.replays(topic)),
        "the consumer {consumer} would pass over replays: an earlier release of its service has set \
         its filter; restart the service with this release, then try again"
    );
    Ok(())
}

fn reads(config: &Config, subject: &str) -> bool {
    let is_unfiltered = config.filter_subject.is_empty() && config.filter_subjects.is_empty();
    is_unfiltered
        || config.filter_subject == subject
        || config.filter_subjects.iter().any(|it| it == subject)
}

/// With the original's headers if they fit beside those of the replay, else with what tells which
/// message it is. Without any header, whatever came once fits again.
async fn publish_in_some_form(
    jetstream: &Context,
    topic: &Topic,
    subject: String,
    letter: &DeadLetter,
    payload: &Bytes,
) -> Result<PublishAck, PublishError> {
    let mut identity = HeaderMap::new();
    // A replay that was rejected again says already what it is one of.
    if let Some(original) = letter.headers.get(REPLAY_OF) {
        identity.insert(REPLAY_OF, original.clone());
    } else if let Some(original) = &letter.message_id {
        identity.insert(REPLAY_OF, original.as_str());
    }
    if let Some(written_at) = letter.headers.get(CE_TIME) {
        identity.insert(CE_TIME, written_at.clone());
    }
    identity.insert(MESSAGE_ID, Uuid::now_v7().to_string());
    let mut whole = letter.headers.clone();
    for (name, values) in identity.iter() {
        whole.insert(name.clone(), values[0].clone());
    }
    whole.insert(EXPECTED_STREAM, topic.stream.as_str());
    for headers in [whole, identity] {
        let publish = jetstream.publish_with_headers(subject.clone(), headers, payload.clone());
        let published = async { publish.await?.await };
        match published.await {
            Err(error) if is_too_large(&error) => {}
            published => return published,
        }
    }
    jetstream.publish(subject, payload.clone()).await?.await
}
