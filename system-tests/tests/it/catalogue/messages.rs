//! Messages on the subject of the events, and what becomes of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use testkit::{eventually, nats};

use super::{report, serving::Serving, text::Values};
use crate::support::User;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Messages {
    message: Vec<Message>,
}

/// A message and what becomes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    name: String,
    /// Lines such as `ce-id: 1`, each with its end; without them the message has no headers.
    headers: Option<String>,
    /// The whole block instead, as on the wire.
    header_block: Option<String>,
    #[serde(default)]
    payload: String,
    /// Where the server is to send its acknowledgement, if anywhere.
    reply: Option<String>,
    becomes: Outcome,
    /// The version of the copy afterwards of the user whom the message is about; none is there unless named.
    copy: Option<i64>,
    /// Whom it is about.
    user: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// It has taken effect, or the copy had it or a later one already.
    Acknowledged,
    /// It is a dead letter with this reason.
    Rejected(String),
    /// `JetStream` did not take it.
    NotStored,
}

/// Publishes all messages of an area one after the other, and looks at what has become of them.
pub(super) async fn check(area: &str) {
    let Messages { message: messages } = super::read(area);
    let serving = Serving::start(&[], None).await;
    let mut faults = Vec::new();
    let mut all_places = Vec::new();
    for message in &messages {
        all_places.push(message.publish(&serving).await);
        let copied = message.copied(&serving).await;
        if copied != message.copy {
            let expected = message.copy;
            faults.push(format!(
                "{}: the copy has {copied:?}, not {expected:?}",
                message.name
            ));
        }
    }
    let next = serving.create().await;
    eventually("the user behind the messages", async || {
        serving.notifications.copy_of(next.id).await
    })
    .await;
    let rejected = rejected(&serving).await;
    for (message, places) in messages.iter().zip(all_places) {
        let outcome = match places.iter().find_map(|it| rejected.get(it)) {
            Some(reason) => Outcome::Rejected(reason.clone()),
            None if places.is_empty() => Outcome::NotStored,
            None => Outcome::Acknowledged,
        };
        if outcome != message.becomes {
            faults.push(format!(
                "{}: {outcome:?}, not {:?}",
                message.name, message.becomes
            ));
        }
    }
    faults.extend(serving.faults().await);
    // A relay that begins now meets what it has not written.
    let _another = serving.stack.users(&[]).await;
    report(area, &faults);
}

impl Message {
    /// Where it may be on the stream, once the consumer has done with it: the relay may publish at the
    /// same time.
    async fn publish(&self, serving: &Serving) -> Vec<u64> {
        let stack = &serving.stack;
        let values = Values::new(vec![("stream", stack.topic.stream.clone())]);
        let last = async || stack.stream().await.cached_info().state.last_sequence;
        let before = last().await;
        let block = match (&self.header_block, &self.headers) {
            (Some(block), _) => values.expand(block),
            (None, Some(lines)) => values.expand(&format!("NATS/1.0\\r\\n{lines}\\r\\n")),
            (None, None) => Vec::new(),
        };
        let payload = values.expand(&self.payload);
        let reply = self.reply.as_deref().unwrap_or_default();
        let subject = format!("{} {reply}", stack.topic.subject);
        nats::publish_bytes(&stack.nats_url, subject.trim(), &block, &payload).await;
        let after = last().await;
        stack.acknowledged(after).await;
        let mut places: Vec<_> = (before + 1..=after).collect();
        // Of others the headers may be such that the client gives up on them.
        if self.becomes == Outcome::NotStored {
            let stream = stack.stream().await;
            for place in std::mem::take(&mut places) {
                let message = stream.get_raw_message(place).await.expect("a message");
                if message.payload == payload {
                    places.push(place);
                }
            }
        }
        places
    }

    async fn copied(&self, serving: &Serving) -> Option<i64> {
        let copy: User = serving.notifications.copy_of(self.user?).await?;
        Some(copy.version)
    }
}

/// The reasons of the dead letters by their places on the stream of the events.
async fn rejected(serving: &Serving) -> BTreeMap<u64, String> {
    let api = &serving.notifications;
    let url = format!("{}/dead-letters?limit=1000", api.url);
    let answer = api.client.get(url).send().await.expect("an answer");
    let letters: Vec<Value> = answer.json().await.expect("a list");
    let letter = |it: &Value| {
        let reason = it["reason"].as_str()?.to_owned();
        Some((it["stream_sequence"].as_u64()?, reason))
    };
    letters.iter().filter_map(letter).collect()
}
