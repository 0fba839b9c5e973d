//! `GET /notifications/user/{id}`, which can wait for a version that the client has written.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{Path, Query, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use backon::{BackoffBuilder, ExponentialBuilder};
use serde::Deserialize;
use service_runtime::{
    etag,
    http::{ClientAddress, RequestSlot},
    number,
    problem::FieldError,
};
use tokio::time::{self, Instant};
use utoipa::IntoParams;

use super::{Documents, NO_CACHE, Reader, error::ReadError};
use crate::projection::{Notification, StoredUser};

/// With the reads before and after it, the wait must fit into a request's deadline.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Between two looks at a version that was announced and does not show yet, as on a primary that was
/// elected just now, or after a look that failed.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(10))
    .with_max_delay(MAX_PAUSE)
    .with_jitter()
    .without_max_times();
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// The version that the client wants to see, and for how long it waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    min_version: i64,
    wait: Duration,
}

/// The description of what [`Wanted`] reads from the query.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "nothing is read of a description")]
struct WaitParameters {
    /// Answer only with this version or a later one; 503 if the copy does not have it in time.
    #[param(minimum = 1, nullable = false)]
    min_version: Option<i64>,
    /// How long to wait for it, up to `5s`, such as `500ms`; not at all if left out.
    #[param(
        pattern = "^([0-5]s|([0-4]?[0-9]{1,3}|5000)ms)$",
        example = "2s",
        nullable = false
    )]
    wait: Option<String>,
}

/// Read one user of the copy
#[utoipa::path(
    get, path = "/notifications/user/{id}", tag = "notifications",
    params(
        ("id" = i64, Path, minimum = 1), WaitParameters,
        ("If-None-Match" = Option<String>, Header),
        ("Cache-Control" = Option<String>, Header, description = NO_CACHE),
    ),
    responses(
        (status = 200, description = "The user", body = Notification,
         headers(("ETag"), ("X-Projection-Lag-Ms"))),
        (status = 304, description = "The client has this version", headers(("ETag"))),
        (status = 404),
        (status = 410, headers(("ETag"))),
        (status = 500, headers(("ETag"))),
    )
)]
pub(super) async fn get(
    State(reader): State<Arc<Reader>>,
    id: Result<Path<String>, PathRejection>,
    client: ClientAddress,
    Extension(slot): Extension<RequestSlot>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ReadError> {
    let id = parse_id(id.ok())?;
    let user = match Wanted::parse(&uri)? {
        None => read(reader.copy_for(&headers), id).await?,
        // Only the primary is known to have what was announced.
        Some(wanted) => Some(wait_for(&reader, id, wanted, client, &slot).await?),
    };
    match user {
        None => Err(ReadError::Unknown),
        Some(StoredUser::Deleted(tombstone)) => Err(ReadError::Deleted(tombstone.version)),
        Some(StoredUser::Living(notification)) => Ok(respond(notification, &headers)),
    }
}

async fn read(copy: &Documents, id: i64) -> Result<Option<StoredUser>, ReadError> {
    let document = copy.find(id).await?;
    let user = document.map(|document| StoredUser::read(&document));
    user.transpose().map_err(ReadError::Damaged)
}

async fn wait_for(
    reader: &Reader,
    id: i64,
    wanted: Wanted,
    client: ClientAddress,
    slot: &RequestSlot,
) -> Result<StoredUser, ReadError> {
    let deadline = Instant::now() + wanted.wait;
    let first = wanted.read(&reader.primary, id).await;
    if is_final(&first) || wanted.wait.is_zero() {
        return first;
    }
    let _permit = reader.waiting.try_acquire(client)?;
    slot.release();
    // Only now, since most find what they want at once; each look comes after it.
    let mut waiter = reader.live.waiter(id);
    let mut pauses = PAUSES.build();
    loop {
        let was_announced = waiter.has_seen(wanted.min_version);
        let outcome = wanted.read(&reader.primary, id).await;
        let stopped = Instant::now() >= deadline || reader.live.shutdown().is_cancelled();
        if is_final(&outcome) || stopped {
            return outcome;
        }
        let is_due = was_announced || !matches!(outcome, Err(ReadError::NotYet(_)));
        let woken = async {
            if is_due {
                time::sleep(pauses.next().unwrap_or(MAX_PAUSE)).await;
            } else {
                waiter.changed(wanted.min_version).await;
            }
        };
        tokio::select! {
            () = woken => {}
            // One last look: change streams may be late, or not to be had.
            () = time::sleep_until(deadline) => {}
            () = reader.live.shutdown().cancelled() => {}
        }
    }
}

/// Whether another look would say the same.
fn is_final(outcome: &Result<StoredUser, ReadError>) -> bool {
    !matches!(outcome, Err(ReadError::NotYet(_) | ReadError::Failed(_)))
}

impl Wanted {
    /// Each of the two parameters stands for itself: without `wait` the answer comes at once,
    /// without `min_version` any version will do.
    fn parse(uri: &Uri) -> Result<Option<Self>, ReadError> {
        #[derive(Deserialize)]
        struct Parameters {
            min_version: Option<String>,
            wait: Option<String>,
        }
        let parameters = Query::try_from_uri(uri)
            .map_err(|_| FieldError::in_parameter("query", "not a query string"));
        let Query(Parameters { min_version, wait }) = parameters?;
        if min_version.is_none() && wait.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            min_version: min_version.map_or(Ok(1), |text| parse_version(&text))?,
            wait: wait.map_or(Ok(Duration::ZERO), |text| parse_wait(&text))?,
        }))
    }

    /// What the copy has, if that will do. An earlier deletion does not: after a restore of the users
    /// one who was deleted may be there again.
    async fn read(self, copy: &Documents, id: i64) -> Result<StoredUser, ReadError> {
        let user = read(copy, id).await?;
        let user = user.filter(|user| user.version() >= self.min_version);
        user.ok_or(ReadError::NotYet(self.min_version))
    }
}

