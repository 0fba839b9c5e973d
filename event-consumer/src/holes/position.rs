//! What the consumer's position and the stream tell about messages that nobody read.

use service_runtime::nats::stream::{Refills, StreamMetadata};

use super::position_store::{Claim, Hole, Position, Range};

/// Beyond so many ranges the last one covers the rest.
const MAX_RANGES: usize = 100;

/// The consumer, and after it the stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// When the stream was created.
    pub(super) stream: i64,
    /// The consumer has settled all up to here.
    pub(super) settled: i64,
    /// It has delivered all up to here.
    pub(super) delivered: i64,
    /// The incarnation of the stream that it follows.
    pub(super) incarnation: u64,
    pub(super) first: i64,
    pub(super) last: i64,
    /// Sequences between them that are gone.
    pub(super) deleted: Vec<i64>,
}

impl Position {
    /// As it is read from this run of the server: what was written there can be relied on.
    pub(super) fn read_from(mut self, server: Option<&str>) -> Self {
        if let Some(claim) = self.claim.take()
            && claim.server.as_deref() == server
        {
            self.settled = self.settled.max(claim.settled);
        }
        self
    }

    /// As it is to be written to this run of the server, where no more than `proven` was read.
    pub(super) fn written_to(self, server: Option<String>, proven: i64) -> Self {
        let claim = Claim {
            server,
            settled: self.settled,
        };
        Self {
            settled: self.settled.min(proven),
            claim: Some(claim),
            ..self
        }
    }

    /// Up to where its messages are those that stand on the stream now.
    pub(super) fn settled_on(&self, stream: i64, metadata: &StreamMetadata) -> i64 {
        if self.stream != stream {
            return 0;
        }
        let common = metadata.incarnations.common_up_to(self.incarnation);
        let common = common.map_or(i64::MAX, u64::cast_signed);
        self.settled.min(common)
    }

    /// Of a consumer that goes back to the messages after this one; `None` if it was not beyond it.
    pub(super) fn rewound(self, settled: i64) -> Option<Self> {
        let claimed = self.claim.as_ref().map_or(0, |claim| claim.settled);
        let is_beyond = self.settled.max(claimed) > settled;
        is_beyond.then(|| Self {
            settled: self.settled.min(settled),
            claim: None,
            known: Vec::new(),
            ..self
        })
    }

    /// Closes holes whose events are on the stream again, once the consumer is past them. How many
    /// messages that were.
    pub(super) fn close(&mut self, refills: &Refills) -> i64 {
        let is_past = |through: u64| through.cast_signed() <= self.settled;
        let refilled = refills.iter().filter(|it| is_past(it.through));
        let mut refilled: Vec<_> = refilled
            .map(|it| Range {
                first: it.missing.start().cast_signed(),
                last: it.missing.end().cast_signed(),
            })
            .collect();
        refilled.sort_unstable_by_key(|it| it.first);
        let before = messages(&self.holes);
        self.holes = (self.holes.iter())
            .flat_map(|hole| {
                let left = without(hole.range, &refilled).into_iter();
                left.map(|range| Hole {
                    range,
                    found_at: hole.found_at,
                })
            })
            .collect();
        before - messages(&self.holes)
    }
}

fn messages(holes: &[Hole]) -> i64 {
    let ranges = holes.iter().map(|hole| hole.range);
    ranges.map(|it| it.last - it.first + 1).sum()
}

/// The position now, and the holes that were not known before.
///
/// What is not on the stream and was not settled when it was last looked at was lost, unless it was
/// settled in the moment between. So nothing is missed, and should it be in doubt, it is a hole.
pub(super) fn advance(before: Option<Position>, seen: &Seen) -> (Position, Vec<Range>) {
    let mut position = before.unwrap_or_default();
    position.incarnation = seen.incarnation;
    if position.stream != seen.stream {
        position.stream = seen.stream;
        position.settled = 0;
        position.known.clear();
    }
    // The stream has lost its end; the relay publishes it again under the same sequences.
    position.settled = position.settled.min(seen.last);

    let mut missing = Vec::new();
    if position.settled + 1 < seen.first {
        push(&mut missing, position.settled + 1, seen.first - 1);
    }
    let deleted = seen.deleted.iter().copied();
    for sequence in deleted.filter(|it| *it > position.settled && *it >= seen.first) {
        push(&mut missing, sequence, sequence);
    }
    let news: Vec<_> = missing
        .iter()
        .flat_map(|range| without(*range, &position.known))
        .collect();
    position.found += news.iter().map(|it| it.last - it.first + 1).sum::<i64>();
    position.holes.extend(news.iter().copied().map(Hole::new));
    position.settled = position.settled.max(seen.settled.min(seen.last));
    missing.retain(|range| range.last > position.settled);
    position.known = missing;
    bound(&mut position);
    (position, news)
}

fn bound(position: &mut Position) {
    let last = position.holes.last().map(|hole| hole.range.last);
    position.holes.truncate(MAX_RANGES);
    if let (Some(hole), Some(last)) = (position.holes.last_mut(), last) {
        hole.range.last = last;
    }
    let last = position.known.last().map(|range| range.last);
    position.known.truncate(MAX_RANGES);
    if let (Some(range), Some(last)) = (position.known.last_mut(), last) {
        range.last = last;
    }
}

