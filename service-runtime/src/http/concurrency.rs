//! How many requests are processed at once.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ClientAddress, ClientPermit, HttpSettings, PerClientLimit};
use crate::{
    metrics::{REJECTED, REQUESTS_IN_FLIGHT_MAX},
    problem::{Kind, Problem},
};

/// A request's place among the concurrent ones, which it has until its answer begins. Handlers take
/// it as `Extension<RequestSlot>`.
#[derive(Debug, Clone)]
pub struct RequestSlot(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl RequestSlot {
    /// Makes room for another request: for handlers that only wait from now on, under a limit of
    /// their own.
    pub fn release(&self) {
        let mut permit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        permit.take();
    }
}

/// Refuses at once what is above the limit.
pub(super) fn limit(routes: Router, settings: &HttpSettings) -> Router {
    let limit = usize::try_from(settings.max_concurrent_requests).unwrap_or(usize::MAX);
    let most = (limit * 3 / 4).max(1);
    REQUESTS_IN_FLIGHT_MAX
        .with([])
        .set(settings.max_concurrent_requests);
    let limits = Limits {
        slots: Arc::new(Semaphore::new(limit)),
        bodies: PerClientLimit::new("request bodies", most, (limit / 2).max(1)),
        rejected: REJECTED.with(["concurrent_requests"]),
    };
    routes.layer(middleware::from_fn_with_state(limits, admit))
}

#[derive(Clone)]
struct Limits {
    slots: Arc<Semaphore>,
    /// Slots of requests whose body has not arrived: those that wait for slow clients leave some
    /// for other requests and other clients.
    bodies: PerClientLimit,
    rejected: metrics::Counter,
}

async fn admit(
    State(limits): State<Limits>,
    client: ClientAddress,
    mut request: Request,
    next: Next,
) -> Response {
    let Ok(permit) = limits.slots.try_acquire_owned() else {
        limits.rejected.increment(1);
        return Problem::new(Kind::OVERLOADED)
            .retry_after(1)
            .into_response();
    };
    if !request.body().is_end_stream() {
        match limits.bodies.try_acquire(client) {
            Ok(permit) => request = request.map(|body| until_read(body, permit)),
            Err(reached) => return Problem::from(reached).into_response(),
        }
    }
    let slot = RequestSlot(Arc::new(Mutex::new(Some(permit))));
    request.extensions_mut().insert(slot.clone());
    let response = next.run(request).await;
    slot.release();
    response
}

/// Holds the permit until the body is read or dropped.
fn until_read(body: Body, permit: ClientPermit) -> Body {
    Body::from_stream(body.into_data_stream().map(move |chunk| {
        let _held = &permit;
        chunk
    }))
}
