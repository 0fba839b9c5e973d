//! What the relay counts and measures, and what is sampled of the outbox.

mod handles;

use service_runtime::metrics::{COUNTS, Counter, Description, Gauge, Histogram, SECONDS};

pub(crate) use self::handles::{RelayMetrics, SampledStream, StreamMetrics, approximate};

/// Bounds for the time from a write to its acknowledgement, which is minutes after an outage.
const DELAYS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 1_800.0,
];

// Sampled by every process with a relay role, every five seconds. NaN if Postgres does not answer; those
// of a stream that was forgotten, or to which no events are routed any more, are 0.

pub(crate) const PENDING_EVENTS: Gauge<1> = Gauge::new(
    "outbox_pending_events",
    ["stream"],
    "Events that are written but not yet on the stream, counted among the next 100,000.",
);
pub(crate) const OLDEST_PENDING_AGE: Gauge<1> = Gauge::new(
    "outbox_oldest_pending_age_seconds",
    ["stream"],
    "How long ago the oldest event was written that is not yet on the stream; 0 if there is none.",
);
pub(crate) const STREAM_SEQUENCE: Gauge<1> = Gauge::new(
    "outbox_stream_sequence",
    ["stream"],
    "The last sequence that the stream has acknowledged, as saved.",
);
pub(crate) const OPEN_GAPS: Gauge<1> = Gauge::new(
    "outbox_open_gaps",
    ["stream"],
    "Ranges of ids below the cursor that are awaited: of open transactions, or to be published again.",
);
pub(crate) const UNRECONCILED: Gauge<1> = Gauge::new(
    "outbox_unreconciled",
    ["stream"],
    "1 while it is unknown whether consumers have events that the database has lost, otherwise 0.",
);
pub(crate) const ORPHANS: Gauge<1> = Gauge::new(
    "outbox_orphans",
    ["stream"],
    "Aggregates with events that the database has lost and that are not restated, counted up to \
     100,000.",
);
pub(crate) const PARKED_EVENTS: Gauge<0> = Gauge::new(
    "outbox_parked_events",
    [],
    "Events that were set aside and wait for an operator, counted up to 100,000.",
);
pub(crate) const LEASE_HELD: Gauge<0> = Gauge::new(
    "outbox_lease_held",
    [],
    "1 while any relay holds the lease of this database, otherwise 0.",
);
pub(crate) const LEASE_EPOCH: Gauge<0> = Gauge::new(
    "outbox_lease_epoch",
    [],
    "Grows whenever another relay acquires the lease.",
);

// Of this process.

pub(crate) const RELAY_ACTIVE: Gauge<0> = Gauge::new(
    "outbox_relay_active",
    [],
    "1 while the relay of this process holds the lease, 0 while it stands by.",
);
pub(crate) const LEASE_LOSSES: Counter<0> = Counter::new(
    "outbox_lease_losses_total",
    [],
    "Times that the relay of this process lost the lease.",
);

// Of the active relay. The gauges are NaN in a process whose relay stands by, and the age of gaps between
// sessions as well.