fn push(ranges: &mut Vec<Range>, first: i64, last: i64) {
    match ranges.last_mut() {
        Some(range) if range.last + 1 == first => range.last = last,
        _ => ranges.push(Range { first, last }),
    }
}

/// The parts of `range` that are in none of `known`, which are in order.
fn without(range: Range, known: &[Range]) -> Vec<Range> {
    let mut parts = Vec::new();
    let mut first = range.first;
    for known in known
        .iter()
        .filter(|it| it.last >= range.first && it.first <= range.last)
    {
        if known.first > first {
            push(&mut parts, first, known.first - 1);
        }
        first = first.max(known.last + 1);
    }
    if first <= range.last {
        push(&mut parts, first, range.last);
    }
    parts
}

#[cfg(test)]
mod tests {
    use service_runtime::nats::stream::{Refill, Refills};

    use super::{Seen, advance};
    use crate::holes::Position;

    fn seen(settled: i64, first: i64, last: i64, deleted: &[i64]) -> Seen {
        Seen {
            stream: 1,
            settled,
            delivered: settled,
            incarnation: 0,
            first,
            last,
            deleted: deleted.to_vec(),
        }
    }

    /// The ranges that each look finds.
    fn found(looks: &[Seen]) -> Vec<Vec<(i64, i64)>> {
        let mut position: Option<Position> = None;
        let looks = looks.iter().map(|seen| {
            let (now, news) = advance(position.take(), seen);
            position = Some(now);
            news.iter().map(|it| (it.first, it.last)).collect()
        });
        looks.collect()
    }

    #[test]
    fn what_was_settled_may_leave_the_stream() {
        let looks = [
            seen(0, 1, 0, &[]),
            seen(5, 1, 5, &[]),
            seen(9, 6, 9, &[3, 4]),
        ];
        assert_eq!(found(&looks), [vec![], vec![], vec![]]);
    }

    #[test]
    fn what_leaves_before_it_is_settled_is_found_once() {
        let looks = [
            seen(0, 1, 0, &[]),
            seen(5, 1, 20, &[]),
            seen(5, 9, 20, &[12]),
            seen(5, 11, 20, &[12]),
            seen(20, 11, 20, &[12]),
            seen(20, 21, 20, &[]),
        ];
        let expected = [
            vec![],
            vec![],
            vec![(6, 8), (12, 12)],
            vec![(9, 10)],
            vec![],
            vec![],
        ];
        assert_eq!(found(&looks), expected);
    }

    #[test]
    fn a_purge_is_found_though_the_consumer_goes_along_with_it() {
        let looks = [seen(5, 1, 20, &[]), seen(20, 21, 20, &[])];
        assert_eq!(found(&looks), [vec![], vec![(6, 20)]]);
    }

    #[test]
    fn a_new_copy_misses_what_the_stream_has_lost_before() {
        assert_eq!(found(&[seen(0, 8, 9, &[])]), [[(1, 7)]]);
        assert_eq!(found(&[seen(7, 8, 9, &[])]), [[(1, 7)]]);
    }

    #[test]
    fn holes_are_closed_once_the_consumer_is_past_their_events() {
        let mut refills = Refills::default();
        for (missing, through) in [(12..=20, 30), (6..=8, 25), (3..=3, 40)] {
            refills.add(Refill { missing, through });
        }
        let looks = [seen(2, 1, 20, &[]), seen(2, 1, 20, &[3, 6, 7, 8, 9, 12])];
        let mut position = None;
        for look in &looks {
            position = Some(advance(position, look).0);
        }
        let mut position = position.expect("a position");
        let holes = |position: &Position| -> Vec<_> {
            let ranges = position.holes.iter().map(|hole| hole.range);
            ranges.map(|it| (it.first, it.last)).collect()
        };
        assert_eq!(position.close(&refills), 0);
        position.settled = 25;
        assert_eq!(position.close(&refills), 3);
        assert_eq!(holes(&position), [(3, 3), (9, 9), (12, 12)]);
        position.settled = 40;
        assert_eq!(position.close(&refills), 2);
        assert_eq!(holes(&position), [(9, 9)]);
    }

    #[test]
    fn another_stream_counts_from_the_beginning() {
        let other = Seen {
            stream: 2,
            ..seen(0, 1, 3, &[])
        };
        assert_eq!(found(&[seen(5, 1, 5, &[]), other]), [vec![], vec![]]);
    }

    /// Its save was on the way when the older store took the place.
    #[test]
    fn what_was_written_to_another_run_of_the_server_is_relied_on_only_after_it_was_read_there() {
        let server = |name: &str| Some(name.to_owned());
        let position = Position {
            settled: 9,
            ..Position::default()
        };
        let written = position.written_to(server("a"), 4);
        assert_eq!(written.clone().read_from(Some("b")).settled, 4);
        let read = written.read_from(Some("a"));
        assert_eq!(read.settled, 9);
        let written = read.written_to(server("a"), 9);
        assert_eq!(written.read_from(Some("b")).settled, 9);
    }

    #[test]
    fn a_position_goes_back_with_what_it_claims() {
        let position = Position {
            settled: 9,
            ..Position::default()
        };
        let written = position.written_to(None, 4);
        assert_eq!(written.clone().rewound(9), None);
        let rewound = written.rewound(6).expect("it is beyond");
        assert_eq!(rewound.read_from(None).settled, 4);
    }
}
