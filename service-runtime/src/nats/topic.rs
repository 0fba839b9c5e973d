//! Where events travel.

/// Leaves room for what is put before and behind it.
const MAX_NAME_BYTES: usize = 200;

/// What the subjects of replays begin with.
const REPLAYS: &str = "replay.";

/// A stream and the subject whose messages it keeps. It also keeps those that are published again
/// for one of its consumers, see [`ConsumerName`](super::ConsumerName).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// JetStream's name for the stream: no spaces, dots, `*` or `>`.
    pub stream: String,
    /// Where messages are published for all consumers.
    pub subject: String,
}

impl Topic {
    /// A name that a server takes for a stream.
    ///
    /// # Errors
    /// Says what a name is made of.
    pub fn parse_stream(text: &str) -> Result<String, &'static str> {
        let forbidden = |character: char| {
            character.is_whitespace() || character.is_control() || ".*>/\\".contains(character)
        };
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.contains(forbidden) {
            return Err("must be 1 to 200 bytes without white space or any of . * > / \\");
        }
        Ok(text.to_owned())
    }

    /// One subject, not a pattern of many.
    ///
    /// # Errors
    /// Says what a subject is made of.
    pub fn parse_subject(text: &str) -> Result<String, &'static str> {
        let forbidden = |character: char| {
            character.is_whitespace() || character.is_control() || "*>".contains(character)
        };
        let has_empty_word = text.split('.').any(str::is_empty);
        if has_empty_word || text.len() > MAX_NAME_BYTES || text.contains(forbidden) {
            return Err("must be words between dots, 1 to 200 bytes, without white space, * or >");
        }
        Ok(text.to_owned())
    }

    /// What the stream captures.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        vec![self.subject.clone(), format!("{}.*", self.replays())]
    }

    /// The stream of messages that could not be handled, with their original bytes and headers. The
    /// subject is that of earlier releases; now each consumer has one below it.
    #[must_use]
    pub fn dead_letters(&self) -> Self {
        Self {
            stream: format!("{}_DEAD_LETTERS", self.stream),
            subject: format!("dead-letters.{}", self.subject),
        }
    }

    /// The subject above those of each consumer's replays.
    pub(super) fn replays(&self) -> String {
        format!("{REPLAYS}{}", self.subject)
    }

    /// Whether messages on this subject are replays for one consumer, of whatever topic.
    #[must_use]
    pub fn is_of_replays(subject: &str) -> bool {
        subject.starts_with(REPLAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::Topic;

    #[test]
    fn dead_letters_stay_outside_the_subject_they_come_from() {
        let topic = Topic {
            stream: "EVENTS".to_owned(),
            subject: "some.events".to_owned(),
        };
        let dead = topic.dead_letters();
        assert_eq!(dead.stream, "EVENTS_DEAD_LETTERS");
        assert_eq!(dead.subject, "dead-letters.some.events");
    }

    #[test]
    fn names_that_a_server_would_refuse_or_widen_are_refused() {
        assert!(Topic::parse_stream("USER_EVENTS").is_ok());
        for bad in ["", "a b", "a.b", "a*", ">", "a/b", &"x".repeat(201)] {
            assert!(Topic::parse_stream(bad).is_err(), "{bad:?}");
        }
        assert!(Topic::parse_subject("user.events").is_ok());
        for bad in [
            "",
            "a..b",
            ".a",
            "a.",
            "a.*",
            "a.>",
            "a b",
            &"x".repeat(201),
        ] {
            assert!(Topic::parse_subject(bad).is_err(), "{bad:?}");
        }
    }
}
