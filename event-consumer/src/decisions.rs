//! What becomes of messages, recorded for `protocol-model`, which knows what is allowed.

use service_runtime::telemetry::decisions::{TARGET, are_recorded};
use tracing::trace;

use crate::Message;

pub(crate) fn received(batch: &[Message]) {
    if are_recorded() {
        for delivery in batch.iter().filter_map(Message::delivery) {
            trace!(
                target: TARGET,
                decision = "received",
                stream_sequence = delivery.stream_sequence,
                deliveries = delivery.deliveries,
            );
        }
    }
}

pub(crate) fn acknowledged(messages: &[&Message]) {
    if are_recorded() {
        for delivery in messages.iter().filter_map(|it| it.delivery()) {
            trace!(
                target: TARGET,
                decision = "acknowledged",
                stream_sequence = delivery.stream_sequence,
            );
        }
    }
}
