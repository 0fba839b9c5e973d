//! Sets of ids as ranges: a cursor has passed millions of them.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Deserializer, de::Error};

/// Start (inclusive) to end (exclusive), neither empty nor touching each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<i64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.has_all(&(id..id + 1))
    }

    /// Whether the whole range is in it.
    pub(super) fn has_all(&self, ids: &Range<i64>) -> bool {
        let before = self.0.range(..=ids.start).next_back();
        ids.is_empty() || before.is_some_and(|(_, end)| *end >= ids.end)
    }

    pub(super) fn insert(&mut self, ids: Range<i64>) {
        if ids.is_empty() {
            return;
        }
        let Range { mut start, mut end } = ids;
        let touched = self.0.range(..=end).rev();
        let touched = touched.take_while(|(_, other)| **other >= start);
        let touched: Vec<_> = touched.map(|(start, end)| (*start, *end)).collect();
        for (other_start, other_end) in touched {
            self.0.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    pub(super) fn extend(&mut self, other: &Self) {
        other.iter().for_each(|it| self.insert(it));
    }

    /// What a cursor has passed: all up to `last_id` but the gaps.
    pub(super) fn passed(last_id: i64, gaps: &Self) -> Self {
        let mut passed = Self::default();
        let mut from = 1;
        for gap in gaps.iter() {
            passed.insert(from..gap.start);
            from = gap.end;
        }
        passed.insert(from..last_id + 1);
        passed
    }
}

/// `3..5 8..9`
impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut ranges = Self::default();
        for range in text.split_whitespace() {
            let bounds = range.split_once("..");
            let bounds = bounds.and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
            ranges.insert(bounds.ok_or_else(|| D::Error::custom(format!("no range: {range}")))?);
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[test]
    fn ranges_that_touch_are_one_and_a_hole_is_no_part_of_them() {
        let mut ranges = Ranges::default();
        for ids in [5..7, 1..2, 7..9, 12..14, 2..3] {
            ranges.insert(ids);
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [1..3, 5..9, 12..14]);
        assert!(ranges.has_all(&(5..9)) && ranges.contains(2) && !ranges.has_all(&(2..6)));
        let passed = Ranges::passed(14, &ranges);
        assert_eq!(passed.iter().collect::<Vec<_>>(), [3..5, 9..12, 14..15]);
    }
}
