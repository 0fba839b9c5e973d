//! `/metrics`: for whom, and what is looked up when it is asked for.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, ensure};
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::{fs, sync::Semaphore};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    health::Readiness,
    http::{bearer, is_for_loopback},
    metrics::{self, MetricsSettings, READY},
    problem::{Kind, Problem},
};

/// The text format of Prometheus.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Answers that are made at once. Prometheus asks once in some seconds, and there may be two of it.
const MAX_SCRAPES: usize = 4;
/// What proxies add.
const PASSED_ON: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];
/// Shorter tokens could be guessed.
const MIN_TOKEN_BYTES: usize = 16;

struct Endpoint {
    access: Access,
    readiness: Arc<Readiness>,
    scrapes: Semaphore,
}

/// Who gets an answer.
enum Access {
    /// Whoever has the token.
    Token(SecretString),
    TokenFile(TokenFile),
    Anybody,
    /// Whoever is on this host and, unlike a web page with a name of its own, says so; not who is
    /// passed on by a proxy there.
    Local,
    Nobody,
}

/// Read for each request, by few at once.
struct TokenFile {
    path: PathBuf,
    readers: Semaphore,
    /// Whether it has been logged that it can't be read.
    is_known_to_be_unreadable: AtomicBool,
}

/// `/metrics` of a process that listens on this address.
///
/// # Errors
/// If there is no valid token where the settings say that there is one. Shows no token.
pub(super) fn router<S: Clone + Send + Sync + 'static>(
    readiness: Arc<Readiness>,
    settings: &MetricsSettings,
    listens_on: SocketAddr,
) -> anyhow::Result<OpenApiRouter<S>> {
    Ok(routes(Endpoint {
        access: Access::new(settings, listens_on)?,
        readiness,
        scrapes: Semaphore::new(MAX_SCRAPES),
    }))
}

/// The same, for a description of the API.
pub(super) fn description<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S> {
    routes(Endpoint {
        access: Access::Nobody,
        readiness: Arc::new(Readiness::new(Vec::new())),
        scrapes: Semaphore::new(0),
    })
}

fn routes<S: Clone + Send + Sync + 'static>(endpoint: Endpoint) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(scrape))
        .with_state(Arc::new(endpoint))
}

/// Metrics for Prometheus
///
/// What each of them means is in docs/metrics.md.
#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "metrics",
    responses(
        (status = 200, description = "The text format of Prometheus, version 0.0.4",
         content_type = "text/plain", body = String),
        (status = 401),
        (status = 403),
        (status = 404),
        (status = 503),
    )
)]
async fn scrape(State(endpoint): State<Arc<Endpoint>>, request: Parts) -> Response {
    let text = endpoint.answer(&request).await;
    let answer = text.map(|text| ([(header::CONTENT_TYPE, CONTENT_TYPE)], text));
    let mut response = answer.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer");
        (response.headers_mut()).insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

impl Endpoint {
    async fn answer(&self, request: &Parts) -> Result<String, Problem> {
        self.access.check(request).await?;
        // Behind the token: whoever has none takes no place.
        let Ok(_scrape) = self.scrapes.try_acquire() else {
            return Err(Problem::new(Kind::OVERLOADED)
                .detail(format!(
                    "at most {MAX_SCRAPES} scrapes are answered at once"
                ))
                .retry_after(1));
        };
        if metrics::is_installed() {
            for (check, passes) in &*self.readiness.checks().await {
                READY.with([check]).set(if *passes { 1 } else { 0 });
            }
        }
        match metrics::render().await {
            Some(Ok(text)) => Ok(text),
            Some(Err(error)) => {
                tracing::error!(%error, "the metrics could not be written");
                Err(Problem::new(Kind::INTERNAL))
            }
            None => {
                Err(Problem::new(Kind::NOT_FOUND)
                    .detail("no metrics are collected: METRICS is off"))
            }
        }
    }
}

impl Access {
    fn new(settings: &MetricsSettings, listens_on: SocketAddr) -> anyhow::Result<Self> {
        if let Some(token) = &settings.metrics_token {
            ensure_whole(token).context("METRICS_TOKEN")?;
            return Ok(Self::Token(token.clone()));
        }
        if let Some(file) = &settings.metrics_token_file {
            let read = || -> anyhow::Result<()> {
                ensure_whole(&std::fs::read_to_string(file)?.trim().into())
            };
            read().with_context(|| format!("the token of {}", file.display()))?;
            return Ok(Self::TokenFile(TokenFile {
                path: file.clone(),
                readers: Semaphore::new(MAX_SCRAPES),
                is_known_to_be_unreadable: AtomicBool::new(false),
            }));
        }
        Ok(match listens_on.ip().to_canonical().is_loopback() {
            _ if settings.metrics_open => Self::Anybody,
            true => Self::Local,
            false => Self::Nobody,
        })
    }

    async fn check(&self, request: &Parts) -> Result<(), Problem> {
        let is_let_in = match self {
            Self::Token(token) => has_token(request, token),
            Self::TokenFile(file) => {
                (file.read().await?).is_some_and(|token| has_token(request, &token))
            }
            Self::Anybody => true,
            Self::Local if is_local(request) => true,
            Self::Local | Self::Nobody => {
                return Err(Problem::new(Kind::METRICS_CLOSED));
            }
        };
        match is_let_in {
            true => Ok(()),
            false => {
                Err(Problem::new(Kind::UNAUTHENTICATED).detail("metrics need a token of their own"))
            }
        }
    }
}

impl TokenFile {
    /// `None` if it can't be read, which is logged once until it can be read again.
    async fn read(&self) -> Result<Option<SecretString>, Problem> {
        let Ok(_reader) = self.readers.try_acquire() else {
            return Err(Problem::new(Kind::OVERLOADED).retry_after(1));
        };
        let text = fs::read_to_string(&self.path).await;
        let was_unreadable =
            (self.is_known_to_be_unreadable).swap(text.is_err(), Ordering::Relaxed);
        match text {
            Ok(token) => Ok(Some(token.trim().into())),
            Err(error) => {
                if !was_unreadable {
                    let file = self.path.display();
                    tracing::error!(%error, %file, "the token for metrics can't be read");
                }
                Ok(None)
            }
        }
    }
}

fn is_local(request: &Parts) -> bool {
    let is_passed_on = PASSED_ON.iter().any(|it| request.headers.contains_key(*it));
    !is_passed_on && is_for_loopback(&request.uri, &request.headers)
}

/// Hashes are compared: of one length, and the time tells nothing.
fn has_token(request: &Parts, token: &SecretString) -> bool {
    let token = token.expose_secret();
    let Some(shown) = bearer(&request.headers) else {
        return false;
    };
    let is_equal = Sha256::digest(shown).ct_eq(&Sha256::digest(token));
    // A file may be empty while it is written.
    token.len() >= MIN_TOKEN_BYTES && is_equal.into()
}

fn ensure_whole(token: &SecretString) -> anyhow::Result<()> {
    let token = token.expose_secret();
    let is_whole = token.len() >= MIN_TOKEN_BYTES && token.bytes().all(|it| it.is_ascii_graphic());
    ensure!(
        is_whole,
        "a token has at least {MIN_TOKEN_BYTES} visible ASCII characters"
    );
    Ok(())
}
