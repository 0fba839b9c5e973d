//! What the copy has shown of each user.

use std::collections::HashMap;

use crate::{history::Violation, sources::mongodb::Document};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    version: i64,
    /// Nothing if it is not known.
    is_deleted: Option<bool>,
}

/// Of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) version: i64,
    /// Nothing if the change leaves that as it was.
    pub(super) is_deleted: Option<bool>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    users: HashMap<i64, State>,
    /// Deletions may have been lost with the last writes of the database: their users come back, at a
    /// version above.
    pub(super) may_revive: bool,
    /// An earlier state of the copy has taken its place.
    pub(super) may_go_back: bool,
    /// Tombstones are kept for less time than the run takes.
    pub(super) tombstones_expire: bool,
}

impl Seen {
    /// The copy shows this from now on. What a change does not tell stays as it was, unless another document may
    /// have been put in its place since.
    pub(super) fn show(&mut self, user: i64, change: Change) -> Result<(), Violation> {
        let before = self.users.get(&user).copied();
        let known = before.filter(|_| !self.may_go_back);
        let now = State {
            version: change.version,
            is_deleted: (change.is_deleted).or_else(|| known?.is_deleted),
        };
        self.users.insert(user, now);
        match before {
            Some(before) => self.compare(user, before, now),
            None => Ok(()),
        }
    }

    pub(super) fn remove(&mut self, user: i64) -> Result<(), Violation> {
        let before = self.users.remove(&user);
        self.disappeared(user, before)
    }

    fn disappeared(&self, user: i64, before: Option<State>) -> Result<(), Violation> {
        let was_deleted = before.is_some_and(|before| before.is_deleted == Some(true));
        match (was_deleted && self.tombstones_expire) || self.may_go_back {
            true => Ok(()),
            false => Err(Violation::new(
                NEVER_BACKWARDS,
                format!("user {user} disappeared, who was {before:?}"),
            )),
        }
    }

    /// The copy as a whole, after changes that were not shown one by one.
    pub(super) fn show_all(&mut self, documents: &[Document]) -> Vec<Violation> {
        let now: HashMap<_, _> = documents.iter().filter_map(state).collect();
        let mut violations = Vec::new();
        for (user, before) in &self.users {
            let compared = match now.get(user) {
                Some(now) => self.compare(*user, *before, *now),
                None => self.disappeared(*user, Some(*before)),
            };
            violations.extend(compared.err());
        }
        if self.may_go_back {
            self.users = now;
            return violations;
        }
        for (user, now) in now {
            let before = self.users.entry(user).or_insert(now);
            if before.version < now.version {
                *before = now;
            }
        }
        violations
    }

    fn compare(&self, user: i64, before: State, now: State) -> Result<(), Violation> {
        let is_older = now.version < before.version;
        let is_revived = self.may_revive && now.version > before.version;
        let is_visible_again = before.is_deleted == Some(true) && now.is_deleted == Some(false);
        let is_back = is_visible_again && !is_revived;
        match (is_older || is_back) && !self.may_go_back {
            true => Err(Violation::new(
                NEVER_BACKWARDS,
                format!("user {user} was {before:?}, and is {now:?}"),
            )),
            false => Ok(()),
        }
    }

    /// Documents at a version that was not shown.
    pub(super) fn unseen(&self, documents: &[Document]) -> Vec<Violation> {
        let unseen = documents.iter().filter_map(state).filter(|(user, now)| {
            let seen = self.users.get(user);
            seen.is_none_or(|seen| seen.version < now.version)
        });
        let violation = |(user, now): (i64, State)| {
            let seen = self.users.get(&user);
            let what = format!("user {user} is {now:?}, and the last change was {seen:?}");
            Violation::new("each version of the copy is a change of it", what)
        };
        unseen.map(violation).collect()
    }
}

const NEVER_BACKWARDS: &str = "the copy never goes backwards";

fn state(document: &Document) -> Option<(i64, State)> {
    let (user, version, is_deleted) = match document {
        Document::Living(user) => (user.id, user.version, false),
        Document::Deleted { id, version } => (*id, *version, true),
        Document::Damaged(_) => return None,
    };
    Some((
        user,
        State {
            version,
            is_deleted: Some(is_deleted),
        },
    ))
}

#[cfg(test)]
mod tests;
