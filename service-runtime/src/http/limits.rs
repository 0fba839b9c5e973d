//! How much, and how often.

use std::{sync::Arc, time::Duration};

use axum::{
    BoxError, Router,
    body::Body,
    error_handling::HandleErrorLayer,
    response::{IntoResponse, Response},
};
use tower::{
    ServiceBuilder,
    limit::GlobalConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
};
use tower_governor::{GovernorError, GovernorLayer, governor::GovernorConfigBuilder};

use super::{HttpSettings, client::ByClientAddress};
use crate::problem::{Kind, Problem};

/// Forgets clients; to be called now and then.
pub(super) type Forget = Box<dyn Fn() + Send + Sync>;

/// Refuses at once what is above the limits. A request counts until its answer begins.
pub(super) fn limit_concurrency(routes: Router, settings: &HttpSettings) -> Router {
    let limit = usize::try_from(settings.max_concurrent_requests).unwrap_or(usize::MAX);
    let concurrency = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(shed))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(limit));
    routes.layer(concurrency)
}

/// Refuses the requests of a client that sends more than its rate.
pub(super) fn limit_rate(routes: Router, rate: u32) -> (Router, Forget) {
    let config = GovernorConfigBuilder::default()
        .period(Duration::from_secs(1) / rate)
        .burst_size(rate)
        .key_extractor(ByClientAddress)
        .finish()
        .expect("from one to a million requests a second");
    let limiter = Arc::clone(config.limiter());
    let layer = GovernorLayer::new(config).error_handler(refuse);
    (
        routes.layer(layer),
        Box::new(move || limiter.retain_recent()),
    )
}

fn refuse(error: GovernorError) -> Response<Body> {
    match error {
        GovernorError::TooManyRequests { wait_time, .. } => {
            // The library rounds down.
            let seconds = u32::try_from(wait_time)
                .unwrap_or(u32::MAX)
                .saturating_add(1);
            Problem::new(Kind::TOO_MANY_REQUESTS).retry_after(seconds)
        }
        error => {
            tracing::error!(%error, "the rate of a client can't be told");
            Problem::new(Kind::INTERNAL)
        }
    }
    .into_response()
}

async fn shed(error: BoxError) -> Problem {
    if error.is::<Overloaded>() {
        return Problem::new(Kind::OVERLOADED).retry_after(1);
    }
    tracing::error!(%error, "a layer failed");
    Problem::new(Kind::INTERNAL)
}
