use std::collections::HashMap;

use super::{compare, compare_deleted};
use crate::{
    checks::ledger::Ledger,
    history::{Change, History, Write},
    sources::{
        event::{Event, Kind, User},
        mongodb::Document,
    },
};

fn user(id: i64) -> User {
    User {
        id,
        version: 2,
        name: "Ada".to_owned(),
        email: "ada@example.com".to_owned(),
        updated_at: 1,
    }
}

fn faults(documents: &[Document]) -> usize {
    let rows = [1, 2].map(|id| (id, user(id)));
    compare(documents, &HashMap::from(rows)).len()
}

#[test]
fn a_copy_of_all_rows_is_right() {
    assert_eq!(faults(&[1, 2].map(|id| Document::Living(user(id)))), 0);
}

#[test]
fn missing_extra_and_damaged_documents_are_found() {
    let living = |id| Document::Living(user(id));
    assert_eq!(faults(&[living(1)]), 1);
    assert_eq!(faults(&[living(1), living(2), living(3)]), 1);
    let tombstone = Document::Deleted { id: 2, version: 3 };
    assert_eq!(faults(&[living(1), tombstone]), 1);
    let damaged = Document::Damaged("no version".to_owned());
    assert_eq!(faults(&[living(1), living(2), damaged]), 1);
}

#[test]
fn each_field_is_compared() {
    let doctored: [fn(&mut User); 4] = [
        |it| it.version += 1,
        |it| it.name.push('!'),
        |it| it.email.push('!'),
        |it| it.updated_at += 1,
    ];
    for doctor in doctored {
        let mut other = user(2);
        doctor(&mut other);
        let documents = [user(1), other].map(Document::Living);
        assert_eq!(faults(&documents), 1, "{documents:?}");
    }
}

#[test]
fn a_deleted_user_without_a_tombstone_of_that_version_is_found() {
    let history = History::default();
    let creation = history.begin(Write::creation);
    history.begin(|_| Write::of_user(1, Change::Delete, None));
    let mut ledger = Ledger::default();
    for (version, kind) in [(1, Kind::Created), (2, Kind::Deleted)] {
        let user = User {
            id: 1,
            version,
            name: creation.name(),
            email: creation.email(),
            updated_at: 0,
        };
        let event_id = uuid::Uuid::now_v7();
        let event = Event {
            event_id,
            kind,
            user,
        };
        let added = history.read(|records| ledger.add(&event, records));
        added.expect("an event that is explained");
    }
    let tombstone = |version| Document::Deleted { id: 1, version };
    assert_eq!(compare_deleted(&[tombstone(2)], &[1], &ledger), []);
    assert_eq!(compare_deleted(&[tombstone(1)], &[1], &ledger).len(), 1);
    assert_eq!(compare_deleted(&[], &[1], &ledger).len(), 1);
    assert_eq!(
        compare_deleted(&[Document::Living(user(1))], &[1], &ledger).len(),
        1
    );
}