fn parse_id(text: Option<Path<String>>) -> Result<i64, ReadError> {
    let id = text.and_then(|Path(text)| positive(&text));
    id.ok_or_else(|| ReadError::from_parameter("id", "must be a positive whole number"))
}

fn parse_version(text: &str) -> Result<i64, FieldError> {
    let fault = || FieldError::in_parameter("min_version", "must be a positive whole number");
    positive(text).ok_or_else(fault)
}

/// Whole seconds or milliseconds, as the description of the API has it.
fn parse_wait(text: &str) -> Result<Duration, FieldError> {
    let digits = |text: &str, most| {
        let is_number = text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    let wait = match text.strip_suffix("ms") {
        Some(text) => digits(text, 4).map(Duration::from_millis),
        None => (text.strip_suffix('s'))
            .and_then(|text| digits(text, 1))
            .map(Duration::from_secs),
    };
    let bounded = wait.filter(|wait| *wait <= MAX_WAIT);
    bounded.ok_or_else(|| FieldError::in_parameter("wait", "must be from 0s to 5s, such as 500ms"))
}

fn positive(text: &str) -> Option<i64> {
    number::parse(text).filter(|number| *number > 0)
}

fn respond(notification: Notification, request: &HeaderMap) -> Response {
    let tag = [(header::ETAG, etag::tag(notification.version))];
    if etag::is_known(request, notification.version) {
        return (StatusCode::NOT_MODIFIED, tag).into_response();
    }
    (tag, Json(notification)).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Wanted;

    fn parse(query: &str) -> Option<Option<(i64, Duration)>> {
        let uri = format!("/notifications/user/1{query}");
        let wanted = Wanted::parse(&uri.parse().expect("a URI")).ok()?;
        Some(wanted.map(|it| (it.min_version, it.wait)))
    }

    #[test]
    fn a_wait_is_bounded() {
        let ms = Duration::from_millis;
        assert_eq!(parse(""), Some(None));
        assert_eq!(parse("?min_version=3"), Some(Some((3, ms(0)))));
        assert_eq!(parse("?wait=500ms"), Some(Some((1, ms(500)))));
        assert_eq!(parse("?min_version=2&wait=5s"), Some(Some((2, ms(5000)))));
        assert_eq!(parse("?wait=5000ms"), Some(Some((1, ms(5000)))));
        for bad in [
            "min_version=0",
            "min_version=x",
            "wait=2",
            "wait=0",
            "wait=%2B5s",
            "wait=5001ms",
            "wait=1s500ms",
            "wait=6s",
            "wait=-1s",
            "wait=",
        ] {
            assert_eq!(parse(&format!("?{bad}")), None, "{bad}");
        }
    }
}
