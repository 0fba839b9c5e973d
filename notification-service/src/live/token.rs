//! Places in MongoDB's stream of changes.

use anyhow::Context;
use mongodb::{
    bson::{self, Bson, doc},
    change_stream::event::ResumeToken,
};
use serde::Deserialize;

const MAX_CHARS: usize = 2_048;

/// A resume token. MongoDB writes it in hexadecimal so that tokens sort as their changes do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "Fields")]
pub(crate) struct Token(String);

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "_data")]
    data: String,
}

impl From<Fields> for Token {
    fn from(fields: Fields) -> Self {
        Self(fields.data)
    }
}

impl Token {
    /// `None` if it can't be one of MongoDB's.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_token = (1..=MAX_CHARS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_token.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
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

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_survives_its_way_through_a_client() {
        let token = Token::parse("8263A5").expect("a token");
        let sent = token.to_resume_token().expect("a resume token");
        assert_eq!(Token::from_resume_token(&sent), Some(token));
        for bad in ["", "82 63", "$where", &"0".repeat(5000)] {
            assert_eq!(Token::parse(bad), None);
        }
    }
}
