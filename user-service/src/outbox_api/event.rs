//! `GET /outbox/events/{event_id}`: what became of one event, up to its stream.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::request::Parts,
};
use chrono::{DateTime, Utc};
use outbox::journey::{Journey, LookupError, State as JourneyState};
use serde::Serialize;
use service_runtime::problem::{Kind, Problem};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{OutboxApi, problem_of};
use crate::users::bad_parameter;

pub(super) fn router() -> OpenApiRouter<OutboxApi> {
    OpenApiRouter::new().routes(routes!(find_event))
}

/// The id of a message: its header `ce-id`.
#[derive(IntoParams)]
#[into_params(names("event_id"), parameter_in = Path)]
struct EventId(#[param(value_type = String, format = "uuid")] Uuid);

impl<S: Send + Sync> FromRequestParts<S> for EventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<Uuid>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(bad_parameter("event_id", "must be a UUID")),
        }
    }
}

/// What became of an event in the outbox.
#[derive(Serialize, ToSchema)]
struct EventJourney {
    #[schema(value_type = String, format = "uuid")]
    event_id: Uuid,
    outbox_id: i64,
    aggregate_type: String,
    aggregate_id: String,
    event_type: String,
    #[schema(nullable)]
    version: Option<i64>,
    written_at: DateTime<Utc>,
    state: EventState,
    /// Where it goes; null if no relay has ever had a route for it.
    #[schema(nullable)]
    stream: Option<String>,
    /// Where it stands there; null unless it is published.
    #[schema(nullable)]
    sequence: Option<u64>,
    #[schema(nullable)]
    published_at: Option<DateTime<Utc>>,
    #[schema(nullable)]
    parked: Option<ParkedAs>,
}

/// `unknown`: the relay is done with it, and its stream does not have it (any more) or could not be
/// asked.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum EventState {
    Pending,
    Published,
    Parked,
    Superseded,
    Unknown,
}

/// Why it was set aside.
#[derive(Serialize, ToSchema)]
struct ParkedAs {
    reason: String,
    /// How often it was tried; 0 if it has no route.
    attempts: i32,
    parked_at: DateTime<Utc>,
}

/// Show what became of an event
///
/// Looked for among the parked events and in the ledger around the time that an id of version 7 tells,
/// or at its end; then on its stream, in at most 20,000 messages for at most two seconds.
#[utoipa::path(
    get, path = "/outbox/events/{event_id}", tag = "outbox",
    params(EventId),
    responses((status = 200, description = "How far it is", body = EventJourney), (status = 404))
)]
async fn find_event(
    State(api): State<OutboxApi>,
    EventId(id): EventId,
) -> Result<Json<EventJourney>, Problem> {
    match api.journeys.find(id).await {
        Ok(Some(journey)) => Ok(Json(journey.into())),
        Err(LookupError::Busy) => Err(Problem::new(Kind::OVERLOADED)
            .detail("too many events are looked up at once")
            .retry_after(1)),
        Err(LookupError::Postgres(error)) => Err(problem_of(&error)),
        Ok(None) => Err(Problem::new(Kind::NOT_FOUND).detail(format!(
            "no event {id} was found in the outbox; it may have left it"
        ))),
    }
}

impl From<Journey> for EventJourney {
    fn from(journey: Journey) -> Self {
        let (state, parked) = match journey.state {
            JourneyState::Pending => (EventState::Pending, None),
            JourneyState::Published => (EventState::Published, None),
            JourneyState::Superseded => (EventState::Superseded, None),
            JourneyState::Unknown => (EventState::Unknown, None),
            JourneyState::Parked(parking) => {
                let parked = ParkedAs {
                    reason: parking.reason,
                    attempts: parking.attempts,
                    parked_at: parking.parked_at,
                };
                (EventState::Parked, Some(parked))
            }
        };
        Self {
            event_id: journey.event_id,
            outbox_id: journey.outbox_id,
            aggregate_type: journey.aggregate_type,
            aggregate_id: journey.aggregate_id,
            event_type: journey.event_type,
            version: journey.version,
            written_at: journey.written_at,
            state,
            stream: journey.stream,
            sequence: journey.place.map(|it| it.sequence),
            published_at: journey.place.map(|it| it.published_at),
            parked,
        }
    }
}
