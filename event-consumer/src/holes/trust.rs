//! Whether a stored position is that of a store with all that was acknowledged, or an older store may have
//! taken its place: a database that was put back from a backup, or emptied.
//!
//! A position is saved after the effects of all messages up to it. So a store that was put back has those
//! up to the position that it holds, and may lack those of messages that were delivered later, though they
//! are acknowledged. A process that sees the same run of the server, and no lower revision than before,
//! knows that its store is still the same. Only such a process moves the position on; so once it moves,
//! all others know as much. Whoever starts, or finds the server restarted, waits for that a few looks, and
//! then has what the store may lack delivered again.
//!
//! A backup may also be written into the running server step by step, old positions one after the other. So
//! who waits marks the position first, by a revision that no backup has.

/// How often a position is looked at before it is given up that another process moves it on.
const LOOKS: u32 = 3;

/// What a store tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Which run of the server it was, if that can be told.
    pub(super) server: Option<String>,
    /// 0 if there is no position.
    pub(super) revision: i64,
    /// The store has the effects of all messages up to here.
    pub(super) settled: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The store has all that was acknowledged.
    Trusted,
    /// It is not known yet.
    Doubted,
    /// The store may lack messages above its position.
    Lacking,
}

#[derive(Debug, Default)]
pub(super) struct Trust {
    /// The last one that was trusted.
    known: Option<Sighting>,
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    first: Sighting,
    /// The revision that whoever doubts has given it.
    mark: Option<i64>,
    looks: u32,
}

impl Trust {
    /// Of a store that was seen before it was known that messages up to `delivered` were delivered.
    pub(super) fn judge(&mut self, seen: Sighting, delivered: i64) -> Judgement {
        let has_all = delivered <= seen.settled;
        if has_all || self.is_known(&seen) || self.is_moved_on(&seen) {
            self.trust(seen);
            return Judgement::Trusted;
        }
        self.known = None;
        let is_the_doubted = |doubt: &Doubt| {
            doubt.first.server == seen.server
                && doubt.first.settled <= seen.settled
                && doubt.mark <= Some(seen.revision)
        };
        let mut doubt = match self.doubt.take() {
            Some(doubt) if is_the_doubted(&doubt) => doubt,
            _ => Doubt {
                first: seen,
                mark: None,
                looks: 0,
            },
        };
        doubt.looks += 1;
        let looks = doubt.looks;
        self.doubt = Some(doubt);
        match looks < LOOKS {
            true => Judgement::Doubted,
            false => Judgement::Lacking,
        }
    }

    /// Whether the position has to be saved once more, changed or not.
    pub(super) fn wants_mark(&self) -> bool {
        self.doubt
            .as_ref()
            .is_some_and(|doubt| doubt.mark.is_none())
    }

    /// The position was saved with this revision.
    pub(super) fn mark(&mut self, revision: i64) {
        if let Some(doubt) = &mut self.doubt {
            doubt.mark.get_or_insert(revision);
        }
    }

    /// What this store may lack is delivered again.
    pub(super) fn trust(&mut self, seen: Sighting) {
        self.doubt = None;
        self.known = Some(seen);
    }

    fn is_known(&self, seen: &Sighting) -> bool {
        let is_same =
            |known: &Sighting| known.server == seen.server && known.revision <= seen.revision;
        self.known.as_ref().is_some_and(is_same)
    }

    /// By a process that trusts it.
    fn is_moved_on(&self, seen: &Sighting) -> bool {
        let is_moved = |doubt: &Doubt| {
            let is_later = doubt.mark.is_some_and(|mark| mark < seen.revision);
            is_later && doubt.first.server == seen.server && doubt.first.settled < seen.settled
        };
        self.doubt.as_ref().is_some_and(is_moved)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Judgement::{self, Doubted, Lacking, Trusted},
        Sighting, Trust,
    };

    fn sighting(server: &str, revision: i64, settled: i64) -> Sighting {
        Sighting {
            server: Some(server.to_owned()),
            revision,
            settled,
        }
    }

