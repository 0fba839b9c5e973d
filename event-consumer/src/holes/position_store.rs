//! Where the position is kept.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

/// Sequences of messages, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub first: i64,
    pub last: i64,
}

/// Messages that left the stream before they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    pub range: Range,
    /// In whole milliseconds.
    pub found_at: DateTime<Utc>,
}

impl Hole {
    pub(super) fn new(range: Range) -> Self {
        Self {
            range,
            found_at: Utc::now().trunc_subsecs(3),
        }
    }
}

/// Up to where messages were settled, as whoever saw this run of the server found out. The position may have
/// reached another run, with an older store: there this tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub server: Option<String>,
    pub settled: i64,
}

/// How far the stream is known to be read, and what was missed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the stream was created, in nanoseconds since 1970: another one counts from 1 again.
    pub stream: i64,
    /// In which incarnation of the stream `settled` counts; 0 before the first.
    #[serde(default)]
    pub incarnation: u64,
    /// All messages up to here were acknowledged or rejected, but for those in `holes`, and whatever store has
    /// this position has their effects.
    pub settled: i64,
    /// What is settled beyond that, found out by the last look.
    #[serde(default)]
    pub claim: Option<Claim>,
    /// Sequences above `settled` that were found missing already; at most 100 ranges.
    pub known: Vec<Range>,
    /// Not yet made up for; at most 100.
    pub holes: Vec<Hole>,
    /// How many messages were ever found missing.
    pub found: i64,
}

/// A position, and the revision that it must still have to be replaced.
#[derive(Debug, Clone)]
pub struct StoredPosition {
    pub position: Position,
    pub revision: i64,
}

impl StoredPosition {
    /// With a revision that is higher than the one before, and than any of a backup: it tells the time, in
    /// milliseconds since 1970. (Clocks of hosts must not differ by as much as a backup is old.)
    pub(super) fn after(before: Option<i64>, position: Position) -> Self {
        let now = Utc::now().timestamp_millis();
        let revision = before.map_or(now, |before| now.max(before + 1));
        Self { position, revision }
    }
}

/// Keeps the [`Position`] of one consumer, beside what its handler writes, so that a backup has both as
/// of the same moment. All processes that share the consumer share it. Every call is to have a deadline.
pub trait PositionStore: Send + Sync + 'static {
    /// `None` if there is none yet.
    ///
    /// # Errors
    /// If the store does not answer.
    fn load(&self) -> impl Future<Output = anyhow::Result<Option<StoredPosition>>> + Send;

    /// What tells the present run of the server from any other: of the same server after a restart, of
    /// another one that has taken its place. `None` if that can't be told: then a store that was put back
    /// is noticed by its revision alone, and not if that is still the same.
    ///
    /// # Errors
    /// If the store does not answer.
    fn server(&self) -> impl Future<Output = anyhow::Result<Option<String>>> + Send;

    /// Replaces the position and its revision if the revision is still `expected`, or creates them if that is
    /// `None` and there is no position. False if another process was faster.
    ///
    /// # Errors
    /// If the store does not answer.
    fn save(
        &self,
        stored: &StoredPosition,
        expected: Option<i64>,
    ) -> impl Future<Output = anyhow::Result<bool>> + Send;
}
