//! `/users` over HTTP.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use postgres_pool::retry_conflicts;
use serde::Deserialize;
use service_runtime::{
    etag,
    page::{Page, PageParameters},
    problem::Problem,
};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    draft::{Draft, DraftBody},
    email::Email,
    idempotent_create::{self, CreateOutcome},
    patch::{Patch, PatchBody},
    request::{UserId, bad_parameter, event_headers, idempotency_key},
    state::Users,
    store::{self, Change, NewUser, StoreError, User},
};

/// Says that the answer is that to an earlier request under the same key.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) fn router() -> OpenApiRouter<Arc<Users>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(find, replace, patch, delete))
}

/// Create a user
#[utoipa::path(
    post, path = "/users", tag = "users",
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^([!#-~]{1,255}|\"[!#-~]{1,255}\")$"), ("traceparent" = Option<String>, Header),
           ("tracestate" = Option<String>, Header)),
    request_body = DraftBody,
    responses(
        (status = 201, description = "Created", body = User,
         headers(("ETag"), ("Location"), ("Idempotency-Replayed"))),
        (status = 409),
    )
)]
async fn create(
    State(users): State<Arc<Users>>,
    headers: HeaderMap,
    draft: Draft,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let event_headers = event_headers(&headers);
    let user = NewUser {
        draft,
        event_headers,
    };
    let Some(key) = key else {
        let user = users.creation.create(user).await?;
        users.written.raise();
        return Ok(created(user));
    };
    let answer = idempotent_create::create(&users.pool, &key, &user).await?;
    let response = respond_to_creation(answer.outcome);
    if answer.is_replayed {
        return Ok(([(IDEMPOTENCY_REPLAYED, "true")], response).into_response());
    }
    users.written.raise();
    Ok(response)
}

fn respond_to_creation(outcome: CreateOutcome) -> Response {
    match outcome {
        CreateOutcome::Created(user) => created(user),
        CreateOutcome::EmailTaken => Problem::from(StoreError::EmailTaken).into_response(),
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
async fn list(State(users): State<Arc<Users>>, page: Page, uri: Uri) -> Result<Response, Problem> {
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
    State(users): State<Arc<Users>>,
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
    params(UserId, ("If-Match" = Option<String>, Header), ("traceparent" = Option<String>, Header),
           ("tracestate" = Option<String>, Header)),
    request_body = DraftBody,
    responses(
        (status = 200, description = "The user as it is now", body = User, headers(("ETag"))),
        (status = 404), (status = 409), (status = 412), (status = 428),
    )
)]
async fn replace(
    State(users): State<Arc<Users>>,
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
    params(UserId, ("If-Match" = Option<String>, Header), ("traceparent" = Option<String>, Header),
           ("tracestate" = Option<String>, Header)),
    request_body(content = PatchBody, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The user as it is now", body = User, headers(("ETag"))),
        (status = 404), (status = 409), (status = 412),
        (status = 415, headers(("Accept-Patch"))), (status = 428),
    )
)]
async fn patch(
    State(users): State<Arc<Users>>,
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
    let headers = event_headers(headers);
    let changing = || {
        let expected = expected.as_deref();
        store::change(&users.pool, id, change, expected, headers.as_deref())
    };
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
    params(UserId, ("If-Match" = Option<String>, Header), ("traceparent" = Option<String>, Header),
           ("tracestate" = Option<String>, Header)),
    responses(
        (status = 204, description = "Deleted", headers(("ETag"))),
        (status = 404), (status = 412), (status = 428),
    )
)]
async fn delete(
    State(users): State<Arc<Users>>,
    UserId(id): UserId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let expected = users.expected_versions(&headers)?;
    let headers = event_headers(&headers);
    let deleting = || store::delete(&users.pool, id, expected.as_deref(), headers.as_deref());
    let version = retry_conflicts(deleting, StoreError::is_conflict).await?;
    users.written.raise();
    let tag = [(header::ETAG, etag::tag(version))];
    Ok((StatusCode::NO_CONTENT, tag).into_response())
}

fn respond(user: User) -> Response {
    ([(header::ETAG, etag::tag(user.version))], Json(user)).into_response()
}
