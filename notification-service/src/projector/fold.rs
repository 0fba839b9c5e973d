//! Several events of one user in a batch become one write.

use shared_events::UserEvent;

use crate::projection::{Outcome, Refusal};

/// Events that are yet to be applied, each with the message that brought it.
#[derive(Debug)]
pub(super) struct Fold<M> {
    /// Sorted by user, then version: the last of each user is the one to write.
    open: Vec<Delivered<M>>,
}

#[derive(Debug)]
pub(super) struct Delivered<M> {
    pub(super) event: UserEvent,
    pub(super) message: M,
}

/// What is decided once the outcomes are known; the rest stays open.
#[derive(Debug)]
pub(super) struct Decided<M> {
    pub(super) applied: Vec<M>,
    pub(super) refused: Vec<(M, Refusal)>,
    pub(super) deferred: Vec<M>,
}

impl<M> Fold<M> {
    pub(super) fn new(mut open: Vec<Delivered<M>>) -> Self {
        open.sort_by_key(|delivered| {
            let state = delivered.event.state();
            (state.id, state.version)
        });
        Self { open }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The highest version of each user: the older ones need not be written.
    pub(super) fn newest(&self) -> Vec<&UserEvent> {
        let users = self.open.chunk_by(same_user);
        users
            .filter_map(|events| Some(&events.last()?.event))
            .collect()
    }

    /// Takes the outcome of each of the [`newest`](Self::newest). One that is applied settles the
    /// user's older ones too; one that is refused leaves them open, the next highest on top.
    pub(super) fn decide(&mut self, outcomes: Vec<Outcome>) -> Decided<M> {
        let mut decided = Decided {
            applied: Vec::with_capacity(self.open.len()),
            refused: Vec::new(),
            deferred: Vec::new(),
        };
        let sizes: Vec<usize> = self.open.chunk_by(same_user).map(<[_]>::len).collect();
        debug_assert_eq!(sizes.len(), outcomes.len(), "one outcome per user");

        let mut open = std::mem::take(&mut self.open).into_iter();
        for (size, outcome) in sizes.into_iter().zip(outcomes) {
            let mut events = open.by_ref().take(size);
            match outcome {
                Outcome::Applied => decided.applied.extend(events.map(|it| it.message)),
                Outcome::Deferred { .. } => decided.deferred.extend(events.map(|it| it.message)),
                Outcome::Contended => self.open.extend(events),
                Outcome::Refused(refusal) => {
                    self.open.extend(events.by_ref().take(size - 1));
                    decided
                        .refused
                        .extend(events.map(|it| (it.message, refusal.clone())));
                }
            }
        }
        decided
    }

    /// Every message whose event is still open.
    pub(super) fn into_messages(self) -> impl Iterator<Item = M> {
        self.open.into_iter().map(|delivered| delivered.message)
    }
}

fn same_user<M>(a: &Delivered<M>, b: &Delivered<M>) -> bool {
    a.event.state().id == b.event.state().id
}
