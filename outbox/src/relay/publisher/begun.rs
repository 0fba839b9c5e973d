//! Tasks that were begun, and how they end.

use std::ops::Range;

use async_nats::jetstream::{
    context::{PublishAckFuture, PublishError},
    publish::PublishAck,
};
use futures::future::BoxFuture;
use tokio::time::Instant;
use uuid::Uuid;

use crate::relay::{send_span::SendSpan, task::Publication};

/// A task that was begun, and how to learn its end.
pub(super) enum Begun<'a> {
    Published(Published, PublishAckFuture),
    Parking(Vec<(i64, Uuid)>, BoxFuture<'a, sqlx::Result<bool>>),
    Skipped(Range<i64>, Uuid),
    Superseded(i64, Uuid),
    Abandoned(Range<i64>),
}

pub(super) enum Finished {
    Published(Published, Result<PublishAck, PublishError>),
    Parked(Vec<(i64, Uuid)>, sqlx::Result<bool>),
    Skipped(Range<i64>, Uuid),
    Superseded(i64, Uuid),
    Abandoned(Range<i64>),
}

pub(super) struct Published {
    pub(super) sent_at: Instant,
    /// It may have to be published again.
    pub(super) event: Box<Publication>,
    pub(super) span: SendSpan,
}

pub(super) async fn finish(begun: Begun<'_>) -> Finished {
    match begun {
        Begun::Published(mut published, ack) => {
            let answer = ack.await;
            published.span.conclude(&answer);
            Finished::Published(published, answer)
        }
        Begun::Parking(events, parking) => Finished::Parked(events, parking.await),
        Begun::Skipped(ids, last_event_id) => Finished::Skipped(ids, last_event_id),
        Begun::Superseded(id, event_id) => Finished::Superseded(id, event_id),
        Begun::Abandoned(ids) => Finished::Abandoned(ids),
    }
}
