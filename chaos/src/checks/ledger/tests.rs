//! Each test doctors what a right ledger would be.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::Ledger;
use crate::{
    history::{Change, History, Token, Violation, Write},
    sources::event::{Event, Kind, User},
};

const USER: i64 = 7;

fn event(kind: Kind, version: i64, name: Token, email: Token) -> Event {
    Event {
        event_id: Uuid::now_v7(),
        kind,
        user: User {
            id: USER,
            version,
            name: name.name(),
            email: email.email(),
            updated_at: version,
        },
    }
}

/// A user who was created, renamed by `renaming`, and deleted.
struct Story {
    history: History,
    creation: Token,
    renaming: Token,
    events: Vec<Event>,
}

impl Story {
    fn new(conclude: impl FnOnce(&History, Token)) -> Self {
        let history = History::default();
        let creation = history.begin(Write::creation);
        history.acknowledged(creation, Some(USER), 1);
        let renaming = history.begin(|_| Write::of_user(USER, Change::Rename, Some(1)));
        conclude(&history, renaming);
        let deletion = history.begin(|_| Write::of_user(USER, Change::Delete, None));
        history.acknowledged(deletion, Some(USER), 3);
        let events = vec![
            event(Kind::Created, 1, creation, creation),
            event(Kind::Updated, 2, renaming, creation),
            event(Kind::Deleted, 3, renaming, creation),
        ];
        Self {
            history,
            creation,
            renaming,
            events,
        }
    }

    fn acknowledged() -> Self {
        Self::new(|history, renaming| {
            history.acknowledged(renaming, Some(USER), 2);
        })
    }

    fn ledger(&self) -> (Ledger, Vec<Violation>) {
        self.read_into(Ledger::default())
    }

    fn read_into(&self, mut ledger: Ledger) -> (Ledger, Vec<Violation>) {
        let add = |event| {
            self.history
                .read(|records| ledger.add(event, records))
                .err()
        };
        let mut violations: Vec<_> = self.events.iter().filter_map(add).collect();
        violations.extend(self.history.read(|records| ledger.missing(records)));
        (ledger, violations)
    }

