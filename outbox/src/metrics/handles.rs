//! Handles: got once, used often.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics::{Counter, Gauge, Histogram};

use super as declared;

/// Of the relay of this process.
#[derive(Debug)]
pub(crate) struct RelayMetrics {
    pub(crate) active: Gauge,
    pub(crate) lease_losses: Counter,
}

/// Of the relay's work for one stream.
#[derive(Debug)]
pub(crate) struct StreamMetrics {
    published: Counter,
    duplicates: Counter,
    publish_duration: Histogram,
    written_to_published: Histogram,
    batch_events: Histogram,
    oldest_gap_age: Gauge,
    incarnation: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) publish_failures: Counter,
    pub(crate) parked: Counter,
    pub(crate) session_failures: Counter,
    pub(crate) checks: Counter,
    losses: Counter,
    lost: Counter,
    pub(crate) unrecoverable: Counter,
    pub(crate) refilled: Counter,
    pub(crate) refills_forgotten: Counter,
    pub(crate) orphans_found: Counter,
    pub(crate) restated: Counter,
    pub(crate) superseded: Counter,
}

/// What is sampled of one stream.
#[derive(Debug)]
pub(crate) struct SampledStream {
    pub(crate) pending: Gauge,
    pub(crate) oldest_pending_age: Gauge,
    pub(crate) sequence: Gauge,
    pub(crate) open_gaps: Gauge,
    pub(crate) unreconciled: Gauge,
    pub(crate) orphans: Gauge,
}

impl RelayMetrics {
    pub(crate) fn new() -> Self {
        let active = declared::RELAY_ACTIVE.with([]);
        active.set(0);
        Self {
            active,
            lease_losses: declared::LEASE_LOSSES.with([]),
        }
    }
}

impl StreamMetrics {
    pub(crate) fn new(stream: &str) -> Self {
        let metrics = Self {
            published: declared::PUBLISHED.with([stream]),
            duplicates: declared::DUPLICATES.with([stream]),
            publish_duration: declared::PUBLISH_DURATION.with([stream]),
            written_to_published: declared::WRITTEN_TO_PUBLISHED.with([stream]),
            batch_events: declared::BATCH_EVENTS.with([stream]),
            oldest_gap_age: declared::OLDEST_GAP_AGE.with([stream]),
            incarnation: declared::STREAM_INCARNATION.with([stream]),
            in_flight: declared::IN_FLIGHT_EVENTS.with([stream]),
            publish_failures: declared::PUBLISH_FAILURES.with([stream]),
            parked: declared::PARKED.with([stream]),
            session_failures: declared::SESSION_FAILURES.with([stream]),
            checks: declared::STREAM_CHECKS.with([stream]),
            losses: declared::STREAM_LOSSES.with([stream]),
            lost: declared::LOST.with([stream]),
            unrecoverable: declared::UNRECOVERABLE.with([stream]),
            refilled: declared::REFILLED.with([stream]),
            refills_forgotten: declared::REFILLS_FORGOTTEN.with([stream]),
            orphans_found: declared::ORPHANS_FOUND.with([stream]),
            restated: declared::RESTATED.with([stream]),
            superseded: declared::SUPERSEDED.with([stream]),
        };
        metrics.stand_by();
        metrics
    }

    /// What only an active relay knows is not known any more.
    pub(crate) fn stand_by(&self) {
        for gauge in [&self.oldest_gap_age, &self.incarnation, &self.in_flight] {
            gauge.set(f64::NAN);
        }
    }

    /// What only a session knows is not known before the next one.
    pub(crate) fn session_ended(&self) {
        self.in_flight.set(0);
        self.oldest_gap_age.set(f64::NAN);
    }

    pub(crate) fn session_began(&self, incarnation: u64) {
        self.incarnation.set(approximate(incarnation));
    }

    pub(crate) fn read(&self, tasks: usize, oldest_gap_age: Duration) {
        if tasks > 0 {
            self.batch_events.record(approximate(tasks as u64));
        }
        self.oldest_gap_age.set(oldest_gap_age);
    }

    /// An event was acknowledged that was sent at this time.
    pub(crate) fn acknowledged(&self, sent_at: Instant, written_at: DateTime<Utc>, again: bool) {
        self.published.increment(1);
        self.publish_duration.record(sent_at.elapsed());
        if again {
            self.duplicates.increment(1);
        } else {
            let since = Utc::now() - written_at;
            self.written_to_published
                .record(since.to_std().unwrap_or_default());
        }
    }

    /// Messages were found missing on the stream.
    pub(crate) fn lost(&self, messages: i64) {
        self.losses.increment(1);
        self.lost.increment(messages.max(0).cast_unsigned());
    }
}

impl SampledStream {
    pub(crate) fn new(stream: &str) -> Self {
        Self {
            pending: declared::PENDING_EVENTS.with([stream]),
            oldest_pending_age: declared::OLDEST_PENDING_AGE.with([stream]),
            sequence: declared::STREAM_SEQUENCE.with([stream]),
            open_gaps: declared::OPEN_GAPS.with([stream]),
            unreconciled: declared::UNRECONCILED.with([stream]),
            orphans: declared::ORPHANS.with([stream]),
        }
    }

    /// It is not known.
    pub(crate) fn forget(&self) {
        for gauge in [
            &self.pending,
            &self.oldest_pending_age,
            &self.sequence,
            &self.open_gaps,
            &self.unreconciled,
            &self.orphans,
        ] {
            gauge.set(f64::NAN);
        }
    }
}

/// Numbers above 2^53 are rounded.
#[expect(
    clippy::cast_precision_loss,
    reason = "so are all values of Prometheus"
)]
pub(crate) fn approximate(number: u64) -> f64 {
    number as f64
}
