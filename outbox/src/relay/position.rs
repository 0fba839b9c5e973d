//! Which events of the ledger are done.

use std::{collections::BTreeMap, ops::Range};

/// Every id up to `last_id` is done, except for those in the gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Position {
    last_id: i64,
    /// Start (inclusive) to end (exclusive), neither empty nor touching each other.
    gaps: BTreeMap<i64, i64>,
}

impl Position {
    pub(super) fn new(last_id: i64, gaps: impl IntoIterator<Item = Range<i64>>) -> Self {
        let gaps = gaps.into_iter().map(|gap| (gap.start, gap.end)).collect();
        Self { last_id, gaps }
    }

    pub(super) fn last_id(&self) -> i64 {
        self.last_id
    }

    pub(super) fn gaps(&self) -> impl Iterator<Item = Range<i64>> + '_ {
        self.gaps.iter().map(|(start, end)| *start..*end)
    }

    /// The gaps, or if there are more than `limit`, fewer and wider ones that contain them.
    pub(super) fn gaps_at_most(&self, limit: usize) -> Vec<Range<i64>> {
        let mut gaps: Vec<_> = self.gaps().collect();
        let mut distance = 1;
        while gaps.len() > limit.max(1) {
            gaps.dedup_by(|next, gap| {
                let is_near = next.start - gap.end <= distance;
                if is_near {
                    gap.end = next.end;
                }
                is_near
            });
            distance *= 2;
        }
        gaps
    }

    pub(super) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// The event with this id is done. Ids that it leaps over become a gap.
    pub(super) fn pass(&mut self, id: i64) {
        self.pass_all(id..id + 1);
    }

    /// The events with these ids are done.
    pub(super) fn pass_all(&mut self, ids: Range<i64>) {
        if ids.start <= self.last_id {
            self.abandon(ids.clone());
        }
        if ids.start > self.last_id + 1 {
            self.leap(ids.start);
        }
        self.last_id = self.last_id.max(ids.end - 1);
    }

    /// What lies before this id is open. So may be what it follows.
    fn leap(&mut self, id: i64) {
        let next = self.last_id + 1;
        match self.gaps.last_entry() {
            Some(mut last) if *last.get() == next => *last.get_mut() = id,
            _ => drop(self.gaps.insert(next, id)),
        }
    }

    /// The events with these ids are to be done again, as far as they were done.
    pub(super) fn reopen(&mut self, ids: Range<i64>) {
        let mut gap = ids.start..ids.end.min(self.last_id + 1);
        if gap.is_empty() {
            return;
        }
        let touched: Vec<_> = self
            .gaps
            .range(..=gap.end)
            .rev()
            .take_while(|(_, end)| **end >= gap.start)
            .map(|(start, end)| *start..*end)
            .collect();
        for touched in touched {
            self.gaps.remove(&touched.start);
            gap = gap.start.min(touched.start)..gap.end.max(touched.end);
        }
        self.gaps.insert(gap.start, gap.end);
    }

    /// No event with these ids is to be waited for any more.
    pub(super) fn abandon(&mut self, ids: Range<i64>) {
        let touched: Vec<_> = self
            .gaps
            .range(..ids.end)
            .rev()
            .take_while(|(_, end)| **end > ids.start)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touched {
            self.gaps.remove(&start);
            if start < ids.start {
                self.gaps.insert(start, ids.start);
            }
            if end > ids.end {
                self.gaps.insert(ids.end, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Position;

    #[test]
    fn a_gap_stays_until_it_is_filled() {
        let mut position = Position::default();
        for id in [1, 2, 6, 4] {
            position.pass(id);
        }
        assert_eq!(position.last_id(), 6);
        assert_eq!(position.gaps().collect::<Vec<_>>(), [3..4, 5..6]);
        position.pass(3);
        position.abandon(5..6);
        assert_eq!(position, Position::new(6, []));
    }

    #[test]
    fn what_is_to_be_done_again_is_a_gap() {
        let mut position = Position::new(20, [3..5, 8..9]);
        position.reopen(5..8);
        position.reopen(12..14);
        position.reopen(19..40);
        position.reopen(30..40);
        assert_eq!(position, Position::new(20, [3..9, 12..14, 19..21]));
    }

    #[test]
    fn of_too_many_gaps_the_closest_are_joined_and_none_is_lost() {
        let position = Position::new(100, [3..4, 5..6, 20..30, 90..95]);
        let joined = position.gaps_at_most(3);
        assert_eq!(joined, [3..6, 20..30, 90..95]);
        assert_eq!(position.gaps_at_most(1).first(), Some(&(3..95)));
        assert_eq!(position.gaps_at_most(4).len(), 4);
    }

    proptest! {
        /// Against the obvious model: the set of the ids that are open.
        #[test]
        fn it_keeps_exactly_the_open_ids(steps in prop::collection::vec((1..60_i64, 1..9_i64, any::<bool>()), 0..60)) {
            let mut position = Position::default();
            let (mut last_id, mut open) = (0, BTreeSet::new());
            for (id, length, pass) in steps {
                if pass {
                    let ids = id..id + length;
                    position.pass_all(ids.clone());
                    open.extend(last_id + 1..ids.start);
                    open.retain(|it| !ids.contains(it));
                    last_id = last_id.max(ids.end - 1);
                } else {
                    position.abandon(id..id + length);
                    open.retain(|it| !(id..id + length).contains(it));
                }
                prop_assert_eq!(position.last_id(), last_id);
                let kept: BTreeSet<_> = position.gaps().flatten().collect();
                prop_assert_eq!(&kept, &open);
                let bounds: Vec<_> = position.gaps().collect();
                prop_assert!(bounds.iter().all(|gap| gap.start < gap.end));
            }
        }
    }
}
