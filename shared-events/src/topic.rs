//! Where events travel.

/// The stream and the subject that carry the user events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// JetStream's name for the stream: no spaces, dots, `*` or `>`.
    pub stream: String,
    /// The one subject that the stream captures.
    pub subject: String,
}

impl Topic {
    pub const DEFAULT_STREAM: &str = "USER_EVENTS";
    pub const DEFAULT_SUBJECT: &str = "user.events";

    /// Where messages go that can never be applied, with their original bytes and headers.
    #[must_use]
    pub fn dead_letters(&self) -> Self {
        Self {
            stream: format!("{}_DEAD_LETTERS", self.stream),
            subject: format!("dead-letters.{}", self.subject),
        }
    }
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            stream: Self::DEFAULT_STREAM.to_owned(),
            subject: Self::DEFAULT_SUBJECT.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Topic;

    #[test]
    fn dead_letters_stay_outside_the_subject_they_come_from() {
        let dead = Topic::default().dead_letters();
        assert_eq!(dead.stream, "USER_EVENTS_DEAD_LETTERS");
        assert_eq!(dead.subject, "dead-letters.user.events");
    }
}
