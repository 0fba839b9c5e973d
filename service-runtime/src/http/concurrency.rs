//! How many requests are processed at once.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::HttpSettings;
use crate::problem::{Kind, Problem};

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
    let slots = Arc::new(Semaphore::new(limit));
    routes.layer(middleware::from_fn_with_state(slots, admit))
}

async fn admit(State(slots): State<Arc<Semaphore>>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = slots.try_acquire_owned() else {
        return Problem::new(Kind::OVERLOADED)
            .retry_after(1)
            .into_response();
    };
    let slot = RequestSlot(Arc::new(Mutex::new(Some(permit))));
    request.extensions_mut().insert(slot.clone());
    let response = next.run(request).await;
    slot.release();
    response
}
