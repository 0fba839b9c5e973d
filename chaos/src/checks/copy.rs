//! The copy, compared with the rows field by field.

use std::collections::HashMap;

use super::ledger::Ledger;
use crate::{
    history::Violation,
    sources::{event::User, mongodb::Document},
};

pub(super) fn compare(documents: &[Document], rows: &HashMap<i64, User>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut copied = HashMap::new();
    for document in documents {
        match document {
            Document::Living(user) => drop(copied.insert(user.id, user)),
            Document::Deleted { .. } => {}
            Document::Damaged(what) => violations.push(differs(what.clone())),
        }
    }
    let wrong = |id: i64| {
        let (row, copy) = (rows.get(&id), copied.get(&id));
        let shown = match (row, copy) {
            (None, Some(_)) => "a user who is not there is visible",
            (Some(_), None) => "a user is missing",
            _ => "a user differs",
        };
        differs(format!(
            "{shown}: {id} is {row:?} in Postgres, and {copy:?} in the copy"
        ))
    };
    let of_rows = (rows.iter())
        .filter(|(id, row)| copied.get(id) != Some(row))
        .map(|(id, _)| wrong(*id));
    let extra = (copied.keys())
        .filter(|id| !rows.contains_key(id))
        .map(|id| wrong(*id));
    violations.extend(of_rows.chain(extra));
    violations
}

/// The documents of users who were deleted: each a tombstone at the version of the deletion.
pub(super) fn compare_deleted(
    documents: &[Document],
    deleted: &[i64],
    ledger: &Ledger,
) -> Vec<Violation> {
    let tombstones: HashMap<_, _> = documents.iter().filter_map(tombstone).collect();
    let wrong = deleted.iter().filter_map(|id| {
        let (deletion, found) = (ledger.deleted_at(*id)?, tombstones.get(id));
        (found != Some(&deletion)).then(|| {
            differs(format!(
                "user {id} was deleted at version {deletion}; the tombstone is of {found:?}"
            ))
        })
    });
    wrong.collect()
}

fn tombstone(document: &Document) -> Option<(i64, i64)> {
    match document {
        Document::Deleted { id, version } => Some((*id, *version)),
        Document::Living(_) | Document::Damaged(_) => None,
    }
}

fn differs(what: String) -> Violation {
    Violation::new("the copy equals the users", what)
}

#[cfg(test)]
mod tests;
