//! Digests of ranges of ids: `?first=…&last=…&size=…` in, a digest of each range that is not empty
//! out. Two sides that are asked the same answer the same as long as they hold the same.

mod answer;

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::answer::{Digests, DigestsBuilder, RangeDigest};
use crate::{
    number,
    problem::{FieldError, Problem},
    query,
};

/// Items that one answer covers at most.
pub const MAX_ITEMS: i64 = 65_536;
/// Ranges that one answer holds at most.
pub const MAX_RANGES: usize = 1_024;
const DEFAULT_SIZE: i64 = 16_384;

/// Which digests are wanted: of the ids from `first` to `last`, in ranges that begin at multiples of
/// `size`. The first and the last range are cut at `first` and `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestQuery {
    pub first: i64,
    pub last: i64,
    pub size: i64,
}

#[derive(Deserialize)]
struct Parameters {
    first: Option<String>,
    last: Option<String>,
    size: Option<String>,
}

/// The description of what [`DigestQuery`] reads.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "nothing is read of a description")]
pub struct DigestParameters {
    /// The first id.
    #[param(minimum = 1, default = 1, nullable = false)]
    first: Option<i64>,
    /// The last id.
    #[param(minimum = 1, default = 9_223_372_036_854_775_807_i64, nullable = false)]
    last: Option<i64>,
    /// How many ids a range has. Ranges begin at multiples of it.
    #[param(minimum = 1, maximum = 65_536, default = 16_384, nullable = false)]
    size: Option<i64>,
}

impl<S: Sync> FromRequestParts<S> for DigestQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(&parts.uri)
    }
}

impl DigestQuery {
    fn parse(uri: &Uri) -> Result<Self, Problem> {
        query::read(uri, |Parameters { first, last, size }| {
            Ok(Self {
                first: within("first", first.as_deref(), 1, i64::MAX)?,
                last: within("last", last.as_deref(), i64::MAX, i64::MAX)?,
                size: within("size", size.as_deref(), DEFAULT_SIZE, MAX_ITEMS)?,
            })
        })
    }

    /// How many items are to be read for one answer. With as many there may be more.
    #[must_use]
    pub fn limit(self) -> i64 {
        MAX_ITEMS.min(self.size * MAX_RANGES as i64)
    }

    fn first_of(self, id: i64) -> i64 {
        (id - id % self.size).max(self.first)
    }

    fn last_of(self, id: i64) -> i64 {
        (id - id % self.size)
            .saturating_add(self.size - 1)
            .min(self.last)
    }
}

fn within(
    name: &'static str,
    text: Option<&str>,
    default: i64,
    most: i64,
) -> Result<i64, FieldError> {
    let Some(text) = text else {
        return Ok(default);
    };
    number::parse(text)
        .filter(|it| (1..=most).contains(it))
        .ok_or_else(|| FieldError::in_parameter(name, format!("must be a number from 1 to {most}")))
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_SIZE, DigestQuery};

    fn parse(query: &str) -> Option<(i64, i64, i64)> {
        let uri = format!("/users/digests{query}");
        let query = DigestQuery::parse(&uri.parse().expect("a URI")).ok()?;
        Some((query.first, query.last, query.size))
    }

    #[test]
    fn what_is_asked_for_is_bounded() {
        assert_eq!(parse(""), Some((1, i64::MAX, DEFAULT_SIZE)));
        assert_eq!(parse("?first=7&last=9&size=1"), Some((7, 9, 1)));
        for bad in [
            "first=0",
            "last=-1",
            "size=0",
            "size=65537",
            "size=%2B1",
            "last=",
        ] {
            assert_eq!(parse(&format!("?{bad}")), None, "{bad}");
        }
    }
}
