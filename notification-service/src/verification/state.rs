//! What all processes know of the verification of their copy.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ranges::Ranges, reason::Reason};
use crate::verify::{Compared, Difference, Verdict};

/// Differences that are kept and logged of one pass; the others are counted.
const MAX_DIFFERENCES: usize = 100;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// The pass that was begun and has not ended, whether somebody is at it or not.
    pub(super) pass: Option<Pass>,
    /// How many holes had ever been found when the pass began, if there were any.
    pub(super) holes_found: Option<i64>,
    pub(super) last_pass: Option<Pass>,
    pub(super) last_error: Option<PassError>,
    pub(super) ranges: Ranges,
}

/// One comparison of all users.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(super) struct Pass {
    pub(super) began_at: DateTime<Utc>,
    /// Absent as long as it has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) ended_at: Option<DateTime<Utc>>,
    /// The last id that was compared.
    #[schema(minimum = 0)]
    pub(super) through: i64,
    /// Users that were compared.
    #[schema(minimum = 0)]
    pub(super) users: u64,
    /// Users of the copy, with damaged documents.
    #[schema(minimum = 0)]
    pub(super) copies: u64,
    /// Users who differed for longer than the time to settle.
    #[schema(minimum = 0)]
    pub(super) found: u64,
    /// Those of them who agree since they were published again.
    #[schema(minimum = 0)]
    pub(super) repaired: u64,
    /// Those of them who still differ.
    #[schema(minimum = 0)]
    pub(super) remaining: u64,
    /// The first 100 of these.
    #[schema(max_items = 100)]
    pub(super) differences: Vec<Difference>,
}

/// Why a pass could not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct PassError {
    pub(super) at: DateTime<Utc>,
    /// In a few words; the log of the process that verifies tells more.
    #[schema(value_type = String)]
    pub(super) error: Reason,
}

impl Pass {
    pub(super) fn begin() -> Self {
        Self {
            began_at: Utc::now(),
            ended_at: None,
            through: 0,
            users: 0,
            copies: 0,
            found: 0,
            repaired: 0,
            remaining: 0,
            differences: Vec::new(),
        }
    }

    pub(super) fn log(&self) {
        let Self {
            users,
            copies,
            repaired,
            remaining,
            ..
        } = self;
        if *remaining == 0 {
            tracing::info!(users, copies, repaired, "the copy was verified: it agrees");
        } else {
            tracing::error!(
                users,
                copies,
                repaired,
                remaining,
                "the copy was verified: it differs"
            );
        }
    }
}

impl State {
    /// How long it is until the next pass is due; a pass that was begun is due at once.
    pub(super) fn rest(&self, every: Duration) -> Duration {
        let Some(last) = self.last_pass.as_ref().filter(|_| self.pass.is_none()) else {
            return Duration::ZERO;
        };
        // A clock that was set back does not put the next pass off by more than its interval.
        let since = (Utc::now() - last.began_at).to_std().unwrap_or_default();
        every.saturating_sub(since)
    }

    /// The id that the pass goes on from.
    pub(super) fn next(&self) -> i64 {
        self.pass.as_ref().map_or(0, |pass| pass.through) + 1
    }

    /// Takes down what became of a part of the users.
    pub(super) fn take(&mut self, compared: &Compared, verdict: Verdict) {
        let pass = self.pass.get_or_insert_with(Pass::begin);
        pass.through = compared.through;
        pass.users += compared.users;
        pass.copies += compared.copies;
        pass.repaired += verdict.repaired as u64;
        pass.remaining += verdict.differences.len() as u64;
        pass.found = pass.repaired + pass.remaining;
        let (first, last) = (compared.first, compared.through);
        if verdict.differences.is_empty() {
            self.ranges.add(first, last, compared.read_at);
        } else {
            self.ranges.remove(first, last);
        }
        let room = MAX_DIFFERENCES - pass.differences.len();
        for difference in verdict.differences.into_iter().take(room) {
            tracing::warn!(
                user_id = difference.user_id,
                difference = ?difference.difference,
                user_version = difference.user_version,
                copy_version = difference.copy_version,
                "the copy differs from the user service"
            );
            pass.differences.push(difference);
        }
    }

    /// The pass has compared all users. What it found.
    pub(super) fn end_pass(&mut self) -> Pass {
        let mut pass = self.pass.take().unwrap_or_else(Pass::begin);
        pass.ended_at = Some(Utc::now());
        self.holes_found = None;
        self.last_pass = Some(pass.clone());
        pass
    }
}
