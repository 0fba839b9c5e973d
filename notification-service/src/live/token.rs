//! Places in MongoDB's stream of changes.

use anyhow::Context;
use mongodb::{
    bson::{self, Bson, Timestamp, doc},
    change_stream::event::ResumeToken,
};
use serde::Deserialize;

const MAX_CHARS: usize = 2_048;
/// The first byte of a token: a timestamp follows.
const TIMESTAMP: &str = "82";
const TIMESTAMP_CHARS: usize = 16;

/// A resume token. MongoDB writes it in hexadecimal, in capitals, so that tokens sort as their
/// changes do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "TokenFields")]
pub(crate) struct Token(String);

#[derive(Deserialize)]
struct TokenFields {
    #[serde(rename = "_data")]
    data: String,
}

impl From<TokenFields> for Token {
    fn from(fields: TokenFields) -> Self {
        Self(fields.data)
    }
}

impl Token {
    /// `None` if it can't be one of MongoDB's.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_token = (1..=MAX_CHARS).contains(&text.len())
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        is_token.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its change would have happened after `time`. MongoDB would wait for it silently.
    pub(super) fn is_after(&self, time: Timestamp) -> bool {
        self.time().is_some_and(|own| own > number(time))
    }

    /// Whether changes until `time` may follow it.
    pub(super) fn is_before(&self, time: Timestamp) -> bool {
        self.time().is_some_and(|own| own < number(time))
    }

    fn time(&self) -> Option<u64> {
        let digits = self.0.strip_prefix(TIMESTAMP)?.get(..TIMESTAMP_CHARS)?;
        u64::from_str_radix(digits, 16).ok()
    }

    pub(super) fn to_resume_token(&self) -> anyhow::Result<ResumeToken> {
        let document = doc! { "_data": &self.0 };
        bson::deserialize_from_bson(Bson::Document(document)).context("a resume token")
    }

    pub(super) fn from_resume_token(token: &ResumeToken) -> Option<Self> {
        let token = bson::serialize_to_bson(token).ok()?;
        bson::deserialize_from_bson(token).ok()
    }
}

fn number(time: Timestamp) -> u64 {
    u64::from(time.time) << 32 | u64::from(time.increment)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Timestamp;

    use super::Token;

    #[test]
    fn a_token_survives_its_way_through_a_client() {
        let token = Token::parse("8263A5").expect("a token");
        let sent = token.to_resume_token().expect("a resume token");
        assert_eq!(Token::from_resume_token(&sent), Some(token));
        for bad in ["", "82 63", "8263a5", "$where", &"0".repeat(5000)] {
            assert_eq!(Token::parse(bad), None);
        }
    }

    #[test]
    fn a_token_from_the_future_is_known_by_its_time() {
        let token = Token::parse("8265000000000000072B").expect("a token");
        let at = |time, increment| token.is_after(Timestamp { time, increment });
        assert!(at(0x6500_0000, 6));
        assert!(!at(0x6500_0000, 7));
        assert!(!at(0x6500_0001, 0));
        let at = |time, increment| token.is_before(Timestamp { time, increment });
        assert!(at(0x6500_0000, 8));
        assert!(!at(0x6500_0000, 7));
    }
}
