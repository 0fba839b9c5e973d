//! `/users` over HTTP.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{FromRequestParts, Path, Query, State},
    http::{HeaderMap, HeaderName, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use service_runtime::{
    etag::{self, IfMatch},
    http::Routes,
    page::Page,
    problem::{FieldError, Kind, Problem},
};
use shared_events::headers::TRACEPARENT;
use sqlx::PgPool;
use tokio::sync::Semaphore;

use super::{
    creation::Creation,
    draft::Draft,
    email::Email,
    import,
    once::{self, OnceError, Outcome},
    patch::Patch,
    republish,
    store::{self, Change, NewUser, StoreError, User},
};
use crate::{
    idempotency::{Key, KeyError},
    wake::Written,
};

/// Says that the answer is that to an earlier request under the same key.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What the handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    pub(crate) pool: PgPool,
    pub(crate) creation: Creation,
    /// Raised after each change, so that it is on its way at once.
    pub(crate) written: Written,
    /// Whether a change has to say which version it is meant for.
    pub(crate) require_if_match: bool,
    /// One for each import that may run.
    pub(crate) imports: Arc<Semaphore>,
}

pub(crate) fn routes(users: Users) -> Routes {
    let bounded = Router::new()
        .route("/users", get(list).post(create))
        .route("/users/republish", post(republish::republish))
        .route(
            "/users/{id}",
            get(find).put(replace).patch(patch).delete(delete),
        );
    let streaming = Router::new().route("/users/import", post(import::import));
    Routes {
        bounded: bounded.with_state(users.clone()),
        streaming: streaming.with_state(users),
    }
}

async fn create(
    State(users): State<Users>,
    headers: HeaderMap,
    draft: Draft,
) -> Result<Response, Problem> {
    let key = Key::from_headers(&headers)?;
    let traceparent = traceparent(&headers).map(str::to_owned);
    let user = NewUser { draft, traceparent };
    let Some(key) = key else {
        let user = users.creation.create(user).await?;
        users.written.raise();
        return Ok(created(user));
    };
    let done = once::create(&users.pool, &key, &user).await?;
    if done.is_replayed {
        return Ok(([(IDEMPOTENCY_REPLAYED, "true")], outcome(done.outcome)).into_response());
    }
    users.written.raise();
    Ok(outcome(done.outcome))
}

fn outcome(outcome: Outcome) -> Response {
    match outcome {
        Outcome::Created(user) => created(user),
        Outcome::EmailTaken => Problem::from(StoreError::EmailTaken).into_response(),
    }
}

fn created(user: User) -> Response {
    let location = [(header::LOCATION, format!("/users/{}", user.id))];
    (StatusCode::CREATED, location, respond(user)).into_response()
}

#[derive(Deserialize)]
struct Filter {
    email: Option<String>,
}

async fn list(State(users): State<Users>, page: Page, uri: Uri) -> Result<Response, Problem> {
    let filter = Query::<Filter>::try_from_uri(&uri)
        .map_err(|_| bad_parameter("query", "not a query string"))?;
    let Some(email) = &filter.email else {
        let list = store::list(&users.pool, page.after, page.limit).await?;
        return Ok(page.respond(&list, |user| user.id));
    };
    let email = Email::parse(email).map_err(|fault| bad_parameter("email", fault))?;
    let found = store::find_by_email(&users.pool, &email).await?;
    Ok(Json(Vec::from_iter(found)).into_response())
}

