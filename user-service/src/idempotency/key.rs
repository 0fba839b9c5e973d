//! The `Idempotency-Key` header.

use axum::http::HeaderMap;
use service_runtime::problem::{FieldError, Kind, Problem};

const HEADER: &str = "idempotency-key";
const MAX_BYTES: usize = 255;

/// 1 to 255 visible ASCII characters, such as a UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// The key of a request, if it has one; quoted, as the draft has it, or bare, as many send it.
    ///
    /// # Errors
    /// 400 if it is none.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let key = value.to_str().ok().and_then(Self::parse);
        let key = key.filter(|_| values.next().is_none());
        key.map(Some).ok_or_else(|| {
            let rule = "must be one value of 1 to 255 visible ASCII characters";
            Problem::new(Kind::INVALID_PARAMETER)
                .detail("the request's headers are not valid")
                .errors(vec![FieldError::in_parameter("Idempotency-Key", rule)])
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let quoted = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        let key = quoted.unwrap_or(text);
        let is_visible = key
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"');
        ((1..=MAX_BYTES).contains(&key.len()) && is_visible).then(|| Self(key.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_is_the_same_quoted_or_bare() {
        assert_eq!(Key::parse("\"8e03978e\""), Key::parse("8e03978e"));
        let long = "k".repeat(256);
        for bad in ["", "\"\"", "\"", "a b", "é", "a\"b", &long] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
        assert!(Key::parse(&long[1..]).is_some());
    }
}
