//! `/outbox/parked`: events that can't be published for what they are, and what an operator decides of
//! them.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::Response,
};
use chrono::{DateTime, Utc};
use outbox::parked::{self, Retried, Summary};
use postgres_pool::{Failure, retry_conflicts};
use serde::Serialize;
use service_runtime::{
    page::{Page, PageParameters},
    problem::{Kind, Problem},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{OutboxApi, problem_of};
use crate::{
    problems::LATER_EVENTS,
    users::{decide_retry, path_id},
};

pub(super) fn router() -> OpenApiRouter<OutboxApi> {
    OpenApiRouter::new()
        .routes(routes!(list_parked))
        .routes(routes!(discard_parked))
        .routes(routes!(retry_parked))
}

/// Its place in the ledger.
#[derive(IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
struct OutboxId(#[param(minimum = 1)] i64);

impl<S: Send + Sync> FromRequestParts<S> for OutboxId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_id(parts, state).await.map(Self)
    }
}

/// A parked event, without its payload.
#[derive(Serialize, ToSchema)]
struct ParkedEvent {
    /// Its place in the ledger.
    id: i64,
    #[schema(value_type = String, format = "uuid")]
    event_id: Uuid,
    aggregate_type: String,
    aggregate_id: String,
    event_type: String,
    #[schema(nullable)]
    version: Option<i64>,
    reason: String,
    /// How often it was tried; 0 if it has no route.
    attempts: i32,
    written_at: DateTime<Utc>,
    parked_at: DateTime<Utc>,
}

/// What became of a parked event that was retried.
#[derive(Serialize, ToSchema)]
struct RetryResponse {
    outcome: RetryOutcome,
}

/// `requeued`: it is in the outbox again. `superseded`: it is parked no longer, because a later event of
/// its aggregate replaces it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum RetryOutcome {
    Requeued,
    Superseded,
}

/// List the events that can't be published, the oldest first, page by page
#[utoipa::path(
    get, path = "/outbox/parked", tag = "outbox",
    params(PageParameters),
    responses((status = 200, description = "A page", body = Vec<ParkedEvent>, headers(("Link"))))
)]
async fn list_parked(State(api): State<OutboxApi>, page: Page) -> Result<Response, Problem> {
    let parked = parked::page(&api.reads, page.after, page.limit).await;
    let parked = parked.map_err(|error| problem_of(&error))?;
    let parked: Vec<_> = parked.into_iter().map(ParkedEvent::from).collect();
    Ok(page.respond(&parked, |event| event.id))
}

/// Publish a parked event after all, unless its aggregate has changed since
#[utoipa::path(
    post, path = "/outbox/parked/{id}/retry", tag = "outbox",
    params(OutboxId),
    security((), ("token" = ["repair"])),
    responses(
        (status = 200, description = "What became of it", body = RetryResponse),
        (status = 404), (status = 409),
    )
)]
async fn retry_parked(
    State(api): State<OutboxApi>,
    OutboxId(id): OutboxId,
) -> Result<Json<RetryResponse>, Problem> {
    let retrying = || parked::retry(&api.pool, id, decide_retry);
    let is_conflict = |error: &sqlx::Error| Failure::from(error) == Failure::Conflict;
    let retried = retry_conflicts(retrying, is_conflict).await;
    let outcome = match retried.map_err(|error| problem_of(&error))? {
        Retried::Requeued => RetryOutcome::Requeued,
        Retried::Superseded => RetryOutcome::Superseded,
        Retried::Refused => {
            return Err(Problem::new(LATER_EVENTS).detail(format!(
                "event {id} stays parked: its aggregate has later events, or they may have been dropped"
            )));
        }
        Retried::NotParked => return Err(not_parked(id)),
    };
    api.written.raise();
    tracing::info!(id, "a parked event was retried");
    Ok(Json(RetryResponse { outcome }))
}

/// Forget a parked event: readers will never see it
#[utoipa::path(
    delete, path = "/outbox/parked/{id}", tag = "outbox",
    params(OutboxId),
    security((), ("token" = ["repair"])),
    responses((status = 204, description = "Forgotten"), (status = 404))
)]
async fn discard_parked(
    State(api): State<OutboxApi>,
    OutboxId(id): OutboxId,
) -> Result<StatusCode, Problem> {
    let discarded = parked::discard(&api.pool, id).await;
    match discarded.map_err(|error| problem_of(&error))? {
        true => {
            tracing::info!(id, "a parked event was discarded");
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(not_parked(id)),
    }
}

fn not_parked(id: i64) -> Problem {
    Problem::new(Kind::NOT_FOUND).detail(format!("there is no parked event {id}"))
}

impl From<Summary> for ParkedEvent {
    fn from(parked: Summary) -> Self {
        Self {
            id: parked.id,
            event_id: parked.event_id,
            aggregate_type: parked.aggregate_type,
            aggregate_id: parked.aggregate_id,
            event_type: parked.event_type,
            version: parked.version,
            reason: parked.reason,
            attempts: parked.attempts,
            written_at: parked.created_at,
            parked_at: parked.parked_at,
        }
    }
}
