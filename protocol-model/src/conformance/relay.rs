//! What relays' logs say. Everything of one epoch is in one log.

use std::collections::HashMap;

use super::{
    Violation,
    decision::{Acknowledged, Began, Lease, RelayDecision, Saved, Sent},
    epochs::Epochs,
    ranges::Ranges,
};
use crate::Guard;

const SENT: &str = "only what was sent is acknowledged";
const IN_ORDER: &str = "a session sends the versions of an aggregate in order";

#[derive(Debug, Default)]
pub(super) struct Relays {
    sessions: HashMap<Lease, Session>,
    /// By stream.
    epochs: HashMap<String, Epochs>,
    /// Losses that the next session has to take back.
    noted: HashMap<Lease, Ranges>,
    /// By stream and aggregate: since which epoch, and the version that is taken.
    restated: HashMap<(String, String), (i64, i64)>,
    lost: Vec<i64>,
    /// By epoch.
    databases: HashMap<i64, String>,
}

/// The present session of a relay with one stream.
#[derive(Debug, Default)]
struct Session {
    /// Passed by the cursor that it began from, or done since.
    done: Ranges,
    /// The aggregate's event that is in flight.
    in_flight: HashMap<String, i64>,
    sent: HashMap<i64, String>,
    versions: HashMap<String, i64>,
    refill: Ranges,
    missing: Ranges,
}

fn violation(guard: Guard, what: String) -> Violation {
    let rule = guard.about();
    Violation { rule, what }
}

impl Relays {
    pub(super) fn read(&mut self, decision: RelayDecision) -> Vec<Violation> {
        match decision {
            RelayDecision::LeaseTaken { epoch, database } => {
                self.databases.insert(epoch, database);
                Vec::new()
            }
            RelayDecision::LeaseLost { epoch } => {
                self.lost.push(epoch);
                Vec::new()
            }
            RelayDecision::SessionBegan(began) => self.began(began),
            RelayDecision::MovedBack(lease) => {
                self.noted.remove(&lease);
                self.epochs(&lease).moved_back(lease.epoch);
                Vec::new()
            }
            RelayDecision::GapsDead {
                up_to,
                bound,
                horizon,
            } => (horizon < bound)
                .then(|| gap_too_early(up_to, bound, horizon))
                .into_iter()
                .collect(),
            RelayDecision::Sent(sent) => self.sent(sent),
            RelayDecision::Published(it) => self.acknowledged(it, false),
            RelayDecision::Duplicate(it) => self.acknowledged(it, true),
            RelayDecision::Skipped(passed)
            | RelayDecision::Superseded(passed)
            | RelayDecision::Parked(passed)
            | RelayDecision::GapAbandoned(passed) => {
                self.session(passed.lease).done.extend(&passed.ids);
                Vec::new()
            }
            RelayDecision::CursorSaved(saved) => self.saved(saved),
            RelayDecision::LossNoted { lease, ids } => {
                self.noted.entry(lease).or_default().extend(&ids);
                Vec::new()
            }
            RelayDecision::Restated {
                lease,
                aggregate,
                above,
            } => {
                if let Some(above) = above {
                    let aggregate = (lease.stream, aggregate);
                    self.restated.insert(aggregate, (lease.epoch, above));
                }
                Vec::new()
            }
        }
    }

    /// That are seen only when several logs are compared.
    pub(super) fn violations(&mut self) -> Vec<Violation> {
        let epochs = self.epochs.values_mut();
        epochs.flat_map(Epochs::violations).collect()
    }

    fn session(&mut self, lease: Lease) -> &mut Session {
        self.sessions.entry(lease).or_default()
    }

    fn epochs(&mut self, lease: &Lease) -> &mut Epochs {
        self.epochs.entry(lease.stream.clone()).or_default()
    }

