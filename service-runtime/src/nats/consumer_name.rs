//! The name of a durable consumer, and the subjects that are named after it.

use std::{fmt, str::FromStr};

use super::Topic;

/// The name of a durable consumer: one word of a subject. Processes that share it share the work,
/// the dead letters and the replays of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerName(String);

impl ConsumerName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where messages of `topic` go that this consumer rejected. Others have subjects of their own
    /// on the same stream.
    #[must_use]
    pub fn dead_letters(&self, topic: &Topic) -> String {
        format!("{}.{self}", topic.dead_letters().subject)
    }

    /// Where such a message is published again, for this consumer alone. On the stream of `topic`.
    #[must_use]
    pub fn replays(&self, topic: &Topic) -> String {
        format!("{}.{self}", topic.replays())
    }

    /// All subjects of `topic` that this consumer reads.
    #[must_use]
    pub fn reads(&self, topic: &Topic) -> [String; 2] {
        [topic.subject.clone(), self.replays(topic)]
    }
}

impl FromStr for ConsumerName {
    type Err = &'static str;

    /// A server takes the same names for consumers as for streams.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Topic::parse_stream(text).map(Self)
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{ConsumerName, Topic};

    #[test]
    fn each_consumer_has_subjects_of_its_own() {
        let topic = Topic {
            stream: "EVENTS".to_owned(),
            subject: "some.events".to_owned(),
        };
        let name: ConsumerName = "audit-log".parse().expect("a name");
        assert_eq!(
            name.dead_letters(&topic),
            "dead-letters.some.events.audit-log"
        );
        assert_eq!(
            name.reads(&topic),
            ["some.events", "replay.some.events.audit-log"]
        );
        assert_eq!(topic.subjects(), ["some.events", "replay.some.events.*"]);
    }

    #[test]
    fn a_name_is_one_word_of_a_subject() {
        for bad in ["", "a.b", "*", ">", "a b", "a\n", "a/b"] {
            assert!(bad.parse::<ConsumerName>().is_err(), "{bad:?}");
        }
    }
}