    fn faults(&self) -> Vec<String> {
        let (_, violations) = self.ledger();
        violations.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn assert_fault(&self, fault: &str) {
        let faults = self.faults();
        assert!(faults.iter().any(|it| it.contains(fault)), "{faults:?}");
    }
}

#[test]
fn a_ledger_that_the_history_explains_is_right() {
    assert_eq!(Story::acknowledged().faults(), [""; 0]);
}

#[test]
fn an_acknowledged_write_that_is_lost_is_found() {
    let mut story = Story::acknowledged();
    story.events.truncate(2);
    story.assert_fault("was acknowledged as version 3");
    story.events.remove(1);
    story.assert_fault("was acknowledged as version 2");
}

#[test]
fn a_write_at_another_version_than_was_acknowledged_is_found() {
    let acknowledge = |history: &History, renaming| {
        history.acknowledged(renaming, Some(USER), 9);
    };
    Story::new(acknowledge).assert_fault("was acknowledged as version 9");
}

#[test]
fn a_refused_write_that_was_done_is_found() {
    Story::new(|history, renaming| history.refused(renaming)).assert_fault("was refused");
}

#[test]
fn a_write_of_unknown_outcome_is_there_or_not() {
    let mut story = Story::new(|_, _| {});
    assert_eq!(story.faults(), [""; 0]);
    let creation = story.creation;
    story.events[2] = event(Kind::Deleted, 2, creation, creation);
    story.events.remove(1);
    story.assert_fault("nobody deleted the user at this version");
}

#[test]
fn a_write_that_was_done_twice_is_found() {
    let mut story = Story::new(|_, _| {});
    let (creation, renaming) = (story.creation, story.renaming);
    let other = story
        .history
        .begin(|_| Write::of_user(USER, Change::Rename, None));
    let again = story
        .history
        .begin(|_| Write::of_user(USER, Change::Rename, None));
    story.events.truncate(2);
    story.events.extend([
        event(Kind::Updated, 3, other, creation),
        event(Kind::Updated, 4, again, creation),
        event(Kind::Updated, 5, other, creation),
    ]);
    story.assert_fault(&format!("{other} again"));
    assert!(
        !story
            .faults()
            .iter()
            .any(|it| it.contains(&format!("{renaming} again")))
    );
}

#[test]
fn a_condition_that_was_not_kept_is_found() {
    let mut story = Story::new(|_, _| {});
    let (creation, renaming) = (story.creation, story.renaming);
    let between = story
        .history
        .begin(|_| Write::of_user(USER, Change::Rename, None));
    story.events.splice(
        1..,
        [
            event(Kind::Updated, 2, between, creation),
            event(Kind::Updated, 3, renaming, creation),
        ],
    );
    story.assert_fault("was meant for version Some(1)");
}

#[test]
fn half_a_write_is_found() {
    let mut story = Story::acknowledged();
    story.events[1].user.email = story.renaming.email();
    story.assert_fault("which is not");
}

#[test]
fn a_version_that_is_left_out_is_found() {
    let mut story = Story::acknowledged();
    story.events[1].user.version = 3;
    story.assert_fault("it follows version 1");
}

#[test]
fn what_nobody_wrote_is_found() {
    let mut story = Story::acknowledged();
    story.events[1].user.name = "Mallory".to_owned();
    story.assert_fault("nobody wrote");
    story.events[1].user.name = Token(99).name();
    story.assert_fault("was never sent");
}

#[test]
fn a_deleted_user_who_comes_back_is_found() {
    let mut story = Story::acknowledged();
    let (creation, renaming) = (story.creation, story.renaming);
    story
        .events
        .push(event(Kind::Updated, 4, renaming, creation));
    story.assert_fault("the user was deleted");
    story.events[3] = event(Kind::Created, 1, creation, creation);
    story.assert_fault("created a second time");
}

#[test]
fn a_row_without_its_event_is_found_and_an_event_without_its_row() {
    let mut story = Story::acknowledged();
    story.events.truncate(2);
    let (ledger, _) = story.ledger();
    let user = story.events[1].user.clone();
    let rows = |user: User| HashMap::from([(user.id, user)]);
    assert_eq!(ledger.compare(&rows(user.clone())), []);
    assert_eq!(ledger.compare(&HashMap::new()).len(), 1);
    let stale = User {
        version: 1,
        ..user.clone()
    };
    assert_eq!(ledger.compare(&rows(stale)).len(), 1);
    let other = User { id: 8, ..user };
    assert_eq!(ledger.compare(&rows(other)).len(), 2);
}

#[test]
fn half_an_import_is_found() {
    let history = History::default();
    let tokens = [(); 2].map(|()| history.begin(Write::creation));
    history.group(&tokens);
    let mut ledger = Ledger::default();
    let [one, two] = tokens;
    let missing = |ledger: &Ledger| history.read(|records| ledger.missing(records)).len();
    assert_eq!(missing(&ledger), 0);
    let created = event(Kind::Created, 1, one, one);
    history
        .read(|records| ledger.add(&created, records))
        .expect("the first line");
    assert_eq!(missing(&ledger), 1);
    let mut created = event(Kind::Created, 1, two, two);
    created.user.id = 8;
    history
        .read(|records| ledger.add(&created, records))
        .expect("the second line");
    assert_eq!(missing(&ledger), 0);
}

#[test]
fn after_a_loss_versions_may_be_restated_and_acknowledged_writes_absent() {
    let mut story = Story::acknowledged();
    let (creation, before) = (story.creation, story.faults());
    assert_eq!(before, [""; 0]);
    story.events.truncate(1);
    let mut restated = event(Kind::Updated, 9, creation, creation);
    restated.user.updated_at = 1;
    story.events.push(restated);
    story.assert_fault("it follows version 1");
    let minute = Duration::from_secs(60);
    story.history.lost_after(Instant::now() - minute);
    let (_, violations) = story.read_into(Ledger::reconciling());
    assert_eq!(violations, []);
    let mut reconciled = Ledger::reconciling();
    reconciled.is_reconciled();
    let (_, violations) = story.read_into(reconciled);
    assert_eq!(violations.len(), 1);
}

#[test]
fn a_deletion_may_be_restated_once_more_only_if_the_stream_has_lost_its_end() {
    let mut story = Story::acknowledged();
    let deleted_again = event(Kind::Deleted, 4, story.renaming, story.creation);
    story.events.push(deleted_again);
    story.assert_fault("the user was deleted before");
    let mut ledger = Ledger::reconciling();
    ledger.is_reconciled();
    ledger.reconciles_again();
    let (_, violations) = story.read_into(ledger);
    assert_eq!(violations, []);
}
