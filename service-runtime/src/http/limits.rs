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
use tower_governor::{
    GovernorError, GovernorLayer,
    governor::GovernorConfigBuilder,
    key_extractor::{KeyExtractor, PeerIpKeyExtractor, SmartIpKeyExtractor},
};

use super::HttpSettings;
use crate::problem::{Kind, Problem};

/// Forgets clients; to be called now and then.
pub(super) type Forget = Box<dyn Fn() + Send + Sync>;

/// Refuses at once what is above the limits. A request counts until its answer begins.
pub(super) fn limit(routes: Router, settings: &HttpSettings) -> (Router, Option<Forget>) {
    let limit = usize::try_from(settings.max_concurrent_requests).unwrap_or(usize::MAX);
    let concurrency = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(shed))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(limit));
    let routes = routes.layer(concurrency);
    let (routes, forget) = match (settings.rate_limit, settings.trust_forwarded_for) {
        (None, _) => return (routes, None),
        (Some(rate), false) => limit_rate(routes, rate, PeerIpKeyExtractor),
        (Some(rate), true) => limit_rate(routes, rate, SmartIpKeyExtractor),
    };
    (routes, Some(forget))
}

fn limit_rate<K>(routes: Router, rate: u32, client: K) -> (Router, Forget)
where
    K: KeyExtractor + Send + Sync + 'static,
    K::Key: Send + Sync + 'static,
{
    let config = GovernorConfigBuilder::default()
        .period(Duration::from_secs(1) / rate)
        .burst_size(rate)
        .key_extractor(client)
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
