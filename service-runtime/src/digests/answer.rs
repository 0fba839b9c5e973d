//! The answer, made from items or from digests of whole ranges.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DigestQuery, MAX_RANGES};

/// Digests of ranges of ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Digests {
    /// All that was written before this time is in the digests.
    pub read_at: DateTime<Utc>,
    /// The last id that this answer covers. Ask again from the one after it, unless it is `last`.
    #[schema(minimum = 0)]
    pub through: i64,
    /// The ranges that are not empty, in their order.
    #[schema(max_items = 1024)]
    pub ranges: Vec<RangeDigest>,
    /// Ids of documents that can't be read: the first 100 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub damaged: Vec<i64>,
}

/// The digest of one range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RangeDigest {
    /// The first id of the range.
    #[schema(minimum = 1)]
    pub first: i64,
    /// How many users it holds.
    #[schema(minimum = 1)]
    pub users: i64,
    /// The sum, modulo 2^64, of the digests of its users. That of a user is the first 64 bits of the
    /// SHA-256 of `ID VERSION MILLISECONDS CHARACTERS NAMEEMAIL` in UTF-8: decimal numbers, the
    /// milliseconds of `updated_at` since 1970, the number of characters of the name, the name and
    /// the e-mail address.
    #[schema(pattern = "^[0-9a-f]{16}$", example = "00c0ffee00c0ffee")]
    pub digest: String,
}

/// Puts an answer together. Items and ranges are to come in the order of their ids.
#[derive(Debug)]
pub struct DigestsBuilder {
    query: DigestQuery,
    ranges: Vec<Open>,
    items: i64,
}

#[derive(Debug)]
struct Open {
    first: i64,
    items: i64,
    sum: u64,
    last_item: i64,
}

impl DigestsBuilder {
    #[must_use]
    pub fn new(query: DigestQuery) -> Self {
        Self {
            query,
            ranges: Vec::new(),
            items: 0,
        }
    }

    /// Adds one item.
    pub fn add(&mut self, id: i64, digest: u64) {
        self.add_range(1, digest, id);
    }

    /// Adds items of one range: how many, the sum of their digests, and the id of the last of them.
    pub fn add_range(&mut self, items: i64, sum: u64, last_item: i64) {
        let first = self.query.first_of(last_item);
        self.items += items;
        match self.ranges.last_mut() {
            Some(open) if open.first == first => {
                open.items += items;
                open.sum = open.sum.wrapping_add(sum);
                open.last_item = last_item;
            }
            _ => self.ranges.push(Open {
                first,
                items,
                sum,
                last_item,
            }),
        }
    }

    /// Whether a range is there whole, so that the answer may end early.
    #[must_use]
    pub fn has_progress(&self) -> bool {
        self.ranges.len() > 1
    }

    /// Whether one answer may not cover more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items >= self.query.limit() || self.ranges.len() > MAX_RANGES
    }

    /// The answer. If not all was read, because it is full or took too long, it ends with the last
    /// range that is there whole.
    #[must_use]
    pub fn finish(mut self, read_at: DateTime<Utc>, is_all: bool) -> Digests {
        let mut through = self.query.last;
        if !is_all && let Some(open) = self.ranges.last() {
            through = self.query.last_of(open.first);
            if open.last_item < through || self.ranges.len() > MAX_RANGES {
                through = open.first - 1;
                self.ranges.pop();
            }
        }
        Digests {
            read_at,
            through,
            ranges: self.ranges.into_iter().map(RangeDigest::from).collect(),
            damaged: Vec::new(),
        }
    }
}

impl From<Open> for RangeDigest {
    fn from(open: Open) -> Self {
        Self {
            first: open.first,
            users: open.items,
            digest: format!("{:016x}", open.sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{DigestQuery, Digests, DigestsBuilder};

    const QUERY: DigestQuery = DigestQuery {
        first: 3,
        last: 30,
        size: 8,
    };

    fn digests(ids: &[i64], is_all: bool) -> (i64, Vec<(i64, i64, String)>) {
        let mut builder = DigestsBuilder::new(QUERY);
        for &id in ids {
            builder.add(id, u64::MAX);
        }
        let Digests {
            through, ranges, ..
        } = builder.finish(DateTime::default(), is_all);
        let ranges = ranges.into_iter().map(|it| (it.first, it.users, it.digest));
        (through, ranges.collect())
    }

    fn range(first: i64, users: i64, digest: &str) -> (i64, i64, String) {
        (first, users, digest.to_owned())
    }

    #[test]
    fn ranges_begin_at_multiples_and_are_cut_at_the_ends() {
        let expected = vec![
            range(3, 2, "fffffffffffffffe"),
            range(8, 1, "ffffffffffffffff"),
            range(24, 1, "ffffffffffffffff"),
        ];
        assert_eq!(digests(&[3, 7, 8, 30], true), (30, expected));
        assert_eq!(digests(&[], true), (30, vec![]));
    }

    #[test]
    fn what_was_not_read_to_its_end_is_left_for_the_next_answer() {
        let whole = vec![range(3, 1, "ffffffffffffffff")];
        assert_eq!(digests(&[3, 9], false), (7, whole.clone()));
        assert_eq!(digests(&[3, 15], false).0, 15);
        assert_eq!(digests(&[7], false), (7, whole));
        assert_eq!(digests(&[24, 30], false).0, 30);
    }
}
