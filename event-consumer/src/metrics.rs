//! What is counted and measured, for each durable consumer by its name.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use metrics::{Counter, Histogram};
use service_runtime::{
    metrics::{self as declared, COUNTS, Description, SECONDS},
    nats::ConsumerName,
};

use crate::{Message, backlog::Backlog};

const MESSAGES: declared::Counter<2> = declared::Counter::new(
    "consumer_messages_total",
    ["consumer", "verdict"],
    "Messages that this process has brought to an end or given back: acknowledged, retried (to be \
     delivered again) or dead_lettered (stored as a dead letter).",
);
const REDELIVERED: declared::Counter<1> = declared::Counter::new(
    "consumer_redelivered_total",
    ["consumer"],
    "Messages that came to this process and had been delivered before, here or elsewhere.",
);
const REWINDS: declared::Counter<1> = declared::Counter::new(
    "consumer_rewinds_total",
    ["consumer"],
    "How often this process had the consumer go back and deliver messages again: the stream had lost \
     messages that were read, or the store of the effects may have been put back.",
);
const BATCH_MESSAGES: declared::Histogram<1> = declared::Histogram::new(
    "consumer_batch_messages",
    ["consumer"],
    COUNTS,
    "Messages that the handler was given at once.",
);
const HANDLE_DURATION: declared::Histogram<1> = declared::Histogram::new(
    "consumer_handle_duration_seconds",
    ["consumer"],
    SECONDS,
    "How long the handler took for a batch, whether it gave verdicts or failed.",
);
/// Bounds for the delay of a message, up to that of an outage.
const DELAYS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 3_600.0,
];
const PUBLISHED_TO_HANDLED: declared::Histogram<1> = declared::Histogram::new(
    "consumer_published_to_handled_seconds",
    ["consumer"],
    DELAYS,
    "From when the stream stored a message to when it was acknowledged, by the clocks of two hosts.",
);
const WRITTEN_TO_HANDLED: declared::Histogram<1> = declared::Histogram::new(
    "consumer_written_to_handled_seconds",
    ["consumer"],
    DELAYS,
    "From when an event was written (`ce-time`) to when its message was acknowledged, by the clocks \
     of two hosts: from commit to applied.",
);
const PENDING: declared::Gauge<1> = declared::Gauge::new(
    "consumer_pending_messages",
    ["consumer"],
    "Messages on the stream that were not delivered yet. All processes that share the consumer \
     tell the same.",
);
const UNACKNOWLEDGED: declared::Gauge<1> = declared::Gauge::new(
    "consumer_unacknowledged_messages",
    ["consumer"],
    "Messages that were delivered to any process and are not acknowledged yet.",
);
const REDELIVERED_NOW: declared::Gauge<1> = declared::Gauge::new(
    "consumer_redelivered_messages",
    ["consumer"],
    "Of the unacknowledged messages, those that were delivered more than once.",
);
const ACK_FLOOR: declared::Gauge<1> = declared::Gauge::new(
    "consumer_ack_floor_sequence",
    ["consumer"],
    "The sequence on the stream up to which all messages are acknowledged.",
);
const LAG: declared::Gauge<1> = declared::Gauge::new(
    "consumer_lag_seconds",
    ["consumer"],
    "The age of the oldest message on the stream that is not acknowledged; 0 if all are. While NATS \
     does not answer it grows from the last answer.",
);
const HOLES: declared::Gauge<1> = declared::Gauge::new(
    "consumer_holes",
    ["consumer"],
    "Ranges of messages that left the stream before they were read and are not made up for; not a \
     number until this was looked at.",
);
const DEAD_LETTERS: declared::Gauge<1> = declared::Gauge::new(
    "consumer_dead_letters",
    ["consumer"],
    "Messages that this consumer has rejected and that wait for an operator.",
);

/// For the list of all metrics.
pub const METRICS: &[Description] = &[
    MESSAGES.description(),
    REDELIVERED.description(),
    REWINDS.description(),
    BATCH_MESSAGES.description(),
    HANDLE_DURATION.description(),
    PUBLISHED_TO_HANDLED.description(),
    WRITTEN_TO_HANDLED.description(),
    PENDING.description(),
    UNACKNOWLEDGED.description(),
    REDELIVERED_NOW.description(),
    ACK_FLOOR.description(),
    LAG.description(),
    HOLES.description(),
    DEAD_LETTERS.description(),
];