    fn began(&mut self, began: Began) -> Vec<Violation> {
        let Began {
            lease,
            database,
            last_id,
            gaps,
            refill,
            missing,
        } = began;
        (self.epochs(&lease)).began(lease.epoch, &database, last_id);
        let noted = self.noted.remove(&lease).unwrap_or_default();
        let forgotten: Vec<_> = noted.iter().filter(|it| !refill.has_all(it)).collect();
        let forgotten = (!forgotten.is_empty()).then(|| {
            let what = format!("events {forgotten:?} were noted as lost and not taken back");
            violation(Guard::Refill, what)
        });
        let session = Session {
            done: Ranges::passed(last_id, &gaps),
            refill,
            missing,
            ..Session::default()
        };
        self.sessions.insert(lease, session);
        forgotten.into_iter().collect()
    }

    fn sent(&mut self, sent: Sent) -> Vec<Violation> {
        let Sent {
            lease,
            outbox_id,
            aggregate,
            version,
            is_again,
        } = sent;
        let taken = (self.restated).get(&(lease.stream.clone(), aggregate.clone()));
        // A stream may be restored with another database.
        let database = self.databases.get(&lease.epoch);
        let taken = taken
            .filter(|(since, _)| *since <= lease.epoch && self.databases.get(since) == database);
        let taken = taken.copied();
        let session = self.session(lease);
        let mut violations = Vec::new();
        let before = session.in_flight.insert(aggregate.clone(), outbox_id);
        if let Some(before) = before.filter(|it| !is_again || *it != outbox_id) {
            let what = format!("events {before} and {outbox_id} of {aggregate}");
            violations.push(violation(Guard::OneInFlight, what));
        }
        if let Some(version) = version
            && !session.refill.contains(outbox_id)
        {
            if let Some((_, taken)) = taken.filter(|(_, taken)| version <= *taken) {
                let what = format!(
                    "event {outbox_id} has version {version} of {aggregate}, which was restated \
                     above {taken}"
                );
                violations.push(violation(Guard::Superseded, what));
            }
            let last = session.versions.insert(aggregate.clone(), version);
            if let Some(last) = last.filter(|last| version < *last) {
                let what = format!("version {version} of {aggregate} after version {last}");
                let rule = IN_ORDER;
                violations.push(Violation { rule, what });
            }
        }
        session.sent.insert(outbox_id, aggregate);
        violations
    }

    fn acknowledged(&mut self, ack: Acknowledged, is_duplicate: bool) -> Vec<Violation> {
        let Acknowledged {
            lease,
            outbox_id,
            sequence,
        } = ack;
        let session = self.session(lease);
        let mut violations = Vec::new();
        match session.sent.remove(&outbox_id) {
            Some(aggregate) => {
                session.in_flight.remove(&aggregate);
            }
            None => violations.push(Violation {
                rule: SENT,
                what: format!("event {outbox_id}"),
            }),
        }
        if is_duplicate && session.missing.contains(sequence) {
            let what = format!("event {outbox_id}, of which message {sequence} is missing");
            violations.push(violation(Guard::NewMessageId, what));
        }
        session.done.insert(outbox_id..outbox_id + 1);
        violations
    }

    fn saved(&mut self, saved: Saved) -> Vec<Violation> {
        let Saved {
            lease,
            last_id,
            gaps,
        } = saved;
        let epoch = lease.epoch;
        let late = self.lost.contains(&epoch).then(|| {
            let what = format!("epoch {epoch} has saved {last_id} after it had lost the lease");
            violation(Guard::EpochFence, what)
        });
        self.epochs(&lease).saved(epoch, last_id);
        let done = &self.session(lease).done;
        let passed = Ranges::passed(last_id, &gaps);
        let undone = passed.iter().find(|ids| !done.has_all(ids));
        let undone = undone.map(|ids| {
            let what = format!("the cursor {last_id} was saved while not all of {ids:?} was done");
            violation(Guard::CursorAfterAck, what)
        });
        late.into_iter().chain(undone).collect()
    }
}

fn gap_too_early(up_to: i64, bound: i64, horizon: i64) -> Violation {
    let what = format!("gaps up to {up_to} at horizon {horizon}, below {bound}");
    violation(Guard::GapBound, what)
}
