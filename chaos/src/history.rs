//! What clients were told of each of their writes.
//!
//! Each write has a number of its own, its token, and writes it into what it stores: into the name of a
//! user, the address, or both. So whatever a server has, at any version, is known by the write that put it
//! there, and a write that was refused is recognized wherever it turns up.

mod token;

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

pub(crate) use self::token::Token;

/// Something that must not be, whatever the faults were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) check: &'static str,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(check: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { check, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.check, self.what)
    }
}

/// What a write asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A user with the name of the write, and the address of this one: its own, or one that is taken.
    Create {
        email: Token,
    },
    /// The name of the write, and the address of this one.
    Replace {
        email: Token,
    },
    /// The name of the write; the address stays.
    Rename,
    /// The address of the write; the name stays.
    Readdress,
    Delete,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) change: Change,
    /// Whom it changes; for a creation nobody.
    pub(crate) user: Option<i64>,
    /// The version that the user must have, or nothing is changed.
    pub(crate) if_match: Option<i64>,
    /// The first write of an import that is written as a whole or not at all.
    pub(crate) group: Option<Token>,
    pub(crate) outcome: Outcome,
    sent: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Under way, or nobody knows: done as a whole, or not at all, now or later.
    Unknown,
    Acknowledged {
        /// Nothing if the answer did not say whom it created.
        user: Option<i64>,
        version: i64,
        at: Instant,
    },
    /// Without any effect.
    Refused,
}

impl Write {
    fn new(change: Change, user: Option<i64>, if_match: Option<i64>) -> Self {
        Self {
            change,
            user,
            if_match,
            group: None,
            outcome: Outcome::Unknown,
            sent: Instant::now(),
        }
    }

    pub(crate) fn creation(email: Token) -> Self {
        Self::new(Change::Create { email }, None, None)
    }

    pub(crate) fn of_user(user: i64, change: Change, if_match: Option<i64>) -> Self {
        Self::new(change, Some(user), if_match)
    }
}

/// All writes of a run, by their tokens.
#[derive(Debug, Default)]
pub(crate) struct History {
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
pub(crate) struct Records {
    writes: Vec<Write>,
    /// Those that were sent for each user.
    deletions: HashMap<i64, Vec<Token>>,
    losses: Vec<Loss>,
    violations: Vec<Violation>,
    acknowledged: u64,
}

/// A time whose writes may be lost, since the database that took them was replaced by an earlier state of it.
#[derive(Debug)]
struct Loss {
    from: Instant,
    until: Instant,
    /// Both sides agree again.
    is_over: bool,
}

impl Loss {
    fn overlaps(&self, sent: Instant, answered: Instant) -> bool {
        answered >= self.from && sent <= self.until
    }
}

impl History {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().expect("no client panics")
    }

    /// Gives the next write its token, with which it is made.
    pub(crate) fn begin(&self, write: impl FnOnce(Token) -> Write) -> Token {
        let mut records = self.records();
        let token = Token(records.writes.len() as u64);
        let write = write(token);
        if let (Change::Delete, Some(user)) = (write.change, write.user) {
            records.deletions.entry(user).or_default().push(token);
        }
        records.writes.push(write);
        token
    }

    /// A whole import: all are there, or none.
    pub(crate) fn group(&self, tokens: &[Token]) {
        let mut records = self.records();
        for token in tokens {
            records.write_mut(*token).group = tokens.first().copied();
        }
    }

