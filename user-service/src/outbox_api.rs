//! `/outbox`: what people see of the outbox, and what operators decide. No personal data: payloads are
//! left to the command line.

mod event;
mod parked;
mod stream;

use outbox::{NatsOnDemand, Written, journey::Journeys};
use postgres_pool::{Failure, Pool};
use service_runtime::{
    http::{Feed, Routes},
    problem::{Kind, Problem},
};
use utoipa_axum::router::OpenApiRouter;

pub(crate) use self::stream::tell;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct OutboxApi {
    /// For changes.
    pool: Pool,
    reads: Pool,
    /// Raised after a parked event was appended again, so that it is published at once.
    written: Written,
    journeys: Journeys,
    feed: Feed,
}

impl OutboxApi {
    pub(crate) fn new(
        pool: Pool,
        reads: Pool,
        written: Written,
        nats: NatsOnDemand,
        feed: Feed,
    ) -> Self {
        Self {
            pool,
            journeys: Journeys::new(reads.clone(), nats),
            reads,
            written,
            feed,
        }
    }
}

pub(crate) fn routes(api: OutboxApi) -> Routes {
    described().with_state(api)
}

/// The description of the same routes, without what serves them.
pub(crate) fn description() -> Routes {
    let Routes {
        bounded, streaming, ..
    } = described();
    Routes {
        bounded: OpenApiRouter::with_openapi(bounded.into_openapi()),
        streaming: OpenApiRouter::with_openapi(streaming.into_openapi()),
        ..Routes::default()
    }
}

fn described() -> Routes<OutboxApi> {
    Routes {
        bounded: parked::router().merge(event::router()),
        streaming: stream::router(),
        ..Routes::default()
    }
}

fn problem_of(error: &sqlx::Error) -> Problem {
    match Failure::from(error) {
        Failure::Refused => {
            tracing::error!(%error, "Postgres refused a statement");
            Problem::new(Kind::INTERNAL)
        }
        Failure::Conflict | Failure::Locked | Failure::Unavailable => {
            tracing::warn!(%error, "no answer from Postgres");
            Problem::new(Kind::UNAVAILABLE)
                .detail("the outbox can't be reached now")
                .retry_after(1)
        }
    }
}