/// Of a consumer's work in this process.
#[derive(Debug, Clone)]
pub(crate) struct WorkMetrics {
    acknowledged: Counter,
    retried: Counter,
    dead_lettered: Counter,
    redelivered: Counter,
    batch_messages: Histogram,
    handle_duration: Histogram,
    published_to_handled: Histogram,
    written_to_handled: Histogram,
}

impl WorkMetrics {
    pub(crate) fn new(consumer: &ConsumerName) -> Self {
        let consumer = consumer.as_str();
        // So that the first one is an increase.
        REWINDS.with([consumer]).increment(0);
        let messages = |verdict| MESSAGES.with([consumer, verdict]);
        Self {
            acknowledged: messages("acknowledged"),
            retried: messages("retried"),
            dead_lettered: messages("dead_lettered"),
            redelivered: REDELIVERED.with([consumer]),
            batch_messages: BATCH_MESSAGES.with([consumer]),
            handle_duration: HANDLE_DURATION.with([consumer]),
            published_to_handled: PUBLISHED_TO_HANDLED.with([consumer]),
            written_to_handled: WRITTEN_TO_HANDLED.with([consumer]),
        }
    }

    pub(crate) fn received(&self, batch: &[Message]) {
        let is_redelivery = |message: &&Message| {
            let delivery = message.delivery();
            delivery.is_some_and(|delivery| delivery.deliveries > 1)
        };
        let redelivered = batch.iter().filter(is_redelivery).count();
        self.redelivered.increment(redelivered as u64);
    }

    /// The handler has had so many messages for so long.
    pub(crate) fn handled(&self, messages: usize, elapsed: Duration) {
        self.batch_messages.record(messages as f64);
        self.handle_duration.record(elapsed);
    }

    pub(crate) fn acknowledged(&self, messages: &[&Message]) {
        let now = Utc::now();
        for message in messages {
            if let Some(delivery) = message.delivery() {
                let age = seconds(now - delivery.published_at);
                self.published_to_handled.record(age);
            }
            if let Some(written_at) = message.written_at() {
                self.written_to_handled.record(seconds(now - written_at));
            }
        }
        self.acknowledged.increment(messages.len() as u64);
    }

    pub(crate) fn retried(&self, messages: usize) {
        self.retried.increment(messages as u64);
    }

    pub(crate) fn dead_lettered(&self, messages: usize) {
        self.dead_lettered.increment(messages as u64);
    }
}

pub(crate) fn went_back(consumer: &str) {
    REWINDS.with([consumer]).increment(1);
}

/// Has the gauges tell what is known of the consumer: its lag, and what waits there.
pub(crate) fn show_backlog(
    known: impl Fn() -> (Option<Duration>, Option<Backlog>) + Send + 'static,
    consumer: &ConsumerName,
) {
    let gauge = |declared: declared::Gauge<1>| declared.with([consumer.as_str()]);
    let (pending, unacknowledged) = (gauge(PENDING), gauge(UNACKNOWLEDGED));
    let (redelivered, ack_floor) = (gauge(REDELIVERED_NOW), gauge(ACK_FLOOR));
    let (age, dead_letters) = (gauge(LAG), gauge(DEAD_LETTERS));
    declared::on_scrape(move || {
        let (lag, backlog) = known();
        let figure = |figure: fn(&Backlog) -> u64| number(backlog.as_ref().map(figure));
        pending.set(figure(|it| it.pending));
        unacknowledged.set(figure(|it| it.unacknowledged));
        redelivered.set(figure(|it| it.redelivered));
        ack_floor.set(figure(|it| it.ack_floor));
        dead_letters.set(number(backlog.and_then(|it| it.dead_letters)));
        age.set(lag.map_or(f64::NAN, |lag| lag.as_secs_f64()));
    });
}

/// Has the gauge tell how many holes are known.
pub(crate) fn show_holes(
    open: impl Fn() -> Option<usize> + Send + 'static,
    consumer: &ConsumerName,
) {
    let holes = HOLES.with([consumer.as_str()]);
    declared::on_scrape(move || holes.set(number(open().map(|open| open as u64))));
}

/// Not a number if it is not known: no alert fires for it, and no graph shows it.
fn number(figure: Option<u64>) -> f64 {
    figure.map_or(f64::NAN, |figure| figure as f64)
}

/// Two clocks may differ by a little.
fn seconds(age: TimeDelta) -> f64 {
    age.to_std().unwrap_or_default().as_secs_f64()
}
