//! `/users` over HTTP.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State},
    http::{HeaderMap, HeaderName, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use outbox::Written;
use postgres_pool::{Pool, retry_conflicts};
use serde::Deserialize;
use service_runtime::nats::headers::TRACEPARENT;
use service_runtime::{
    etag::{self, IfMatch},
    http::Routes,
    page::{Page, PageParameters},
    problem::{FieldError, Kind, Problem},
};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    creation::Creation,
    draft::{self, Draft},
    email::Email,
    import::{self, Imports},
    once::{self, Outcome},
    patch::{self, Patch},
    republish,
    store::{self, Change, NewUser, StoreError, User},
};
use crate::idempotency::Key;

/// Says that the answer is that to an earlier request under the same key.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What the handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    /// For changes.
    pub(crate) pool: Pool,
    pub(crate) reads: Pool,
    pub(crate) creation: Creation,
    /// Raised after each change, so that it is on its way at once.
    pub(crate) written: Written,
    /// Whether a change has to say which version it is meant for.
    pub(crate) require_if_match: bool,
    pub(crate) imports: Arc<Imports>,
}

pub(crate) fn routes() -> Routes<Users> {
    Routes {
        bounded: OpenApiRouter::new()
            .routes(routes!(list, create))
            .routes(routes!(republish::republish))
            .routes(routes!(find, replace, patch, delete)),
        streaming: OpenApiRouter::new().routes(routes!(import::import)),
        ..Routes::default()
    }
}

/// Create a user
#[utoipa::path(
    post, path = "/users", tag = "users",
    params(("Idempotency-Key" = Option<String>, Header), ("traceparent" = Option<String>, Header)),
    request_body = draft::Fields,
    responses(
        (status = 201, description = "Created", body = User,
         headers(("ETag"), ("Location"), ("Idempotency-Replayed"))),
        (status = 409),
    )
)]
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

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only the user who has this address, however it is spelled: in another case, or with its
    /// domain in Unicode or ASCII.
    #[param(format = "email", max_length = 254, nullable = false)]
    email: Option<String>,
}

/// List users in the order of their ids, page by page
#[utoipa::path(
    get, path = "/users", tag = "users",
    params(PageParameters, Filter),
    responses((status = 200, description = "A page", body = Vec<User>, headers(("Link"))))
)]
async fn list(State(users): State<Users>, page: Page, uri: Uri) -> Result<Response, Problem> {
    let filter = Query::<Filter>::try_from_uri(&uri)
        .map_err(|_| bad_parameter("query", "not a query string"))?;
    let Some(email) = &filter.email else {
        let list = store::list(&users.reads, page.after, page.limit).await?;
        return Ok(page.respond(&list, |user| user.id));
    };
    let email = Email::parse(email).map_err(|fault| bad_parameter("email", fault))?;
    let found = store::find_by_email(&users.reads, &email).await?;
    Ok(Json(Vec::from_iter(found)).into_response())
}

/// Read one user
#[utoipa::path(
    get, path = "/users/{id}", tag = "users",
    params(UserId, ("If-None-Match" = Option<String>, Header)),
    responses(
        (status = 200, description = "The user", body = User, headers(("ETag"))),
        (status = 304, description = "The client has this version", headers(("ETag"))),
        (status = 404),
    )
)]
async fn find(
    State(users): State<Users>,
    UserId(id): UserId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = store::find(&users.reads, id).await?;
    if etag::is_known(&headers, user.version) {
        let tag = [(header::ETAG, etag::tag(user.version))];
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok(respond(user))
}

/// Replace a user
///
/// One that is so already keeps its version, and no event is written.
#[utoipa::path(
    put, path = "/users/{id}", tag = "users",
    params(UserId, ("If-Match" = Option<String>, Header), ("traceparent" = Option<String>, Header)),
    request_body = draft::Fields,
    responses(
        (status = 200, description = "The user as it is now", body = User, headers(("ETag"))),
        (status = 404), (status = 409), (status = 412), (status = 428),
    )
)]
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

/// Change a part of a user
///
/// A JSON merge patch (RFC 7396): what is left out stays.
#[utoipa::path(
    patch, path = "/users/{id}", tag = "users",
    params(UserId, ("If-Match" = Option<String>, Header), ("traceparent" = Option<String>, Header)),
    request_body(content = patch::Fields, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The user as it is now", body = User, headers(("ETag"))),
        (status = 404), (status = 409), (status = 412),
        (status = 415, headers(("Accept-Patch"))), (status = 428),
    )
)]
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
    let changing = || store::change(&users.pool, id, change, expected.as_deref(), traceparent);
    let changed = retry_conflicts(changing, StoreError::is_conflict).await?;
    if changed.is_new {
        users.written.raise();
    }
    Ok(respond(changed.user))
}

/// Delete a user
///
/// The `ETag` is the deletion's version, which is what to wait for in the copy.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users",
    params(UserId, ("If-Match" = Option<String>, Header), ("traceparent" = Option<String>, Header)),
    responses(
        (status = 204, description = "Deleted", headers(("ETag"))),
        (status = 404), (status = 412), (status = 428),
    )
)]
async fn delete(
    State(users): State<Users>,
    UserId(id): UserId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = users.expected_versions(&headers)?;
    let traceparent = traceparent(&headers);
    let deleting = || store::delete(&users.pool, id, expected.as_deref(), traceparent);
    let version = retry_conflicts(deleting, StoreError::is_conflict).await?;
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
#[derive(IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
struct UserId(#[param(minimum = 1)] i64);

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
