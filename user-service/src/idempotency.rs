//! Requests that may be repeated (`Idempotency-Key`, draft-ietf-httpapi-idempotency-key-header).
//!
//! The key and the outcome are written in the transaction of the write itself: either all of them
//! are there or none. Whoever is at work under a key holds an advisory lock until its transaction
//! ends; the table's primary key is the last word.

mod key;
mod sweep;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use sqlx::types::Json;

use postgres_pool::Connection;

pub(crate) use self::{key::Key, sweep::sweep};

/// SHA-256 of what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<u8>);

/// Makes a fingerprint of what comes part by part. Parts are told apart: `["ab", "c"]` and
/// `["a", "bc"]` differ.
#[derive(Debug)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// Of a request of this kind.
    pub(crate) fn new(kind: &[u8]) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.add(kind);
        hasher
    }

    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    pub(crate) fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finalize().to_vec())
    }
}

/// A transaction that is carried out once under a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) key: &'a Key,
    /// Tells the transactions of a request apart that has several.
    pub(crate) part: i32,
}

/// The outcome of an operation that was carried out before.
#[derive(Debug)]
pub(crate) struct StoredOutcome {
    fingerprint: Vec<u8>,
    outcome: String,
}

impl StoredOutcome {
    /// The outcome, if the request was the same.
    pub(crate) fn outcome<T: DeserializeOwned>(self, asked: &Fingerprint) -> Result<T, KeyError> {
        if self.fingerprint != asked.0 {
            return Err(KeyError::Reused);
        }
        let outcome = serde_json::from_str(&self.outcome);
        outcome.map_err(|error| sqlx::Error::Decode(error.into()).into())
    }
}

/// Why an operation is not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("a request under this key is in progress")]
    InProgress,
    #[error("this key was used for another request")]
    Reused,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Operation<'_> {
    /// The outcome if it was carried out before; if `None`, nobody else carries it out until the
    /// transaction ends that `db` is in.
    ///
    /// Clients choose the key, so the lock's text begins with a word of its own: writers of aggregates
    /// have locks of the same kind, such as that of `order/7`.
    pub(crate) async fn begin(
        self,
        db: &mut Connection,
    ) -> Result<Option<StoredOutcome>, KeyError> {
        let row = sqlx::query!(
            r#"
            select pg_try_advisory_xact_lock(
                       hashtextextended('idempotency_key/' || $2::int || '/' || $1::text, 0)
                   ) as "is_locked!",
                   fingerprint as "fingerprint?", outcome::text
            from (select) as always
            left join idempotency_key on key = $1 and part = $2
            "#,
            self.key.as_str(),
            self.part,
        )
        .fetch_one(db)
        .await?;
        match (row.fingerprint, row.outcome) {
            (Some(fingerprint), Some(outcome)) => Ok(Some(StoredOutcome {
                fingerprint,
                outcome,
            })),
            _ if row.is_locked => Ok(None),
            _ => Err(KeyError::InProgress),
        }
    }

    /// Stores the outcome, in the transaction that brings it about.
    pub(crate) async fn finish<T: Serialize + Sync>(
        self,
        db: &mut Connection,
        asked: &Fingerprint,
        outcome: &T,
    ) -> Result<(), KeyError> {
        let stored = sqlx::query!(
            r"
            insert into idempotency_key (key, part, fingerprint, outcome) values ($1, $2, $3, $4)
            on conflict do nothing
            ",
            self.key.as_str(),
            self.part,
            asked.0,
            Json(outcome) as _,
        )
        .execute(db)
        .await?;
        // Another request has finished between our look and our lock.
        if stored.rows_affected() == 0 {
            return Err(KeyError::InProgress);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, Hasher};

    #[test]
    fn parts_are_told_apart() {
        let of = |parts: &[&str]| -> Fingerprint {
            let mut hasher = Hasher::new(b"a kind");
            parts.iter().for_each(|part| hasher.add(part.as_bytes()));
            hasher.finish()
        };
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
    }
}
