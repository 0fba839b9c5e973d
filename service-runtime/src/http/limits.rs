//! How often each client may send requests.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use governor::middleware::NoOpMiddleware;
use tokio::time;
use tower_governor::{GovernorError, GovernorLayer, governor::GovernorConfigBuilder};

use super::client::ByClientAddress;
use crate::{
    metrics::REJECTED,
    problem::{Kind, Problem},
};

/// How often idle clients are removed from the rate limiter.
const FORGET_CLIENTS_INTERVAL: Duration = Duration::from_mins(1);

type RateLimitLayer = GovernorLayer<ByClientAddress, NoOpMiddleware, Body>;

/// Refuses the requests of a client that sends more than so many a second. The second part removes idle
/// clients from memory for as long as it runs.
pub(super) fn rate(limit: u32) -> (RateLimitLayer, impl Future<Output = ()> + Send + 'static) {
    let config = GovernorConfigBuilder::default()
        .period(Duration::from_secs(1) / limit)
        .burst_size(limit)
        .key_extractor(ByClientAddress)
        .finish()
        .expect("from one to a million requests a second");
    let limiter = Arc::clone(config.limiter());
    let rejected = REJECTED.with(["rate_limit"]);
    let layer = GovernorLayer::new(config).error_handler(move |error| {
        rejected.increment(1);
        refuse(error)
    });
    let forget_clients = async move {
        loop {
            time::sleep(FORGET_CLIENTS_INTERVAL).await;
            limiter.retain_recent();
        }
    };
    (layer, forget_clients)
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
