//! Several events of one user in a batch become one write.

use shared_events::UserEvent;

use super::{Refusal, WriteOutcome};

/// Events that are yet to be applied, each with the message that brought it.
#[derive(Debug)]
pub(crate) struct Coalesced<M> {
    /// Sorted by user, then version, then revision: the last of each user is the one to write.
    open: Vec<ReceivedEvent<M>>,
}

#[derive(Debug)]
pub(crate) struct ReceivedEvent<M> {
    pub(crate) event: UserEvent,
    pub(crate) message: M,
}

/// What is decided once the outcomes are known; the rest stays open.
#[derive(Debug)]
pub(crate) struct Decided<M> {
    pub(crate) applied: Vec<M>,
    /// Older versions of what was applied.
    pub(crate) superseded: Vec<M>,
    pub(crate) refused: Vec<(M, Refusal)>,
    pub(crate) deferred: Vec<M>,
}

impl<M> Coalesced<M> {
    pub(crate) fn new(mut open: Vec<ReceivedEvent<M>>) -> Self {
        open.sort_by_key(|it| {
            let state = it.event.state();
            (state.id, state.version, state.revision)
        });
        Self { open }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The highest version of each user: the older ones need not be written.
    pub(crate) fn newest(&self) -> Vec<&UserEvent> {
        let users = self.open.chunk_by(same_user);
        users
            .filter_map(|events| Some(&events.last()?.event))
            .collect()
    }

    /// Takes the outcome of each of the [`newest`](Self::newest). One that is applied settles the
    /// user's older ones too; one that is refused leaves them open, the next highest on top.
    pub(crate) fn decide(&mut self, outcomes: Vec<WriteOutcome>) -> Decided<M> {
        let mut decided = Decided {
            applied: Vec::with_capacity(self.open.len()),
            superseded: Vec::new(),
            refused: Vec::new(),
            deferred: Vec::new(),
        };
        let sizes: Vec<usize> = self.open.chunk_by(same_user).map(<[_]>::len).collect();
        debug_assert_eq!(sizes.len(), outcomes.len(), "one outcome per user");

        let mut open = std::mem::take(&mut self.open).into_iter();
        for (size, outcome) in sizes.into_iter().zip(outcomes) {
            let mut events = open.by_ref().take(size);
            match outcome {
                WriteOutcome::Applied => {
                    let older = events.by_ref().take(size - 1);
                    decided.superseded.extend(older.map(|it| it.message));
                    decided.applied.extend(events.map(|it| it.message));
                }
                WriteOutcome::Deferred { .. } => {
                    decided.deferred.extend(events.map(|it| it.message));
                }
                WriteOutcome::Contended => self.open.extend(events),
                WriteOutcome::Refused(refusal) => {
                    self.open.extend(events.by_ref().take(size - 1));
                    decided
                        .refused
                        .extend(events.map(|it| (it.message, refusal.clone())));
                }
            }
        }
        decided
    }
}

fn same_user<M>(a: &ReceivedEvent<M>, b: &ReceivedEvent<M>) -> bool {
    a.event.state().id == b.event.state().id
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use proptest::prelude::*;
    use shared_events::{UserEvent, UserState};

    use super::{Coalesced, ReceivedEvent};
    use crate::projection::{Refusal, WriteOutcome};

    type Key = (i64, i64);

    fn event((id, version): Key) -> UserEvent {
        let state = UserState {
            id,
            name: String::new(),
            email: String::new(),
            updated_at: DateTime::UNIX_EPOCH,
            version,
            revision: 1,
            later_fields: serde_json::Map::new(),
        };
        match version {
            1 => UserEvent::UserCreated(state),
            7 => UserEvent::UserDeleted(state),
            _ => UserEvent::UserUpdated(state),
        }
    }

    fn key(event: &UserEvent) -> Key {
        (event.state().id, event.state().version)
    }

    /// A store that refuses some events for ever and meets other writers now and then.
    struct Model<'a> {
        copy: BTreeMap<i64, i64>,
        contended: &'a mut dyn Iterator<Item = bool>,
    }

    fn is_refused((id, version): Key) -> bool {
        (id + version) % 5 == 0
    }

    impl Model<'_> {
        fn apply(&mut self, event: &UserEvent) -> WriteOutcome {
            let (id, version) = key(event);
            if self.contended.next() == Some(true) {
                return WriteOutcome::Contended;
            }
            if is_refused((id, version)) {
                return WriteOutcome::Refused(Refusal::TooLarge { bytes: 0 });
            }
            let stored = self.copy.entry(id).or_insert(version);
            *stored = version.max(*stored);
            WriteOutcome::Applied
        }
    }

    proptest! {
        #[test]
        fn any_batches_end_with_the_highest_version_and_settle_each_message_once(
            events in prop::collection::vec((1..4_i64, 1..8_i64), 0..60),
            batch_size in 1..20_usize,
            contended in prop::collection::vec(any::<bool>(), 0..40),
        ) {
            let mut model = Model { copy: BTreeMap::new(), contended: &mut contended.into_iter() };
            let (mut applied, mut refused) = (Vec::new(), Vec::new());
            for batch in events.chunks(batch_size) {
                let received = batch.iter().map(|key| ReceivedEvent { event: event(*key), message: *key });
                let mut coalesced = Coalesced::new(received.collect());
                while !coalesced.is_empty() {
                    let newest = coalesced.newest();
                    prop_assert!(newest.is_sorted_by(|a, b| a.state().id < b.state().id));
                    let outcomes = newest.into_iter().map(|event| model.apply(event)).collect();
                    let decided = coalesced.decide(outcomes);
                    applied.extend(decided.applied.into_iter().chain(decided.superseded));
                    refused.extend(decided.refused.into_iter().map(|(message, _)| message));
                }
            }

            let mut expected = BTreeMap::new();
            for (id, version) in events.iter().copied().filter(|key| !is_refused(*key)) {
                let highest = expected.entry(id).or_insert(version);
                *highest = version.max(*highest);
            }
            prop_assert_eq!(model.copy, expected);
            prop_assert!(refused.iter().all(|key| is_refused(*key)));
            let mut settled = [applied, refused].concat();
            let mut events = events;
            settled.sort_unstable();
            events.sort_unstable();
            prop_assert_eq!(settled, events);
        }
    }

    #[test]
    fn what_mongodb_did_not_take_now_is_deferred_with_its_older_versions() {
        let received = [(1, 1), (1, 2), (2, 1)].map(|key| ReceivedEvent {
            event: event(key),
            message: key,
        });
        let mut coalesced = Coalesced::new(received.into());
        let deferred = WriteOutcome::Deferred {
            code: 11602,
            message: "interrupted".to_owned(),
        };
        let decided = coalesced.decide(vec![deferred, WriteOutcome::Applied]);
        assert_eq!(decided.deferred, [(1, 1), (1, 2)]);
        assert_eq!(decided.applied, [(2, 1)]);
        assert!(coalesced.is_empty());
    }
}
