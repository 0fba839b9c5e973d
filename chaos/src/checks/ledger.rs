//! What was committed, event by event, compared with what clients were told.
//!
//! The ledger has one event for each version of each user, written with the row. So it must be explained
//! by the history entirely: each event by one write that was not refused, each acknowledged write by one
//! event, at the version that was acknowledged.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::{
    history::{Change, Outcome, Records, Token, Violation, Write},
    sources::event::{Event, Kind, User},
};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    users: HashMap<i64, Latest>,
    events: HashMap<Uuid, Committed>,
    done: HashSet<Token>,
    /// It is that of a database that lost its last writes, which the relay reconciles with the stream.
    is_reconciling: bool,
}

/// Which event of which user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) fingerprint: u64,
    pub(super) user: i64,
    pub(super) version: i64,
}

#[derive(Debug)]
enum Latest {
    Living(User),
    Deleted { version: i64 },
}

impl Ledger {
    /// Of a database whose last writes were lost.
    pub(super) fn reconciling() -> Self {
        Self {
            is_reconciling: true,
            ..Self::default()
        }
    }

    /// The stream has lost its end: what a database of before had published there is looked up again, and
    /// its users are restated once more.
    pub(super) fn reconciles_again(&mut self) {
        self.is_reconciling = true;
    }

    /// No version comes from now on but by a write.
    pub(super) fn is_reconciled(&mut self) {
        self.is_reconciling = false;
    }

    /// The next event, in the order of the ledger.
    pub(super) fn add(&mut self, event: &Event, records: &Records) -> Result<(), Violation> {
        let explained = self.explain(event, records);
        let version = event.user.version;
        let committed = Committed {
            fingerprint: event.fingerprint(),
            user: event.user.id,
            version,
        };
        self.events.insert(event.event_id, committed);
        let latest = match event.kind {
            Kind::Deleted => Latest::Deleted { version },
            Kind::Created | Kind::Updated => Latest::Living(event.user.clone()),
        };
        self.users.insert(event.user.id, latest);
        let faulty = |fault| {
            let User { id, .. } = event.user;
            let what = format!("version {version} of user {id}: {fault}");
            Violation::new("each version has its write", what)
        };
        let token = explained.map_err(faulty)?;
        match token {
            Some(token) if !self.done.insert(token) => Err(faulty(format!("{token} again"))),
            _ => Ok(()),
        }
    }

    /// The write that this event tells of; none for a version that the relay or an operator asked for.
    fn explain(&self, event: &Event, records: &Records) -> Result<Option<Token>, String> {
        let user = &event.user;
        let version = user.version;
        match (event.kind, self.users.get(&user.id)) {
            (Kind::Created, None) if version == 1 => creation(user, records).map(Some),
            (Kind::Created, _) => Err("the user is created a second time".to_owned()),
            (_, None) if self.is_reconciling => Ok(None),
            (_, None) => Err("the user has no earlier event".to_owned()),
            (Kind::Updated, Some(Latest::Living(before))) => {
                if self.is_restated(before, user) {
                    return Ok(None);
                }
                follows(before.version, version)?;
                change(before, user, records).map(Some)
            }
            (Kind::Updated, Some(Latest::Deleted { .. })) => Err("the user was deleted".to_owned()),
            (Kind::Deleted, Some(Latest::Living(before))) => {
                follows(before.version, version)?;
                deletion(user, records)
            }
            (Kind::Deleted, Some(Latest::Deleted { .. })) if self.is_reconciling => Ok(None),
            (Kind::Deleted, Some(Latest::Deleted { .. })) => {
                Err("the user was deleted before".to_owned())
            }
        }
    }

    /// A version above that of a message whose event was lost, or the same version published again.
    fn is_restated(&self, before: &User, user: &User) -> bool {
        let has_same_content = (&before.name, &before.email) == (&user.name, &user.email);
        let is_repeat = before.version == user.version;
        let is_raised = self.is_reconciling && user.version > before.version;
        has_same_content && (is_repeat || is_raised)
    }

