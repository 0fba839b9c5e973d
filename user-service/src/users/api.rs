//! `/users` over HTTP.

use axum::{
    Json, Router,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use service_runtime::{
    page::Page,
    problem::{FieldError, Problem},
};
use shared_events::headers::TRACEPARENT;
use sqlx::PgPool;

use super::{
    creation::Creation,
    draft::Draft,
    republish,
    store::{self, NewUser, StoreError, User},
};
use crate::wake::Written;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    pub(crate) pool: PgPool,
    pub(crate) creation: Creation,
    /// Raised after each change, so that it is on its way at once.
    pub(crate) written: Written,
}

pub(crate) fn router(users: Users) -> Router {
    Router::new()
        .route("/users", get(list).post(create))
        .route("/users/republish", post(republish::republish))
        .route("/users/{id}", get(find).put(replace).delete(delete))
        .with_state(users)
}

async fn create(
    State(users): State<Users>,
    headers: HeaderMap,
    draft: Draft,
) -> Result<Response, Problem> {
    let traceparent = traceparent(&headers).map(str::to_owned);
    let user = users
        .creation
        .create(NewUser { draft, traceparent })
        .await?;
    users.written.raise();
    let location = [(header::LOCATION, format!("/users/{}", user.id))];
    Ok((StatusCode::CREATED, location, Json(user)).into_response())
}

async fn list(State(users): State<Users>, page: Page) -> Result<Response, Problem> {
    let list = store::list(&users.pool, page.after, page.limit).await?;
    Ok(page.respond(&list, |user| user.id))
}

async fn find(State(users): State<Users>, UserId(id): UserId) -> Result<Json<User>, Problem> {
    let user = store::find(&users.pool, id).await?;
    user.map(Json).ok_or_else(|| no_such_user(id))
}

/// Replaces the whole user. One that is so already keeps its version, and no event is written.
async fn replace(
    State(users): State<Users>,
    UserId(id): UserId,
    headers: HeaderMap,
    draft: Draft,
) -> Result<Json<User>, Problem> {
    let traceparent = traceparent(&headers);
    if let Some(user) = store::replace(&users.pool, id, &draft, traceparent).await? {
        users.written.raise();
        return Ok(Json(user));
    }
    let unchanged = store::find(&users.pool, id).await?;
    unchanged.map(Json).ok_or_else(|| no_such_user(id))
}

async fn delete(
    State(users): State<Users>,
    UserId(id): UserId,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    if !store::delete(&users.pool, id, traceparent(&headers)).await? {
        return Err(no_such_user(id));
    }
    users.written.raise();
    Ok(StatusCode::NO_CONTENT)
}

/// An id from the path: a positive number of 64 bits.
struct UserId(i64);

impl<S: Send + Sync> FromRequestParts<S> for UserId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<i64>::from_request_parts(parts, state).await {
            Ok(Path(id)) if id > 0 => Ok(Self(id)),
            _ => Err(Problem::new(StatusCode::BAD_REQUEST)
                .detail("the path is not valid")
                .errors(vec![FieldError::in_parameter(
                    "id",
                    "must be a positive number of at most 64 bits",
                )])),
        }
    }
}

/// W3C trace context to hand on with the event; anything that is not shaped like one is dropped.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(TRACEPARENT)?.to_str().ok()?;
    let shaped = value.len() == 55
        && value.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    shaped.then_some(value)
}

fn no_such_user(id: i64) -> Problem {
    Problem::new(StatusCode::NOT_FOUND).detail(format!("there is no user {id}"))
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::EmailTaken => {
                let taken = FieldError::in_body("/email", "belongs to another user");
                Problem::new(StatusCode::CONFLICT)
                    .detail("the e-mail address is taken")
                    .errors(vec![taken])
            }
            StoreError::Unavailable(source) => {
                tracing::warn!(error = %source, "no answer from Postgres");
                Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                    .detail("the users can't be reached now")
                    .retry_after(1)
            }
            StoreError::Locked => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail("another change of the same is under way")
                .retry_after(1),
            StoreError::Stopping => Problem::new(StatusCode::SERVICE_UNAVAILABLE)
                .detail("this instance is stopping")
                .retry_after(1),
            StoreError::Refused(source) => {
                tracing::error!(error = %source, "Postgres refused a statement");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::traceparent;

    #[test]
    fn only_a_well_shaped_traceparent_is_handed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (value, kept) in [
            (good, true),
            (&good.to_uppercase(), false),
            (&good.replace('-', "_"), false),
            (&good[1..], false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                "traceparent",
                HeaderValue::from_str(value).expect("a value"),
            );
            assert_eq!(traceparent(&headers).is_some(), kept, "{value}");
        }
    }
}
