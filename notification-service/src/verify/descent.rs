//! Finding those who differ by digests: of large ranges first, and of smaller ones only where the two
//! sides do not agree.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use service_runtime::digests::{DigestQuery, Digests};
use shared_events::UserState;

use super::compare::{Suspect, Verifier};

/// How many ids a range has; of the last size each range is one user.
const SIZES: [i64; 3] = [16_384, 128, 1];

/// What was found of the ids from `first` to `through`.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) first: i64,
    pub(crate) through: i64,
    /// All that was written to the users before this time was compared.
    pub(crate) read_at: DateTime<Utc>,
    pub(crate) users: u64,
    pub(crate) copies: u64,
    pub(crate) suspects: Vec<Suspect>,
}

impl Compared {
    pub(crate) fn is_last(&self) -> bool {
        self.through >= UserState::MAX_NUMBER
    }
}

/// What both sides say of the same ids.
struct Pair {
    users: Digests,
    copies: Digests,
    through: i64,
}

/// Ids that are to be looked at more closely, in ranges of `SIZES[size]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: i64,
    last: i64,
    size: usize,
}

impl Verifier {
    /// Compares the users from the id `first` on, as many as one answer covers; `None` if one side
    /// offers no digests.
    pub(crate) async fn compare(&self, first: i64) -> anyhow::Result<Option<Compared>> {
        let all = Span {
            first,
            last: UserState::MAX_NUMBER,
            size: 0,
        };
        let Some(top) = self.pair(all, first).await? else {
            return Ok(None);
        };
        let mut suspects = BTreeSet::new();
        let mut open = top.differing(all, first, &mut suspects);
        while let Some(span) = open.pop() {
            let mut next = span.first;
            while next <= span.last {
                let Some(pair) = self.pair(span, next).await? else {
                    return Ok(None);
                };
                open.extend(pair.differing(span, next, &mut suspects));
                next = pair.through + 1;
            }
        }
        let suspects = suspects.into_iter().map(|id| Suspect::new(id, None));
        Ok(Some(Compared {
            first,
            through: top.through,
            read_at: top.users.read_at,
            users: count(&top.users, top.through),
            copies: count(&top.copies, top.through),
            suspects: suspects.collect(),
        }))
    }

    async fn pair(&self, span: Span, first: i64) -> anyhow::Result<Option<Pair>> {
        let mut query = DigestQuery {
            first,
            last: span.last,
            size: SIZES[span.size],
        };
        let Some(users) = self.users.digests(query).await? else {
            return Ok(None);
        };
        query.last = users.through.min(span.last);
        let Some(copies) = self.copies.digests(query, &self.pace).await? else {
            return Ok(None);
        };
        // The copies were read at the pace; where there are more users, these set it.
        let alone = count(&users, users.through).saturating_sub(count(&copies, copies.through));
        self.pace.pause(usize::try_from(alone)?).await;
        let through = copies.through.min(query.last);
        anyhow::ensure!(through >= first, "an answer with digests covers no ids");
        Ok(Some(Pair {
            users,
            copies,
            through,
        }))
    }
}

impl Pair {
    /// The ranges on which the sides do not agree, neighbours joined; single users are suspects.
    fn differing(&self, span: Span, first: i64, suspects: &mut BTreeSet<i64>) -> Vec<Span> {
        suspects.extend(&self.copies.damaged);
        let mut ranges: BTreeMap<i64, [Option<(i64, &str)>; 2]> = BTreeMap::new();
        for (side, digests) in [&self.users, &self.copies].into_iter().enumerate() {
            let covered = digests.ranges.iter().filter(|it| it.first <= self.through);
            for range in covered {
                ranges.entry(range.first).or_default()[side] = Some((range.users, &range.digest));
            }
        }
        let size = SIZES[span.size];
        let mut differing: Vec<Span> = Vec::new();
        for (begin, [user, copy]) in ranges {
            if user == copy || begin < first {
                continue;
            }
            if size == 1 {
                suspects.insert(begin);
                continue;
            }
            let last = (begin - begin % size + size - 1).min(self.through);
            match differing.last_mut() {
                Some(before) if before.last + 1 == begin => before.last = last,
                _ => differing.push(Span {
                    first: begin,
                    last,
                    size: span.size + 1,
                }),
            }
        }
        differing
    }
}

fn count(digests: &Digests, through: i64) -> u64 {
    let covered = digests.ranges.iter().filter(|it| it.first <= through);
    let users: i64 = covered.map(|it| it.users).sum();
    users.unsigned_abs()
}