    /// Of a store whose every look tells the server, the revision, the position and what was delivered.
    fn judge(looks: &[(&str, i64, i64, i64)]) -> Vec<Judgement> {
        let mut trust = Trust::default();
        let judge = |&(server, revision, settled, delivered): &(&str, i64, i64, i64)| {
            let judgement = trust.judge(sighting(server, revision, settled), delivered);
            trust.mark(revision);
            judgement
        };
        looks.iter().map(judge).collect()
    }

    #[test]
    fn a_store_that_has_all_is_trusted_and_stays_so_while_its_server_runs() {
        let looks = [("a", 0, 0, 0), ("a", 1, 0, 9), ("a", 2, 9, 20)];
        assert_eq!(judge(&looks), [Trusted; 3]);
    }

    #[test]
    fn a_server_that_was_restarted_or_is_met_for_the_first_time_may_lack_messages() {
        let looks = [
            ("a", 7, 9, 20),
            ("a", 7, 9, 25),
            ("a", 7, 9, 30),
            ("a", 7, 9, 35),
        ];
        assert_eq!(judge(&looks), [Doubted, Doubted, Lacking, Lacking]);
        let looks = [
            ("a", 7, 20, 20),
            ("b", 7, 20, 21),
            ("b", 7, 20, 21),
            ("b", 7, 20, 21),
        ];
        assert_eq!(judge(&looks), [Trusted, Doubted, Doubted, Lacking]);
    }

    #[test]
    fn an_older_revision_may_lack_messages_though_the_server_was_not_restarted() {
        let looks = [
            ("a", 7, 20, 20),
            ("a", 3, 9, 20),
            ("a", 3, 9, 20),
            ("a", 3, 9, 20),
        ];
        assert_eq!(judge(&looks), [Trusted, Doubted, Doubted, Lacking]);
    }

    #[test]
    fn a_position_that_another_process_moves_on_is_trusted() {
        let looks = [("a", 7, 9, 20), ("a", 8, 20, 30), ("a", 9, 30, 50)];
        assert_eq!(judge(&looks), [Doubted, Trusted, Trusted]);
    }

    #[test]
    fn a_store_that_is_put_back_while_it_is_doubted_is_doubted_anew() {
        let older = [
            ("a", 7, 9, 20),
            ("a", 7, 9, 20),
            ("a", 5, 4, 20),
            ("a", 5, 4, 20),
        ];
        assert_eq!(judge(&older), [Doubted; 4]);
        let restarted = [
            ("a", 7, 4, 20),
            ("a", 7, 4, 20),
            ("b", 9, 9, 20),
            ("b", 9, 9, 20),
        ];
        assert_eq!(judge(&restarted), [Doubted; 4]);
    }

    /// Each row: what is seen, and the revision of the mark.
    #[test]
    fn a_store_into_which_a_backup_is_written_step_by_step_is_not_trusted() {
        let mut trust = Trust::default();
        assert_eq!(trust.judge(sighting("a", 5000, 20), 20), Trusted);
        for (revision, settled, mark) in [(1000, 9, 5003), (1001, 10, 5004), (1002, 11, 5005)] {
            assert_eq!(trust.judge(sighting("a", revision, settled), 20), Doubted);
            assert!(trust.wants_mark());
            trust.mark(mark);
        }
        assert_eq!(trust.judge(sighting("a", 5005, 11), 20), Doubted);
        assert!(!trust.wants_mark());
        let lacking = sighting("a", 5005, 11);
        assert_eq!(trust.judge(lacking.clone(), 20), Lacking);
        trust.trust(lacking);
        assert_eq!(trust.judge(sighting("a", 1003, 12), 20), Doubted);
    }

    #[test]
    fn a_store_is_trusted_once_what_it_may_lack_is_delivered_again() {
        let mut trust = Trust::default();
        for expected in [Doubted, Doubted, Lacking] {
            assert_eq!(trust.judge(sighting("a", 7, 9), 20), expected);
        }
        trust.trust(sighting("a", 7, 9));
        assert_eq!(trust.judge(sighting("a", 7, 9), 15), Trusted);
    }
}