async fn find(
    State(users): State<Users>,
    UserId(id): UserId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = store::find(&users.pool, id).await?;
    if etag::is_known(&headers, user.version) {
        let tag = [(header::ETAG, etag::tag(user.version))];
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok(respond(user))
}

/// Replaces the whole user. One that is so already keeps its version, and no event is written.
async fn replace(
    State(users): State<Users>,
    UserId(id): UserId,
    headers: HeaderMap,
    Draft { name, email }: Draft,
) -> Result<Response, Problem> {
    let whole = Change {
        name: Some(name),
        email: Some(email),
    };
    change(&users, id, &headers, &whole).await
}

async fn patch(
    State(users): State<Users>,
    UserId(id): UserId,
    headers: HeaderMap,
    Patch(part): Patch,
) -> Result<Response, Problem> {
    change(&users, id, &headers, &part).await
}

async fn change(
    users: &Users,
    id: i64,
    headers: &HeaderMap,
    change: &Change,
) -> Result<Response, Problem> {
    let expected = users.expected_versions(headers)?;
    let traceparent = traceparent(headers);
    let changed = store::change(&users.pool, id, change, expected.as_deref(), traceparent).await?;
    if changed.is_new {
        users.written.raise();
    }
    Ok(respond(changed.user))
}

/// The tag is the deletion's version: what to wait for in the copy.
async fn delete(
    State(users): State<Users>,
    UserId(id): UserId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = users.expected_versions(&headers)?;
    let traceparent = traceparent(&headers);
    let version = store::delete(&users.pool, id, expected.as_deref(), traceparent).await?;
    users.written.raise();
    let tag = [(header::ETAG, etag::tag(version))];
    Ok((StatusCode::NO_CONTENT, tag).into_response())
}

impl Users {
    /// The versions that a change may meet; `None` if any.
    fn expected_versions(&self, headers: &HeaderMap) -> Result<Option<Vec<i64>>, Problem> {
        match IfMatch::from_headers(headers) {
            IfMatch::Absent if self.require_if_match => Err(Problem::new(Kind::VERSION_REQUIRED)
                .detail("say with If-Match which version is to be changed")),
            IfMatch::Absent | IfMatch::Any => Ok(None),
            IfMatch::OneOf(versions) => Ok(Some(versions)),
        }
    }
}

fn respond(user: User) -> Response {
    ([(header::ETAG, etag::tag(user.version))], Json(user)).into_response()
}

/// An id from the path: a positive number of 64 bits.
struct UserId(i64);

impl<S: Send + Sync> FromRequestParts<S> for UserId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<i64>::from_request_parts(parts, state).await {
            Ok(Path(id)) if id > 0 => Ok(Self(id)),
            _ => Err(bad_parameter(
                "id",
                "must be a positive number of at most 64 bits",
            )),
        }
    }
}

pub(super) fn bad_parameter(name: &'static str, fault: &'static str) -> Problem {
    Problem::new(Kind::INVALID_PARAMETER)
        .detail("the request's path or query is not valid")
        .errors(vec![FieldError::in_parameter(name, fault)])
}

/// W3C trace context to hand on with the event; anything that is not shaped like one is dropped.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(TRACEPARENT)?.to_str().ok()?;
    let shaped = value.len() == 55
        && value.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    shaped.then_some(value)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::EmailTaken => {
                let taken = FieldError::in_body("/email", "belongs to another user");
                Problem::new(Kind::EMAIL_TAKEN)
                    .detail("the e-mail address is taken")
                    .errors(vec![taken])
            }
            StoreError::NoSuchUser(id) => {
                Problem::new(Kind::NOT_FOUND).detail(format!("there is no user {id}"))
            }
            StoreError::OtherVersion(current) => Problem::new(Kind::VERSION_MISMATCH)
                .detail(format!("the user has version {current} by now")),
            StoreError::Unavailable(source) => {
                tracing::warn!(error = %source, "no answer from Postgres");
                Problem::new(Kind::UNAVAILABLE)
                    .detail("the users can't be reached now")
                    .retry_after(1)
            }
            StoreError::Locked => Problem::new(Kind::UNAVAILABLE)
                .detail("another change of the same is under way")
                .retry_after(1),
            StoreError::Stopping => Problem::new(Kind::UNAVAILABLE)
                .detail("this instance is stopping")
                .retry_after(1),
            StoreError::Refused(source) => {
                tracing::error!(error = %source, "Postgres refused a statement");
                Problem::new(Kind::INTERNAL)
            }
        }
    }
}

impl From<OnceError> for Problem {
    fn from(error: OnceError) -> Self {
        match error {
            OnceError::Store(error) => error.into(),
            OnceError::Key(KeyError::Database(error)) => StoreError::from(error).into(),
            OnceError::Key(KeyError::InProgress) => Problem::new(Kind::REQUEST_IN_PROGRESS)
                .detail("a request under this Idempotency-Key is in progress")
                .retry_after(1),
            OnceError::Key(KeyError::UsedForOther) => Problem::new(Kind::KEY_REUSED)
                .detail("this Idempotency-Key was used for another request"),
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
