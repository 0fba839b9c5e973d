//! The users whom a client has created, as far as it knows them.

use std::sync::Mutex;

use crate::history::{History, Token};

/// Of one client, unless it is shared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Person {
    pub(super) id: i64,
    pub(super) created_by: Token,
    /// The highest that was acknowledged.
    pub(super) version: i64,
    /// At that version, the write that gave the address.
    pub(super) email: Token,
    /// A change of unknown outcome may come at any time.
    pub(super) is_doubtful: bool,
    /// Of the history, when this was known.
    pub(super) losses: usize,
}

impl Person {
    pub(super) fn new(id: i64, created_by: Token, history: &History) -> Self {
        Self {
            id,
            created_by,
            version: 1,
            email: created_by,
            is_doubtful: false,
            losses: history.losses(),
        }
    }

    /// Whether the user must be as the client knows it.
    pub(super) fn is_certain(&self, history: &History) -> bool {
        !self.is_doubtful && history.is_certain(self.losses)
    }

    /// Whether the creation may have been lost. Then somebody else may have the id by now.
    pub(super) fn may_be_another(&self, history: &History) -> bool {
        !history.is_acknowledged(self.created_by)
    }

    /// Whether versions may have gone back.
    pub(super) fn may_be_older(&self, history: &History) -> bool {
        self.losses != history.losses()
    }
}

/// Users whom all clients change at the same time.
#[derive(Debug, Default)]
pub(super) struct Shared {
    people: Mutex<Vec<Person>>,
}

const MAX_SHARED: usize = 8;

impl Shared {
    /// Takes the place of another one.
    pub(super) fn add(&self, random: &mut fastrand::Rng, person: Person) -> Option<Person> {
        let mut people = self.people.lock().expect("no client panics");
        let is_doubtful = true;
        let person = Person {
            is_doubtful,
            ..person
        };
        if people.len() < MAX_SHARED {
            people.push(person);
            return None;
        }
        let place = random.usize(..people.len());
        Some(std::mem::replace(&mut people[place], person))
    }

    pub(super) fn any(&self, random: &mut fastrand::Rng) -> Option<Person> {
        let people = self.people.lock().expect("no client panics");
        random.choice(people.iter()).copied()
    }
}
