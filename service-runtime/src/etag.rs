//! A thing's version as its entity tag: `ETag: "3"`, and the conditions on it (RFC 9110, 13.1).

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::number;

/// The strong tag of a version.
///
/// # Panics
/// Never: digits between quotes are a header value.
#[must_use]
pub fn tag(version: i64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits between quotes")
}

/// Whether the client knows this version already (`If-None-Match`, compared weakly).
#[must_use]
pub fn is_known(headers: &HeaderMap, version: i64) -> bool {
    let digits = version.to_string();
    entries(headers, header::IF_NONE_MATCH).any(|entry| {
        let tag = entry.strip_prefix("W/").unwrap_or(entry);
        entry == "*" || opaque(tag) == Some(digits.as_str())
    })
}

/// What a client demands of the version that it is about to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// The client said nothing.
    Absent,
    /// `*`: any will do.
    Any,
    /// One of these. Tags that no version of ours can have are left out: they match nothing.
    OneOf(Vec<i64>),
}

impl IfMatch {
    /// Reads `If-Match`; weak tags never match (strong comparison).
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        if !headers.contains_key(header::IF_MATCH) {
            return Self::Absent;
        }
        if entries(headers, header::IF_MATCH).any(|entry| entry == "*") {
            return Self::Any;
        }
        let versions =
            entries(headers, header::IF_MATCH).filter_map(|entry| number::parse(opaque(entry)?));
        Self::OneOf(versions.collect())
    }
}

fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
}

fn opaque(tag: &str) -> Option<&str> {
    tag.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

    use super::{IfMatch, is_known, tag};

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let value = |value: &&'static str| (name.clone(), HeaderValue::from_static(value));
        values.iter().map(value).collect()
    }

    #[test]
    fn what_a_client_knows_is_compared_weakly() {
        let knows = |value| is_known(&headers(&header::IF_NONE_MATCH, &[value]), 3);
        for value in ["\"3\"", "W/\"3\"", "*", "\"1\", \"3\""] {
            assert!(knows(value), "{value}");
        }
        for value in ["\"33\"", "3", "\"03\"", ""] {
            assert!(!knows(value), "{value}");
        }
        assert_eq!(tag(3), "\"3\"");
    }

    #[test]
    fn what_a_client_demands_is_compared_strongly() {
        let demand = |values| IfMatch::from_headers(&headers(&header::IF_MATCH, values));
        assert_eq!(demand(&[]), IfMatch::Absent);
        assert_eq!(demand(&["*"]), IfMatch::Any);
        assert_eq!(
            demand(&["\"3\", \"4\"", "\"5\""]),
            IfMatch::OneOf(vec![3, 4, 5])
        );
        assert_eq!(
            demand(&["W/\"3\", \"03\", 3, \"x\""]),
            IfMatch::OneOf(vec![])
        );
    }
}
