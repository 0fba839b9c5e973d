//! Decisions, as `outbox/src/relay/decisions.rs`, `event-consumer/src/decisions.rs` and
//! `notification-service/src/consumer/event.rs` write them.

use serde::Deserialize;
use serde_json::Value;

use super::ranges::Ranges;

#[derive(Debug)]
pub(super) enum Decision {
    OfRelay(RelayDecision),
    OfConsumer(ConsumerDecision),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub(super) enum RelayDecision {
    LeaseTaken {
        epoch: i64,
        database: String,
    },
    LeaseLost {
        epoch: i64,
    },
    SessionBegan(Began),
    MovedBack(Lease),
    GapsDead {
        up_to: i64,
        bound: i64,
        horizon: i64,
    },
    Sent(Sent),
    Published(Acknowledged),
    Duplicate(Acknowledged),
    Skipped(Passed),
    Superseded(Passed),
    Parked(Passed),
    GapAbandoned(Passed),
    CursorSaved(Saved),
    LossNoted {
        #[serde(flatten)]
        lease: Lease,
        ids: Ranges,
    },
    Restated {
        #[serde(flatten)]
        lease: Lease,
        aggregate: String,
        above: Option<i64>,
    },
}

/// Which stream's cursor, and by which right.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Lease {
    pub(super) stream: String,
    pub(super) epoch: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Began {
    #[serde(flatten)]
    pub(super) lease: Lease,
    pub(super) database: String,
    pub(super) last_id: i64,
    pub(super) gaps: Ranges,
    pub(super) refill: Ranges,
    pub(super) missing: Ranges,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sent {
    #[serde(flatten)]
    pub(super) lease: Lease,
    pub(super) outbox_id: i64,
    pub(super) aggregate: String,
    pub(super) version: Option<i64>,
    pub(super) is_again: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Acknowledged {
    #[serde(flatten)]
    pub(super) lease: Lease,
    pub(super) outbox_id: i64,
    pub(super) sequence: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Passed {
    #[serde(flatten)]
    pub(super) lease: Lease,
    pub(super) ids: Ranges,
}

#[derive(Debug, Deserialize)]
pub(super) struct Saved {
    #[serde(flatten)]
    pub(super) lease: Lease,
    pub(super) last_id: i64,
    pub(super) gaps: Ranges,
}

#[derive(Debug, Deserialize)]
pub(super) struct ConsumerDecision {
    #[serde(rename = "decision")]
    pub(super) outcome: Outcome,
    pub(super) stream_sequence: u64,
    pub(super) user_id: Option<i64>,
    pub(super) version: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Received,
    Applied,
    Stale,
    Superseded,
    Retried,
    DeadLettered,
    Acknowledged,
}

impl Decision {
    /// `None` if the line is none: of another target, or cut off by a kill.
    pub(super) fn of(line: &str) -> Option<serde_json::Result<Self>> {
        if !line.contains("decision") {
            return None;
        }
        let line: Value = serde_json::from_str(line).ok()?;
        if line["target"] != "decision" {
            return None;
        }
        let is_of_relay = line.get("epoch").is_some() || line.get("bound").is_some();
        Some(match is_of_relay {
            true => serde_json::from_value(line).map(Self::OfRelay),
            false => serde_json::from_value(line).map(Self::OfConsumer),
        })
    }
}
