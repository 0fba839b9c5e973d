//! Which pending messages may have headers that the client can't read.

use std::collections::BTreeSet;

/// What sweeps have found out, to be kept from one session to the next.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// The first and the last sequence of those that were looked at; messages do not change.
    known: Option<(u64, u64)>,
    /// Unreadable ones that could not be stored as dead letters.
    waiting: BTreeSet<u64>,
    sweep: Sweep,
}

/// A sweep looks at what is above `known` first, then at what is below it.
#[derive(Debug, Default)]
struct Sweep {
    known: (u64, u64),
    lowest_above: u64,
    last: u64,
}

impl Suspects {
    /// The sequences above `floor` up to `last` that are to be looked at, the newest first.
    ///
    /// If there are none, or the consumer has gone back, the messages may not be those that were
    /// looked at: what is known is forgotten.
    pub(super) fn begin(&mut self, floor: u64, last: u64) -> impl Iterator<Item = u64> + use<> {
        if last < self.sweep.last {
            *self = Self::default();
        }
        let (low, high) = self.known.unwrap_or((last + 1, last));
        let above = high.max(floor) + 1..=last;
        let below = floor + 1..low;
        // They stay until they are done: the sweep may not come to them.
        self.waiting = self.waiting.split_off(&(floor + 1));
        let waiting = self.waiting.clone();
        if above.is_empty() && below.is_empty() && waiting.is_empty() {
            self.known = None;
        }
        self.sweep = Sweep {
            known: (low, high),
            lowest_above: *above.start(),
            last,
        };
        let first = waiting.clone().into_iter();
        let others = above.rev().chain(below.rev());
        first.chain(others.filter(move |sequence| !waiting.contains(sequence)))
    }

    /// Notes that the message at `sequence` was looked at; unless `is_done` it is looked at again.
    pub(super) fn checked(&mut self, sequence: u64, is_done: bool) {
        let was_waiting = match is_done {
            true => self.waiting.remove(&sequence),
            false => !self.waiting.insert(sequence),
        };
        let Sweep {
            known: (low, high),
            lowest_above,
            last,
        } = self.sweep;
        if was_waiting || (low..=high).contains(&sequence) {
            return;
        }
        let joins = sequence == lowest_above;
        self.known = Some((if joins { low.min(sequence) } else { sequence }, last));
    }
}

#[cfg(test)]
mod tests {
    use super::Suspects;

    fn sweep(suspects: &mut Suspects, floor: u64, last: u64, reach: usize) -> Vec<u64> {
        let sequences: Vec<_> = suspects.begin(floor, last).take(reach).collect();
        for sequence in &sequences {
            suspects.checked(*sequence, *sequence != 7);
        }
        sequences
    }

    #[test]
    fn each_is_looked_at_once_the_newest_first() {
        let mut suspects = Suspects::default();
        assert_eq!(sweep(&mut suspects, 0, 5, 9), [5, 4, 3, 2, 1]);
        assert_eq!(sweep(&mut suspects, 0, 6, 9), [6]);
        assert_eq!(sweep(&mut suspects, 2, 9, 2), [9, 8]);
    }

    #[test]
    fn a_sweep_goes_on_where_the_last_one_ran_out_of_time() {
        let mut suspects = Suspects::default();
        assert_eq!(sweep(&mut suspects, 10, 20, 3), [20, 19, 18]);
        assert_eq!(sweep(&mut suspects, 10, 21, 3), [21, 17, 16]);
        assert_eq!(sweep(&mut suspects, 11, 21, 9), [15, 14, 13, 12]);
    }

    #[test]
    fn what_could_not_be_stored_is_tried_again() {
        let mut suspects = Suspects::default();
        assert_eq!(sweep(&mut suspects, 5, 8, 9), [8, 7, 6]);
        assert_eq!(sweep(&mut suspects, 5, 9, 9), [7, 9]);
        assert!(sweep(&mut suspects, 7, 9, 9).is_empty());
    }

    #[test]
    fn what_may_have_been_replaced_is_looked_at_again() {
        let mut suspects = Suspects::default();
        assert_eq!(sweep(&mut suspects, 0, 2, 9), [2, 1]);
        assert!(sweep(&mut suspects, 0, 2, 9).is_empty());
        assert_eq!(sweep(&mut suspects, 0, 2, 9), [2, 1]);
        assert_eq!(sweep(&mut suspects, 0, 1, 9), [1]);
    }
}
