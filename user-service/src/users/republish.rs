//! `POST /users/republish`: the present state of some users on the stream again, to mend a copy.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{FromRequest, Request, State},
};
use postgres_pool::retry_conflicts;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use service_runtime::problem::{FieldError, Problem};
use shared_events::{Object, UserState};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    body::{self, Field},
    state::Users,
    store::{
        StoreError,
        republish::{Wanted, restate},
    },
};

const MAX_USERS: usize = 1000;
/// What is published is above it, and must be a version that consumers accept.
const MAX_ABOVE: i64 = UserState::MAX_NUMBER - 1;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Republished)]
struct RepublishResponse {
    /// How many events were written.
    republished: u64,
    left_alone: LeftAlone,
}

/// How many users got no event, and why
#[derive(Debug, Serialize, ToSchema)]
struct LeftAlone {
    /// They are not there, but somebody may be creating them right now: ask again.
    maybe_in_creation: u64,
    /// Their ids are more than a billion beyond those that were given out.
    out_of_reach: u64,
}

pub(super) fn router() -> OpenApiRouter<Arc<Users>> {
    OpenApiRouter::new().routes(routes!(republish))
}

/// Publish the present state of some users again, to mend a copy
///
/// Writes an event for each: the user's state, or its deletion if there is none, at a version
/// above that of the copy. Ids that were not given out yet never will be then.
#[utoipa::path(
    post, path = "/users/republish", tag = "users",
    request_body = RepublishBody,
    security((), ("token" = ["repair"])),
    responses((status = 200, description = "The events are in the outbox", body = RepublishResponse))
)]
async fn republish(
    State(users): State<Arc<Users>>,
    Differing(wanted): Differing,
) -> Result<Json<RepublishResponse>, Problem> {
    let restating = async || {
        let restated = restate(&users.pool, &wanted).await;
        restated.map_err(StoreError::from)
    };
    let restated = retry_conflicts(restating, StoreError::is_conflict).await?;
    users.written.raise();
    Ok(Json(RepublishResponse {
        republished: restated.published,
        left_alone: LeftAlone {
            maybe_in_creation: restated.maybe_in_creation,
            out_of_reach: restated.out_of_reach,
        },
    }))
}

/// 1 to 1,000 users. Of one who is named twice the higher version counts.
struct Differing(Vec<Wanted>);

impl<S: Send + Sync> FromRequest<S> for Differing {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        Self::parse(&body::read(request, body::JSON).await?)
    }
}

#[derive(Deserialize, ToSchema)]
#[schema(as = Differing)]
struct RepublishBody {
    #[schema(value_type = Vec<DifferingUser>, required, min_items = 1, max_items = 1000)]
    users: Option<Vec<Object<DifferingUser>>>,
}

#[derive(Deserialize, ToSchema)]
struct DifferingUser {
    #[serde(default)]
    #[schema(value_type = i64, required, minimum = 1, example = 1)]
    id: Field<Number>,
    /// The version that the copy has; 0 if it has none.
    #[serde(default)]
    #[schema(
        value_type = i64,
        required = false,
        minimum = 0,
        maximum = 4_611_686_018_427_387_902_i64,
        default = 0
    )]
    above: Field<Number>,
}

impl Differing {
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let fields: RepublishBody = body::parse(bytes)?;
        let users = fields.users.unwrap_or_default();
        if !(1..=MAX_USERS).contains(&users.len()) {
            let range = format!("must be a list of 1 to {MAX_USERS} users");
            return Err(body::invalid(vec![FieldError::in_body("/users", range)]));
        }
        let mut errors = Vec::new();
        let mut wanted: HashMap<i64, i64> = HashMap::with_capacity(users.len());
        for (at, Object(user)) in users.iter().enumerate() {
            match user.parse() {
                Ok(Wanted { user_id, above }) => {
                    let highest = wanted.entry(user_id).or_default();
                    *highest = above.max(*highest);
                }
                Err((field, fault)) => {
                    errors.push(FieldError::in_body(format!("/users/{at}/{field}"), fault));
                }
            }
        }
        if !errors.is_empty() {
            return Err(body::invalid(errors));
        }
        let wanted = wanted.into_iter();
        let wanted = wanted.map(|(user_id, above)| Wanted { user_id, above });
        Ok(Self(wanted.collect()))
    }
}

impl DifferingUser {
    /// The error is the faulty field and its fault.
    fn parse(&self) -> Result<Wanted, (&'static str, &'static str)> {
        let above = match &self.above {
            Field::Absent => Some(0),
            given => integer(given),
        };
        Ok(Wanted {
            user_id: (integer(&self.id).filter(|id| *id > 0))
                .ok_or(("id", "must be a positive number of at most 64 bits"))?,
            above: (above.filter(|version| (0..=MAX_ABOVE).contains(version)))
                .ok_or(("above", "must be a version, or 0"))?,
        })
    }
}

/// JSON does not tell 1 from 1.0.
fn integer(field: &Field<Number>) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let Field::Given(Some(number)) = field else {
        return None;
    };
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and exact in 53 bits"
    )]
    let from_fraction = |number: f64| number as i64;
    let exact = number.as_i64();
    exact.or_else(|| number.as_f64().filter(whole).map(from_fraction))
}
