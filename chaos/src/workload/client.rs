//! One client: it does one thing after the other, and knows what its users must be.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{
    sync::RwLock,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    api::{Answer, Api},
    people::{Person, Shared},
};
use crate::history::{History, Token};

/// Beyond these it deletes, so that neither side grows for as long as the run takes.
const MAX_PEOPLE: usize = 30;
const MIN_PEOPLE: usize = 3;
const MAX_ANONYMOUS: usize = 20;

pub(super) struct Client {
    pub(super) api: Api,
    pub(super) history: Arc<History>,
    pub(super) random: Rng,
    pub(super) shared: Arc<Shared>,
    pub(super) people: Vec<Person>,
    /// Deleted for certain, with the version of the deletion.
    pub(super) deleted: Vec<Person>,
    pub(super) keyed: Vec<Keyed>,
    /// Imported, under an id that no answer told.
    pub(super) anonymous: Vec<Anonymous>,
}

/// A request under an idempotency key, to be repeated.
#[derive(Debug, Clone)]
pub(super) struct Keyed {
    pub(super) key: String,
    pub(super) request: Repeatable,
    /// When it was sent first, and the losses of the history then.
    pub(super) since: Instant,
    pub(super) losses: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Repeatable {
    Creation {
        token: Token,
        /// Whom it has created, according to an answer.
        user: Option<i64>,
    },
    Import(Import),
}

#[derive(Debug, Clone)]
pub(super) struct Import {
    /// Of each line; none for lines that can't be a user.
    pub(super) lines: Vec<Option<Token>>,
    pub(super) body: String,
    pub(super) is_all_or_nothing: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Anonymous {
    pub(super) token: Token,
    pub(super) losses: usize,
}

impl Client {
    pub(super) fn new(api: Api, history: Arc<History>, random: Rng, shared: Arc<Shared>) -> Self {
        Self {
            api,
            history,
            random,
            shared,
            people: Vec::new(),
            deleted: Vec::new(),
            keyed: Vec::new(),
            anonymous: Vec::new(),
        }
    }

    /// For as long as its task is kept.
    pub(super) async fn run(mut self, period: Duration, gate: Arc<RwLock<()>>) {
        let mut clock = interval(period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            let _turn = gate.read().await;
            self.act().await;
        }
    }

    async fn act(&mut self) {
        let history = &self.history;
        self.people.retain(|it| !it.may_be_another(history));
        match self.random.u8(..100) {
            _ if self.people.len() < MIN_PEOPLE => self.create().await,
            _ if self.people.len() > MAX_PEOPLE => self.delete().await,
            _ if self.anonymous.len() > MAX_ANONYMOUS => self.find_anonymous().await,
            0..12 => self.create().await,
            12..22 => self.create_under_key().await,
            22..28 => self.repeat().await,
            28..30 => self.reuse_key().await,
            30..32 => self.create_taken().await,
            32..62 => self.change().await,
            62..68 => self.change_shared().await,
            68..78 => self.delete().await,
            78..82 => self.import().await,
            82..85 => self.find_anonymous().await,
            85..96 => self.read_copy().await,
            _ => self.read_deleted().await,
        }
    }

    pub(super) fn violation(&self, check: &'static str, answer: &Answer, what: &str) {
        let Answer { status, body, .. } = answer;
        self.history
            .violation(check, format!("{what}: {status} {body}"));
    }
}