    /// Whether this is the first answer. A request that was repeated under its key has several, which must be
    /// the same.
    pub(crate) fn acknowledged(&self, token: Token, user: Option<i64>, version: i64) -> bool {
        let at = Instant::now();
        let mut records = self.records();
        records.acknowledged += 1;
        let write = records.write(token);
        let may_be_lost = (records.losses.iter()).any(|loss| loss.overlaps(write.sent, at));
        if may_be_lost {
            return true;
        }
        let before = write.outcome;
        let now = Outcome::Acknowledged { user, version, at };
        let is_same = match before {
            Outcome::Unknown => true,
            Outcome::Refused => false,
            Outcome::Acknowledged {
                user: first_user,
                version: first_version,
                ..
            } => first_version == version && (first_user == user || user.is_none()),
        };
        if !is_same {
            records.violations.push(Violation::new(
                "one answer for each request",
                format!("{token} was answered {before:?}, and then {now:?}"),
            ));
        }
        let is_first = before == Outcome::Unknown;
        if is_first {
            records.write_mut(token).outcome = now;
        }
        is_first
    }

    /// And not lost since.
    pub(crate) fn is_acknowledged(&self, token: Token) -> bool {
        let records = self.records();
        matches!(records.write(token).outcome, Outcome::Acknowledged { .. })
    }

    pub(crate) fn refused(&self, token: Token) {
        self.records().write_mut(token).outcome = Outcome::Refused;
    }

    /// An answer that no fault explains.
    pub(crate) fn violation(&self, check: &'static str, what: impl Into<String>) {
        self.records().violations.push(Violation::new(check, what));
    }

    pub(crate) fn take_violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.records().violations)
    }

    /// An earlier state of the database takes the place of the one that has taken writes until now: what was
    /// acknowledged after `from`, or is acknowledged late, may be there or not.
    pub(crate) fn lost_after(&self, from: Instant) {
        let mut records = self.records();
        for write in &mut records.writes {
            if let Outcome::Acknowledged { at, .. } = write.outcome
                && at >= from
            {
                write.outcome = Outcome::Unknown;
            }
        }
        let until = Instant::now();
        records.losses.push(Loss {
            from,
            until,
            is_over: false,
        });
    }

    /// Both sides agree again: no user is restated any more, nor shown as whoever had the id before.
    pub(crate) fn losses_are_over(&self) {
        for loss in &mut self.records().losses {
            loss.is_over = true;
        }
    }

    /// Grows whenever what clients know of their users may no longer be so.
    pub(crate) fn losses(&self) -> usize {
        let records = self.records();
        let over = records.losses.iter().filter(|loss| loss.is_over);
        records.losses.len() + over.count()
    }

    /// Whether what was known when there were so many losses must still be so.
    pub(crate) fn is_certain(&self, losses: usize) -> bool {
        let is_over = self.records().losses.iter().all(|loss| loss.is_over);
        is_over && self.losses() == losses
    }

    /// How many answers have acknowledged a write.
    pub(crate) fn acknowledgements(&self) -> u64 {
        self.records().acknowledged
    }

    /// The longest time since `begin` in which no write was acknowledged.
    pub(crate) fn longest_pause(&self, begin: Instant) -> Duration {
        let mut times: Vec<_> = (self.records().writes.iter())
            .filter_map(|write| match write.outcome {
                Outcome::Acknowledged { at, .. } if at > begin => Some(at),
                _ => None,
            })
            .collect();
        times.extend([begin, Instant::now()]);
        times.sort_unstable();
        let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
        pauses.max().unwrap_or_default()
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Records) -> T) -> T {
        look(&self.records())
    }
}

impl Records {
    /// Of a token of this history.
    pub(crate) fn write(&self, Token(number): Token) -> &Write {
        &self.writes[usize::try_from(number).expect("a place in memory")]
    }

    fn write_mut(&mut self, Token(number): Token) -> &mut Write {
        &mut self.writes[usize::try_from(number).expect("a place in memory")]
    }

    /// Nothing for a token that was never given.
    pub(crate) fn find(&self, Token(number): Token) -> Option<&Write> {
        self.writes.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = (Token, &Write)> {
        (0..).map(Token).zip(&self.writes)
    }

    pub(crate) fn deletions(&self, user: i64) -> impl Iterator<Item = (Token, &Write)> {
        let tokens = self.deletions.get(&user).into_iter().flatten();
        tokens.map(|token| (*token, self.write(*token)))
    }
}

#[cfg(test)]
mod tests;
