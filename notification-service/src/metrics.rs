//! What is counted and measured of the copy.

use metrics::Counter;
use service_runtime::metrics::{self as declared, Description, SECONDS};

const EVENTS: declared::Counter<1> = declared::Counter::new(
    "projection_events_total",
    ["outcome"],
    "What became of events in this process. applied: the copy has it. stale: MongoDB said of its \
     update that it changed nothing, as the copy had this version or a later one (`n` less \
     `nModified` and `upserted` of the reply, so a repeat counts too). superseded: a later event of \
     the same user in the same batch was written instead. contended: another writer was at the same \
     user, and the event was written again at once. deferred: MongoDB did not take it now. refused: \
     MongoDB will never take it.",
);
pub(crate) const WRITE_DURATION: declared::Histogram<0> = declared::Histogram::new(
    "projection_write_duration_seconds",
    [],
    SECONDS,
    "How long an update command took until a majority had it in its journal, or it failed.",
);
pub(crate) const VERIFICATION_AGE: declared::Gauge<0> = declared::Gauge::new(
    "verification_age_seconds",
    [],
    "How long ago the last comparison of all users began that was completed, by any process; without \
     one, how long this process has been comparing. Not a number without verification.",
);
pub(crate) const DIFFERENCES: declared::Gauge<0> = declared::Gauge::new(
    "verification_differences",
    [],
    "Users who differed at the end of the last comparison of all users, after repairs.",
);
pub(crate) const REPAIRED: declared::Counter<0> = declared::Counter::new(
    "verification_repaired_total",
    [],
    "Users who differed and agree since this process had them published again.",
);
pub(crate) const FAILURES: declared::Counter<0> = declared::Counter::new(
    "verification_failures_total",
    [],
    "Comparisons by this process that could not go on; they are continued after a pause.",
);
pub(crate) const FOLLOWERS: declared::Gauge<0> = declared::Gauge::new(
    "live_followers",
    [],
    "Clients that follow /notifications/stream now.",
);

/// For the list of all metrics.
pub const METRICS: &[Description] = &[
    EVENTS.description(),
    WRITE_DURATION.description(),
    VERIFICATION_AGE.description(),
    DIFFERENCES.description(),
    REPAIRED.description(),
    FAILURES.description(),
    FOLLOWERS.description(),
];

/// Of the events that were written or not.
#[derive(Debug, Clone)]
pub(crate) struct EventMetrics {
    pub(crate) applied: Counter,
    pub(crate) stale: Counter,
    pub(crate) superseded: Counter,
    pub(crate) contended: Counter,
    pub(crate) deferred: Counter,
    pub(crate) refused: Counter,
}

impl EventMetrics {
    pub(crate) fn new() -> Self {
        let events = |outcome| EVENTS.with([outcome]);
        Self {
            applied: events("applied"),
            stale: events("stale"),
            superseded: events("superseded"),
            contended: events("contended"),
            deferred: events("deferred"),
            refused: events("refused"),
        }
    }
}

/// Of the verification in this process.
#[derive(Debug, Clone)]
pub(crate) struct VerificationMetrics {
    pub(crate) repaired: Counter,
    pub(crate) failures: Counter,
}

impl VerificationMetrics {
    pub(crate) fn new() -> Self {
        Self {
            repaired: REPAIRED.with([]),
            failures: FAILURES.with([]),
        }
    }
}
