//! Until when which ids are known to be equal.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// With more, neighbours are joined.
const MAX_RANGES: usize = 256;

/// Ids whose users were found equal on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct EqualRange {
    /// The first id.
    #[schema(minimum = 1)]
    first: i64,
    /// The last id.
    #[schema(minimum = 1)]
    last: i64,
    /// All that was written to these users before this time is in the copy as well.
    equal_until: DateTime<Utc>,
}

/// They do not overlap, and are in the order of ids.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Ranges(Vec<EqualRange>);

impl Ranges {
    pub(super) fn as_slice(&self) -> &[EqualRange] {
        &self.0
    }

    /// The users of these ids were found to be equal.
    pub(super) fn add(&mut self, first: i64, last: i64, equal_until: DateTime<Utc>) {
        self.remove(first, last);
        self.0.push(EqualRange {
            first,
            last,
            equal_until,
        });
        self.0.sort_unstable_by_key(|it| it.first);
        while self.0.len() > MAX_RANGES {
            self.join_two();
        }
    }

    /// Nothing is known of these ids any more.
    pub(super) fn remove(&mut self, first: i64, last: i64) {
        let old = std::mem::take(&mut self.0);
        for range in old {
            if range.first < first {
                let last = range.last.min(first - 1);
                self.0.push(EqualRange { last, ..range });
            }
            if range.last > last {
                let first = range.first.max(last + 1);
                self.0.push(EqualRange { first, ..range });
            }
        }
    }

    /// Joins the two neighbours that are the smallest together. If there is something between all of
    /// them, the smallest is forgotten.
    fn join_two(&mut self) {
        let neighbours =
            (1..self.0.len()).filter(|at| self.0[at - 1].last + 1 == self.0[*at].first);
        let smallest = neighbours.min_by_key(|at| self.0[*at].last - self.0[at - 1].first);
        if let Some(at) = smallest {
            let second = self.0.remove(at);
            let first = &mut self.0[at - 1];
            first.last = second.last;
            first.equal_until = first.equal_until.min(second.equal_until);
        } else if let Some(at) =
            (0..self.0.len()).min_by_key(|at| self.0[*at].last - self.0[*at].first)
        {
            self.0.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::{MAX_RANGES, Ranges};

    fn add(ranges: &mut Ranges, first: i64, last: i64, at: i64) {
        let at = DateTime::from_timestamp_millis(at).expect("a time");
        ranges.add(first, last, at);
    }

    fn all(ranges: &Ranges) -> Vec<(i64, i64, i64)> {
        let ranges = ranges.as_slice().iter();
        let ranges = ranges.map(|it| (it.first, it.last, it.equal_until.timestamp_millis()));
        ranges.collect()
    }

    #[test]
    fn what_is_newer_takes_the_place_of_what_it_covers() {
        let mut ranges = Ranges::default();
        add(&mut ranges, 1, 100, 1);
        add(&mut ranges, 101, i64::MAX, 1);
        add(&mut ranges, 50, 120, 2);
        assert_eq!(all(&ranges), [(1, 49, 1), (50, 120, 2), (121, i64::MAX, 1)]);
        add(&mut ranges, 1, i64::MAX, 3);
        assert_eq!(all(&ranges), [(1, i64::MAX, 3)]);
        ranges.remove(50, 60);
        assert_eq!(all(&ranges), [(1, 49, 3), (61, i64::MAX, 3)]);
    }

    #[test]
    fn there_is_a_bound_and_nothing_is_said_to_be_equal_for_longer_than_it_is_known() {
        let mut ranges = Ranges::default();
        let count = 3 * MAX_RANGES as i64;
        for at in 0..count {
            add(&mut ranges, 10 * at + 1, 10 * at + 10, count - at);
        }
        let all = all(&ranges);
        assert_eq!(all.len(), MAX_RANGES);
        assert_eq!((all[0].0, all[MAX_RANGES - 1].1), (1, 10 * count));
        for (_, last, at) in all {
            assert!(at <= count - (last / 10 - 1), "{last} until {at}");
        }

        let mut ranges = Ranges::default();
        for at in 0..count {
            add(&mut ranges, 10 * at + 1, 10 * at + 2, at);
        }
        assert_eq!(ranges.as_slice().len(), MAX_RANGES);
    }
}
