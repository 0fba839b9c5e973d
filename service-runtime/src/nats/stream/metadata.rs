//! What the relay says of a stream in its metadata, for its readers and for other relays.
//!
//! The relay alone knows and writes it. It counts for the very stream that it was written for: one
//! that was created from a saved configuration has the metadata of the other, and another time of
//! creation, which each value names.

mod incarnations;
mod refills;

use async_nats::jetstream::stream::{Config, Info};

pub use self::{
    incarnations::{Incarnation, Incarnations},
    refills::{Refill, Refills},
};

const COMPLETE_FROM: &str = "complete-from";
const LEDGER: &str = "ledger";
const INCARNATION: &str = "incarnation";
const REFILLED: &str = "refilled";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamMetadata {
    /// From this sequence on the messages are enough to build a whole copy; `None` if that is not
    /// known. (A stream that was lost and created again begins at sequence 1 as well, and lacks
    /// what the outbox had dropped.)
    pub complete_from: Option<u64>,
    /// Whose events these are.
    pub ledger: Option<LedgerIdentity>,
    /// When messages may have been replaced by others.
    pub incarnations: Incarnations,
    /// What was missing and was published again.
    pub refilled: Refills,
}

/// The ledger that a relay publishes, and the database that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// Of the ledger: copies of a database keep it.
    pub ledger_id: String,
    /// Of the server: each copy has its own.
    pub database: String,
}

impl StreamMetadata {
    #[must_use]
    pub fn of(info: &Info) -> Self {
        let value = |key| value(info, key);
        Self {
            complete_from: value(COMPLETE_FROM).and_then(|it| it.parse().ok()),
            ledger: value(LEDGER).and_then(LedgerIdentity::parse),
            incarnations: value(INCARNATION)
                .map(Incarnations::parse)
                .unwrap_or_default(),
            refilled: value(REFILLED).map(Refills::parse).unwrap_or_default(),
        }
    }

    /// The stream's configuration with this in its metadata; `None` if it is there already.
    #[must_use]
    pub fn config(&self, info: &Info) -> Option<Config> {
        let wanted = [
            (COMPLETE_FROM, self.complete_from.map(|it| it.to_string())),
            (LEDGER, self.ledger.as_ref().map(LedgerIdentity::to_string)),
            (INCARNATION, self.incarnations.to_text()),
            (REFILLED, self.refilled.to_text()),
        ];
        let mut config = info.config.clone();
        for (key, value) in wanted {
            match value {
                Some(value) => {
                    let value = format!("{value} {}", created_at(info));
                    config.metadata.insert(key.to_owned(), value);
                }
                None => {
                    config.metadata.remove(key);
                }
            }
        }
        (config.metadata != info.config.metadata).then_some(config)
    }
}

impl LedgerIdentity {
    /// As it is written into the metadata, and as a relay says it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ledger_id, database) = text.split_once(' ')?;
        Some(Self {
            ledger_id: ledger_id.to_owned(),
            database: database.to_owned(),
        })
    }
}

impl std::fmt::Display for LedgerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.ledger_id, self.database)
    }
}

/// What stands under the key, if it was written for this very stream.
fn value<'a>(info: &'a Info, key: &str) -> Option<&'a str> {
    let (value, created) = info.config.metadata.get(key)?.rsplit_once(' ')?;
    (created == created_at(info)).then_some(value)
}

fn created_at(info: &Info) -> String {
    info.created.unix_timestamp_nanos().to_string()
}

#[cfg(test)]
mod tests;
