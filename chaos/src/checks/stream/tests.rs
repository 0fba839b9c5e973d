use uuid::Uuid;

use super::Stream;
use crate::{
    checks::ledger::Ledger,
    history::{Change, History, Write},
    sources::{
        event::{Event, Kind, User},
        nats::Message,
    },
};

/// A user of two versions, committed.
struct Committed {
    ledger: Ledger,
    events: [Event; 2],
}

impl Committed {
    fn new() -> Self {
        let history = History::default();
        let creation = history.begin(Write::creation);
        let renaming = history.begin(|_| Write::of_user(7, Change::Rename, None));
        let event = |kind, version, name: String| Event {
            event_id: Uuid::now_v7(),
            kind,
            user: User {
                id: 7,
                version,
                name,
                email: creation.email(),
                updated_at: 0,
            },
        };
        let events = [
            event(Kind::Created, 1, creation.name()),
            event(Kind::Updated, 2, renaming.name()),
        ];
        let mut ledger = Ledger::default();
        for event in &events {
            let added = history.read(|records| ledger.add(event, records));
            added.expect("an event that is explained");
        }
        Self { ledger, events }
    }

    fn message(&self, version: usize) -> Message {
        Message {
            sequence: 1,
            is_refill: false,
            event: self.events[version - 1].clone(),
        }
    }

    /// How many are out of order.
    fn disordered(&self, versions: &[usize]) -> usize {
        let mut stream = Stream::default();
        let added = versions
            .iter()
            .map(|version| stream.add(self.message(*version)));
        added.filter(Result::is_err).count()
    }
}

#[test]
fn versions_in_their_order_are_right_and_repeats_too() {
    assert_eq!(Committed::new().disordered(&[1, 2, 1, 2]), 0);
}

#[test]
fn a_version_after_a_higher_one_is_found() {
    assert_eq!(Committed::new().disordered(&[2, 1]), 1);
}

#[test]
fn what_fills_a_hole_may_come_late() {
    let committed = Committed::new();
    let mut stream = Stream::default();
    let refill = Message {
        is_refill: true,
        ..committed.message(1)
    };
    assert!(stream.add(committed.message(2)).is_ok());
    assert!(stream.add(refill).is_ok());

    let mut stream = Stream::refilled();
    assert!(stream.add(committed.message(2)).is_ok());
    assert!(stream.add(committed.message(1)).is_ok());

    // One that need not come, since version 2 is there, may still come.
    let mut stream = Stream::default();
    assert!(stream.add(committed.message(2)).is_ok());
    stream.excuse(committed.events[0].event_id);
    assert!(stream.add(committed.message(1)).is_ok());
}

#[test]
fn a_message_with_other_content_is_found() {
    let committed = Committed::new();
    let mut stream = Stream::default();
    let mut message = committed.message(1);
    assert!(stream.add(message.clone()).is_ok());
    assert_eq!(stream.compare(&committed.ledger), []);
    message.event.user.name = "Mallory".to_owned();
    assert!(stream.add(message).is_ok());
    assert_eq!(stream.compare(&committed.ledger).len(), 1);
    assert_eq!(stream.uncommitted(), []);
}

#[test]
fn a_message_that_was_never_committed_is_found() {
    let committed = Committed::new();
    let mut stream = Stream::default();
    let mut message = committed.message(1);
    message.event.event_id = Uuid::now_v7();
    assert!(stream.add(message).is_ok());
    assert_eq!(stream.compare(&committed.ledger), []);
    assert_eq!(stream.uncommitted().len(), 1);
}
