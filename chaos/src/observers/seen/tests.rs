use super::{Change, Seen};
use crate::sources::{event::User, mongodb::Document};

fn living(version: i64) -> Change {
    Change {
        version,
        is_deleted: Some(false),
    }
}

fn deleted(version: i64) -> Change {
    Change {
        version,
        is_deleted: Some(true),
    }
}

fn document(id: i64, version: i64) -> Document {
    Document::Living(User {
        id,
        version,
        name: String::new(),
        email: String::new(),
        updated_at: 0,
    })
}

fn faults(changes: &[Change]) -> usize {
    let mut seen = Seen::default();
    let shown = changes.iter().map(|change| seen.show(1, *change));
    shown.filter(Result::is_err).count()
}

#[test]
fn versions_that_grow_are_right() {
    assert_eq!(faults(&[living(1), living(3), deleted(4), deleted(6)]), 0);
}

#[test]
fn a_version_after_a_higher_one_is_found() {
    assert_eq!(faults(&[living(1), living(3), living(2)]), 1);
    assert_eq!(faults(&[deleted(3), deleted(2)]), 1);
}

#[test]
fn a_deleted_user_who_is_visible_again_is_found() {
    assert_eq!(faults(&[living(1), deleted(2), living(3)]), 1);
}

#[test]
fn a_user_whose_deletion_was_lost_comes_back_at_a_version_above() {
    let mut seen = Seen::default();
    seen.show(1, deleted(2)).expect("the first change");
    seen.may_revive = true;
    assert!(seen.show(1, living(2)).is_err());
    assert!(seen.show(1, deleted(3)).is_ok());
    assert!(seen.show(1, living(4)).is_ok());
}

const RAISED: Change = Change {
    version: 5,
    is_deleted: None,
};

#[test]
fn a_tombstone_whose_version_alone_is_raised_stays_one() {
    assert_eq!(faults(&[deleted(2), RAISED]), 0);
    assert_eq!(faults(&[deleted(2), RAISED, living(6)]), 1);
}

/// It was shown as deleted, an earlier document was put back, and the database had lost the deletion as well.
#[test]
fn a_document_that_was_put_back_and_whose_version_alone_is_raised_may_be_visible() {
    let mut seen = Seen::default();
    seen.show(1, deleted(3)).expect("the first change");
    seen.may_go_back = true;
    seen.may_revive = true;
    seen.show(1, RAISED).expect("a document above");
    seen.may_go_back = false;
    seen.may_revive = false;
    assert_eq!(seen.show_all(&[document(1, 5)]).len(), 0);
}

#[test]
fn a_document_that_disappears_is_found() {
    let mut seen = Seen::default();
    seen.show(1, deleted(2)).expect("the first change");
    assert!(seen.remove(1).is_err());
}

#[test]
fn of_what_expires_only_tombstones_may_disappear() {
    let mut seen = Seen {
        tombstones_expire: true,
        ..Seen::default()
    };
    seen.show(1, deleted(2)).expect("the first change");
    seen.show(2, living(1)).expect("the first change");
    assert!(seen.remove(1).is_ok());
    assert!(seen.remove(2).is_err());
}

#[test]
fn a_collection_in_the_place_of_another_must_not_be_behind_it() {
    let mut seen = Seen::default();
    seen.show(1, living(2)).expect("the first change");
    assert_eq!(seen.show_all(&[document(1, 2)]).len(), 0);
    assert_eq!(seen.show_all(&[document(1, 1)]).len(), 1);
    assert_eq!(seen.show_all(&[]).len(), 1);
}

#[test]
fn a_version_that_was_never_shown_is_found() {
    let mut seen = Seen::default();
    seen.show(1, living(2)).expect("the first change");
    assert_eq!(seen.unseen(&[document(1, 2)]).len(), 0);
    assert_eq!(seen.unseen(&[document(1, 3)]).len(), 1);
    assert_eq!(seen.unseen(&[document(2, 1)]).len(), 1);
}

#[test]
fn only_a_copy_that_was_put_back_goes_back_and_loses_users() {
    let mut seen = Seen::default();
    seen.show(1, living(3)).expect("the first change");
    seen.show(2, living(1)).expect("the first change");
    seen.may_go_back = true;
    assert_eq!(seen.show_all(&[document(1, 2)]).len(), 0);
    assert!(seen.show(1, living(1)).is_ok());
    assert!(seen.show(1, living(4)).is_ok());
    seen.may_go_back = false;
    assert!(seen.show(1, living(3)).is_err());
    assert_eq!(seen.unseen(&[document(2, 1)]).len(), 1);
}