    /// Acknowledged writes that left no event, and imports that are there by half.
    pub(super) fn missing(&self, records: &Records) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut groups: HashMap<Token, (usize, usize)> = HashMap::new();
        for (token, write) in records.writes() {
            let is_done = self.done.contains(&token);
            if let Outcome::Acknowledged { user, version, .. } = write.outcome
                && !is_done
            {
                let what = format!(
                    "{token} ({:?}) was acknowledged as version {version} of user {user:?}, and is not there",
                    write.change
                );
                violations.push(Violation::new("acknowledged writes are there", what));
            }
            if let Some(group) = write.group
                && write.outcome != Outcome::Refused
            {
                let (there, all) = groups.entry(group).or_default();
                *there += usize::from(is_done);
                *all += 1;
            }
        }
        for (group, (there, all)) in groups {
            if there != 0 && there != all {
                let what =
                    format!("{there} of {all} lines of the import from {group} on are there");
                violations.push(Violation::new("imports are whole or absent", what));
            }
        }
        violations
    }

    /// Users whose row is not what their last event says.
    pub(super) fn compare(&self, rows: &HashMap<i64, User>) -> Vec<Violation> {
        let living = |id: &i64| match self.users.get(id) {
            Some(Latest::Living(user)) => Some(user),
            _ => None,
        };
        let wrong = |id: i64, says: Option<&User>, row: Option<&User>| {
            let what = format!("user {id}: the last event says {says:?}, the row {row:?}");
            Violation::new("row and event go together", what)
        };
        let rows_without = (rows.iter())
            .filter(|(id, row)| living(id) != Some(row))
            .map(|(id, row)| wrong(*id, living(id), Some(row)));
        let without_row = (self.users.keys())
            .filter(|id| living(id).is_some() && !rows.contains_key(id))
            .map(|id| wrong(*id, living(id), None));
        rows_without.chain(without_row).collect()
    }

    pub(super) fn event(&self, event_id: Uuid) -> Option<Committed> {
        self.events.get(&event_id).copied()
    }

    pub(super) fn event_ids(&self) -> impl Iterator<Item = Uuid> {
        self.events.keys().copied()
    }

    /// The version of the deletion, if the user was deleted.
    pub(super) fn deleted_at(&self, user: i64) -> Option<i64> {
        match self.users.get(&user)? {
            Latest::Deleted { version } => Some(*version),
            Latest::Living(_) => None,
        }
    }
}

fn follows(before: i64, version: i64) -> Result<(), String> {
    match version == before + 1 {
        true => Ok(()),
        false => Err(format!("it follows version {before}")),
    }
}

fn creation(user: &User, records: &Records) -> Result<Token, String> {
    let token = Token::of_name(&user.name).ok_or_else(|| format!("nobody wrote {user:?}"))?;
    let write = find(token, records)?;
    match write.change {
        Change::Create { email } if email.email() == user.email => {}
        _ => return Err(format!("{token} is {write:?}, which is not {user:?}")),
    }
    agrees(token, write, user)?;
    Ok(token)
}

fn change(before: &User, user: &User, records: &Records) -> Result<Token, String> {
    let token = match before.name == user.name {
        false => Token::of_name(&user.name),
        true => Token::of_email(&user.email),
    };
    let token = token.ok_or_else(|| format!("nobody wrote {user:?}"))?;
    let write = find(token, records)?;
    let (name, email) = match write.change {
        Change::Replace { email } => (token.name(), email.email()),
        Change::Rename => (token.name(), before.email.clone()),
        Change::Readdress => (before.name.clone(), token.email()),
        Change::Create { .. } | Change::Delete => {
            return Err(format!("{token} is no change: {write:?}"));
        }
    };
    if (&name, &email) != (&user.name, &user.email) {
        return Err(format!(
            "{token} is {write:?}, which is not {user:?} after {before:?}"
        ));
    }
    agrees(token, write, user)?;
    Ok(token)
}

/// Deletions store no token. The one that was acknowledged at this version, or one whose outcome is not known.
fn deletion(user: &User, records: &Records) -> Result<Option<Token>, String> {
    let acknowledged = |write: &Write| matches!(write.outcome, Outcome::Acknowledged { version, .. } if version == user.version);
    let mut deletions = records.deletions(user.id);
    if let Some((token, write)) = deletions.find(|(_, write)| acknowledged(write)) {
        agrees(token, write, user)?;
        return Ok(Some(token));
    }
    let mut deletions = records.deletions(user.id);
    let is_explained = deletions
        .any(|(_, write)| write.outcome == Outcome::Unknown && is_expected(write, user.version));
    match is_explained {
        true => Ok(None),
        false => Err("nobody deleted the user at this version".to_owned()),
    }
}

fn find(token: Token, records: &Records) -> Result<&Write, String> {
    let found = records.find(token);
    found.ok_or_else(|| format!("{token} was never sent"))
}

fn is_expected(write: &Write, version: i64) -> bool {
    write
        .if_match
        .is_none_or(|expected| expected + 1 == version)
}

fn agrees(token: Token, write: &Write, user: &User) -> Result<(), String> {
    let User { id, version, .. } = *user;
    if let Some(wanted) = write.user
        && wanted != id
    {
        return Err(format!("{token} was for user {wanted}"));
    }
    if !is_expected(write, version) {
        return Err(format!(
            "{token} was meant for version {:?}",
            write.if_match
        ));
    }
    match write.outcome {
        Outcome::Unknown => Ok(()),
        Outcome::Refused => Err(format!("{token} was refused")),
        Outcome::Acknowledged {
            user: told,
            version: told_version,
            ..
        } => match told.is_none_or(|told| told == id) && told_version == version {
            true => Ok(()),
            false => Err(format!(
                "{token} was acknowledged as version {told_version} of user {told:?}"
            )),
        },
    }
}

#[cfg(test)]
mod tests;
