//! What is on the stream, message by message, compared with the ledger.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::ledger::Ledger;
use crate::{history::Violation, sources::nats::Message};

/// One pass over the messages, from the first to the last that was read so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    events: HashSet<Uuid>,
    latest: HashMap<i64, i64>,
    /// Those that were not found in the ledger yet.
    uncommitted: Vec<Message>,
    /// It has lost messages: they come again, behind newer ones.
    is_refilled: bool,
    /// Events that may still come again, or never.
    excused: HashSet<Uuid>,
}

impl Stream {
    /// Of a stream that has lost messages since it was read.
    pub(super) fn refilled() -> Self {
        Self {
            is_refilled: true,
            ..Self::default()
        }
    }

    /// From now on versions come in their order, and of events that the ledger has.
    pub(super) fn is_settled(&mut self) {
        self.is_refilled = false;
        self.uncommitted.clear();
    }

    /// The next message.
    pub(super) fn add(&mut self, message: Message) -> Result<(), Violation> {
        let Message {
            sequence,
            is_refill,
            ref event,
        } = message;
        let (user, version) = (event.user.id, event.user.version);
        let is_first = self.events.insert(event.event_id);
        let may_be_late = is_refill || self.is_refilled || self.excused.contains(&event.event_id);
        self.uncommitted.push(message);
        let latest = self.latest.entry(user).or_default();
        let before = *latest;
        *latest = before.max(version);
        if is_first && !may_be_late && version < before {
            let what = format!(
                "version {version} of user {user} is message {sequence}, after version {before}"
            );
            return Err(Violation::new("the stream keeps the order", what));
        }
        Ok(())
    }

    /// Compares what was read with the events of the ledger, as far as those have been read.
    pub(super) fn compare(&mut self, ledger: &Ledger) -> Vec<Violation> {
        let mut violations = Vec::new();
        self.uncommitted.retain(|message| {
            let Some(committed) = ledger.event(message.event.event_id) else {
                return true;
            };
            if committed.fingerprint != message.event.fingerprint() {
                let what = format!("{message:?} is not the event of the ledger");
                violations.push(Violation::new("the stream has what was committed", what));
            }
            false
        });
        violations
    }

    /// Messages of events that were never committed, or are no longer.
    pub(super) fn uncommitted(&self) -> Vec<Violation> {
        let what = |message| format!("{message:?} is of no event");
        let violation =
            |message| Violation::new("the stream has what was committed", what(message));
        self.uncommitted.iter().map(violation).collect()
    }

    /// A higher version is there already, in the place of one that was lost.
    pub(super) fn excuse(&mut self, event_id: Uuid) {
        self.excused.insert(event_id);
    }

    pub(super) fn has(&self, event_id: Uuid) -> bool {
        self.events.contains(&event_id)
    }

    /// Whether it has this version of the user, or a later one.
    pub(super) fn has_come_to(&self, user: i64, version: i64) -> bool {
        let latest = self.latest.get(&user);
        latest.is_some_and(|latest| *latest >= version)
    }
}

#[cfg(test)]
mod tests;
