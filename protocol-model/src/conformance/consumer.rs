//! What one consumer's log says.

use std::collections::HashMap;

use super::{
    Violation,
    decision::{ConsumerDecision, Outcome},
};
use crate::Guard;

const SETTLED_BY_NEWER: &str = "an event that is settled by a newer one comes with it";

#[derive(Debug, Default)]
pub(super) struct ConsumerLog {
    /// What became of deliveries that are not acknowledged yet, by sequence. The server may deliver a
    /// message again meanwhile.
    outcomes: HashMap<u64, Vec<Settled>>,
    /// By user: the highest version that was written, or found in the copy.
    written: HashMap<i64, i64>,
}

#[derive(Debug, Clone, Copy)]
struct Settled {
    outcome: Outcome,
    user: (i64, i64),
}

impl ConsumerLog {
    pub(super) fn read(&mut self, decision: &ConsumerDecision) -> Option<Violation> {
        let sequence = decision.stream_sequence;
        let user = decision.user_id.zip(decision.version);
        match (decision.outcome, user) {
            (Outcome::Acknowledged, _) => return self.acknowledged(sequence),
            (outcome @ (Outcome::Applied | Outcome::Stale), Some(user)) => {
                let written = self.written.entry(user.0).or_default();
                *written = user.1.max(*written);
                self.settle(sequence, outcome, user);
            }
            (outcome @ Outcome::Superseded, Some(user)) => self.settle(sequence, outcome, user),
            _ => {}
        }
        None
    }

    fn settle(&mut self, sequence: u64, outcome: Outcome, user: (i64, i64)) {
        let settled = Settled { outcome, user };
        self.outcomes.entry(sequence).or_default().push(settled);
    }

    fn acknowledged(&mut self, sequence: u64) -> Option<Violation> {
        let outcomes = self.outcomes.entry(sequence).or_default();
        let settled = outcomes.pop();
        if outcomes.is_empty() {
            self.outcomes.remove(&sequence);
        }
        let Some(Settled { outcome, user }) = settled else {
            return Some(Violation {
                rule: Guard::AckAfterWrite.about(),
                what: format!("message {sequence} was acknowledged before it was applied"),
            });
        };
        let (user, version) = user;
        let has_newer = self.written.get(&user).is_some_and(|it| *it >= version);
        (outcome == Outcome::Superseded && !has_newer).then(|| Violation {
            rule: SETTLED_BY_NEWER,
            what: format!(
                "message {sequence} with version {version} of user {user} was acknowledged, and no \
                 such version was written"
            ),
        })
    }
}