pub(crate) const OLDEST_GAP_AGE: Gauge<1> = Gauge::new(
    "outbox_oldest_gap_age_seconds",
    ["stream"],
    "For how long the session has awaited the id that is missing for longest; 0 if none is.",
);
pub(crate) const IN_FLIGHT_EVENTS: Gauge<1> = Gauge::new(
    "outbox_in_flight_events",
    ["stream"],
    "Events that are sent and not yet acknowledged.",
);
pub(crate) const STREAM_INCARNATION: Gauge<1> = Gauge::new(
    "outbox_stream_incarnation",
    ["stream"],
    "Grows whenever the relay moves back because the stream has lost its end.",
);
pub(crate) const PUBLISHED: Counter<1> = Counter::new(
    "outbox_published_total",
    ["stream"],
    "Events that the stream has acknowledged, including duplicates.",
);
pub(crate) const DUPLICATES: Counter<1> = Counter::new(
    "outbox_duplicates_total",
    ["stream"],
    "Acknowledged events that the stream had already.",
);
pub(crate) const PUBLISH_FAILURES: Counter<1> = Counter::new(
    "outbox_publish_failures_total",
    ["stream"],
    "Events that were not acknowledged in time or were refused; they are sent again or parked.",
);
pub(crate) const PARKED: Counter<1> = Counter::new(
    "outbox_parked_total",
    ["stream"],
    "Events that the relay has set aside, because they have no route or the stream refuses them.",
);
pub(crate) const BATCH_EVENTS: Histogram<1> = Histogram::new(
    "outbox_batch_events",
    ["stream"],
    COUNTS,
    "Tasks in what one read of the outbox found: events, and ranges of other streams' events.",
);
pub(crate) const PUBLISH_DURATION: Histogram<1> = Histogram::new(
    "outbox_publish_duration_seconds",
    ["stream"],
    SECONDS,
    "From sending an event to its acknowledgement.",
);
pub(crate) const WRITTEN_TO_PUBLISHED: Histogram<1> = Histogram::new(
    "outbox_written_to_published_seconds",
    ["stream"],
    DELAYS,
    "From writing an event, by the clock of Postgres, to its acknowledgement; duplicates are left out.",
);
pub(crate) const SESSION_FAILURES: Counter<1> = Counter::new(
    "outbox_session_failures_total",
    ["stream"],
    "Sessions with a stream that ended with an error; another one follows.",
);
pub(crate) const STREAM_CHECKS: Counter<1> = Counter::new(
    "outbox_stream_checks_total",
    ["stream"],
    "Looks at the stream and at what Postgres says of it, one a second.",
);
pub(crate) const STREAM_LOSSES: Counter<1> = Counter::new(
    "outbox_stream_losses_total",
    ["stream"],
    "Times that messages were found missing that should be on the stream, at its end or elsewhere.",
);
pub(crate) const LOST: Counter<1> = Counter::new(
    "outbox_lost_total",
    ["stream"],
    "Messages that were found missing on the stream; their events are published again as far as the \
     outbox has them.",
);
pub(crate) const UNRECOVERABLE: Counter<1> = Counter::new(
    "outbox_unrecoverable_total",
    ["stream"],
    "Times that messages were found missing of which the outbox no longer has all events.",
);
pub(crate) const REFILLED: Counter<1> = Counter::new(
    "outbox_refilled_total",
    ["stream"],
    "Missing messages whose events are on the stream again, apart from those of its end.",
);
pub(crate) const REFILLS_FORGOTTEN: Counter<1> = Counter::new(
    "outbox_refills_forgotten_total",
    ["stream"],
    "Refilled ranges that the stream's metadata no longer name, since there are too many: consumers \
     that have not read of them keep holes until they are verified.",
);
pub(crate) const ORPHANS_FOUND: Counter<1> = Counter::new(
    "outbox_orphans_found_total",
    ["stream"],
    "Messages on the stream whose events the database does not have.",
);
pub(crate) const RESTATED: Counter<1> = Counter::new(
    "outbox_restated_total",
    ["stream"],
    "Aggregates of orphans that were restated.",
);
pub(crate) const SUPERSEDED: Counter<1> = Counter::new(
    "outbox_superseded_total",
    ["stream"],
    "Events that are not published, since their aggregates were restated.",
);

/// For docs/metrics.md.
pub const METRICS: &[Description] = &[
    PENDING_EVENTS.description(),
    OLDEST_PENDING_AGE.description(),
    STREAM_SEQUENCE.description(),
    OPEN_GAPS.description(),
    UNRECONCILED.description(),
    ORPHANS.description(),
    PARKED_EVENTS.description(),
    LEASE_HELD.description(),
    LEASE_EPOCH.description(),
    RELAY_ACTIVE.description(),
    LEASE_LOSSES.description(),
    OLDEST_GAP_AGE.description(),
    IN_FLIGHT_EVENTS.description(),
    STREAM_INCARNATION.description(),
    PUBLISHED.description(),
    DUPLICATES.description(),
    PUBLISH_FAILURES.description(),
    PARKED.description(),
    BATCH_EVENTS.description(),
    PUBLISH_DURATION.description(),
    WRITTEN_TO_PUBLISHED.description(),
    SESSION_FAILURES.description(),
    STREAM_CHECKS.description(),
    STREAM_LOSSES.description(),
    LOST.description(),
    UNRECOVERABLE.description(),
    REFILLED.description(),
    REFILLS_FORGOTTEN.description(),
    ORPHANS_FOUND.description(),
    RESTATED.description(),
    SUPERSEDED.description(),
];
