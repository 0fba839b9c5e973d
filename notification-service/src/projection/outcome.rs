//! What MongoDB made of each event.

use std::collections::HashSet;

use mongodb::bson::{Document, deserialize_from_document};
use serde::Deserialize;

use crate::mongo::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// The copy has this version of the user or a later one.
    Applied,
    /// Another writer inserted the same user at the same moment: run it again.
    Contended,
    /// MongoDB will never take this document.
    Refused(Refusal),
    /// MongoDB did not take it now, for a reason that is not known to be the document's.
    Deferred { code: i32, message: String },
}

/// Why a document can't be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("too large for MongoDB: {bytes} bytes")]
    TooLarge { bytes: usize },
    #[error("fields of a later revision that have no form in MongoDB")]
    LaterFields,
    #[error("refused by MongoDB with code {code}: {message}")]
    Code { code: i32, message: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    /// Documents that were found or inserted.
    n: usize,
    n_modified: usize,
    #[serde(default)]
    write_errors: Vec<WriteError>,
    #[serde(default)]
    upserted: Vec<Upserted>,
    write_concern_error: Option<WriteConcernError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WriteError {
    index: usize,
    code: i32,
    #[serde(default)]
    errmsg: String,
    key_pattern: Option<Document>,
}

#[derive(Deserialize)]
struct Upserted {
    index: usize,
}

#[derive(Deserialize)]
struct WriteConcernError {
    code: i32,
    #[serde(default)]
    errmsg: String,
}

/// What the updates without a fault did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Which of the events made a new document, by their place among all.
    pub(super) inserted: HashSet<usize>,
    /// How many found a document and left it as it was.
    pub(super) unchanged: usize,
}

/// Enters the faults that `reply` names; what it does not name was applied.
///
/// # Errors
/// If the writes are not confirmed: some or all of them may yet be lost.
pub(super) fn read(
    reply: Document,
    events: &[usize],
    outcomes: &mut [WriteOutcome],
) -> Result<Written, Failure> {
    let reply: Reply = deserialize_from_document(reply).map_err(mongodb::error::Error::from)?;
    if let Some(WriteConcernError { code, errmsg }) = reply.write_concern_error {
        return Err(Failure::Unconfirmed(format!("code {code}: {errmsg}")));
    }
    for error in reply.write_errors {
        let Some(event) = events.get(error.index) else {
            let fault = format!("the reply names update {} of {}", error.index, events.len());
            return Err(Failure::Unconfirmed(fault));
        };
        outcomes[*event] = judge(error);
    }
    let changed = reply.upserted.len() + reply.n_modified;
    let inserted = reply.upserted.iter();
    Ok(Written {
        inserted: inserted
            .filter_map(|it| events.get(it.index).copied())
            .collect(),
        unchanged: reply.n.saturating_sub(changed),
    })
}

fn judge(error: WriteError) -> WriteOutcome {
    const DUPLICATE_KEY: i32 = 11000;
    /// Invalid BSON, document validation, object too large, and too large after the update.
    /// Not on the list means tried again: better to wait than to set aside what could be applied.
    const ABOUT_THE_DOCUMENT: [i32; 5] = [22, 121, 10334, 17419, 17420];

    let (code, message) = (error.code, error.errmsg);
    if code == DUPLICATE_KEY {
        return match error.key_pattern {
            // A unique index that somebody added; our own key can only collide in a race.
            Some(key) if !key.keys().eq(["_id"]) => {
                WriteOutcome::Refused(Refusal::Code { code, message })
            }
            _ => WriteOutcome::Contended,
        };
    }
    if ABOUT_THE_DOCUMENT.contains(&code) {
        return WriteOutcome::Refused(Refusal::Code { code, message });
    }
    WriteOutcome::Deferred { code, message }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Document, doc};

    use super::{Refusal, WriteOutcome, read};
    use crate::mongo::Failure;

    fn read_one(error: Document) -> WriteOutcome {
        let mut outcomes = vec![WriteOutcome::Applied; 3];
        let reply = doc! { "ok": 1, "n": 1, "nModified": 0, "writeErrors": [error] };
        read(reply, &[0, 2], &mut outcomes).expect("a confirmed reply");
        assert_eq!(
            outcomes[..2],
            [WriteOutcome::Applied, WriteOutcome::Applied]
        );
        outcomes.remove(2)
    }

    #[test]
    fn what_found_a_document_and_did_not_change_it_is_counted() {
        let upserted = doc! { "index": 1, "_id": 7 };
        let reply = doc! { "ok": 1, "n": 4, "nModified": 1, "upserted": [upserted] };
        let mut outcomes = vec![WriteOutcome::Applied; 4];
        let written = read(reply, &[0, 3, 1, 2], &mut outcomes).expect("a confirmed reply");
        assert_eq!(written.inserted.into_iter().collect::<Vec<_>>(), [3]);
        assert_eq!(written.unchanged, 2);
    }

    #[test]
    fn a_race_for_the_same_user_is_run_again() {
        let error =
            doc! { "index": 1, "code": 11000, "errmsg": "E11000", "keyPattern": { "_id": 1 } };
        assert_eq!(read_one(error), WriteOutcome::Contended);
    }

    #[test]
    fn a_foreign_unique_index_refuses_the_document() {
        let error =
            doc! { "index": 1, "code": 11000, "errmsg": "E11000", "keyPattern": { "email": 1 } };
        assert!(matches!(
            read_one(error),
            WriteOutcome::Refused(Refusal::Code { code: 11000, .. })
        ));
    }

    #[test]
    fn a_validator_refuses_the_document() {
        let error = doc! { "index": 1, "code": 121, "errmsg": "Document failed validation" };
        assert!(matches!(
            read_one(error),
            WriteOutcome::Refused(Refusal::Code { code: 121, .. })
        ));
    }

    #[test]
    fn a_step_down_midway_is_nobodys_fault() {
        for code in [10107, 11602, 189, 91, 50, 112, 4711] {
            let error = doc! { "index": 1, "code": code, "errmsg": "later" };
            assert!(
                matches!(read_one(error), WriteOutcome::Deferred { .. }),
                "{code}"
            );
        }
    }

    #[test]
    fn an_unconfirmed_write_is_a_failure_even_if_nothing_else_is_wrong() {
        let reply = doc! { "ok": 1, "n": 1, "nModified": 1, "writeConcernError": { "code": 64, "errmsg": "waiting" } };
        let outcome = read(reply, &[0], &mut [WriteOutcome::Applied]);
        assert!(matches!(outcome, Err(Failure::Unconfirmed(_))));
    }
}
