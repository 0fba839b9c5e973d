//! Postgres: users, ledger, cursor, and what is kept with the cursor.

use crate::model::{Guard, Protocol, ids::Ids, stream::Event};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Row {
    /// The transaction has drawn the id and is open.
    Open(Event),
    Committed(Event),
    RolledBack,
}

/// What a user is, in the database or in the copy: version 0 before the first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct User {
    pub(crate) version: u8,
    pub(crate) is_deleted: bool,
    /// The event that says the same. Versions alone are given out again after a restore.
    pub(crate) content: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Cursor {
    pub(crate) last_id: u8,
    pub(crate) gaps: Ids,
    /// The last event that the stream acknowledged: its sequence and its event number.
    pub(crate) tail: Option<(u8, u8)>,
}

/// A message that is missing, and the events that may have stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Loss {
    pub(crate) sequence: u8,
    pub(crate) ids: Ids,
    /// The saved cursor when the events were looked up, until the next session begins.
    pub(crate) looked_up_at: Option<Cursor>,
    /// Up to where the stream has the events again.
    pub(crate) refilled_through: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    /// By their ids, from 1 on.
    pub(crate) rows: Vec<Row>,
    pub(crate) users: Vec<User>,
    pub(crate) cursor: Cursor,
    pub(crate) checkpoints: Vec<Cursor>,
    /// Of the lease, and of the relay that may move the cursor.
    pub(crate) epoch: u8,
    /// Messages above the tail that were looked up.
    pub(crate) looked_up_to: u8,
    /// Ids that are passed over and not published.
    pub(crate) superseded: Ids,
    pub(crate) losses: Vec<Loss>,
    /// Nobody notices what is missing up to here: the stream is taken to have begun behind it.
    pub(crate) unseen_up_to: u8,
}

impl Cursor {
    /// The event is done. Ids that it leaps over become gaps.
    pub(crate) fn pass(&mut self, id: u8) {
        self.gaps = self.gaps.union((self.last_id + 1..id).collect());
        self.gaps.remove(id);
        self.last_id = self.last_id.max(id);
    }

    pub(crate) fn has_passed(&self, id: u8) -> bool {
        id <= self.last_id && !self.gaps.contains(id)
    }

    pub(crate) fn tail_sequence(&self) -> u8 {
        self.tail.map_or(0, |(sequence, _)| sequence)
    }
}

impl Database {
    pub(crate) fn new(keys: u8) -> Self {
        Self {
            rows: Vec::new(),
            users: vec![User::default(); keys.into()],
            cursor: Cursor::default(),
            checkpoints: Vec::new(),
            epoch: 0,
            looked_up_to: 0,
            superseded: Ids::default(),
            losses: Vec::new(),
            unseen_up_to: 0,
        }
    }

    pub(crate) fn row(&self, id: u8) -> Option<&Row> {
        self.rows.get(usize::from(id).checked_sub(1)?)
    }

    pub(crate) fn committed(&self) -> impl Iterator<Item = &Event> {
        self.rows.iter().filter_map(|row| match row {
            Row::Committed(event) => Some(event),
            _ => None,
        })
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &Event> {
        self.rows.iter().filter_map(|row| match row {
            Row::Open(event) => Some(event),
            _ => None,
        })
    }

    pub(crate) fn has(&self, event: Event) -> bool {
        self.row(event.id) == Some(&Row::Committed(event))
    }

    /// The id that the next write gets.
    pub(crate) fn next_id(&self) -> u8 {
        u8::try_from(self.rows.len()).expect("few rows") + 1
    }

    /// Moves the cursor under the lease, unless another session has begun; whether it did.
    pub(crate) fn save(
        &mut self,
        protocol: &Protocol,
        epoch: u8,
        is_over: bool,
        to: Cursor,
    ) -> bool {
        let is_owner = epoch == self.epoch || !protocol.has(Guard::EpochFence);
        let is_current = !is_over || !protocol.has(Guard::Session);
        if is_owner && is_current {
            self.cursor = to;
        }
        is_owner && is_current
    }
}
