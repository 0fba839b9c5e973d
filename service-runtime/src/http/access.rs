//! Bearer tokens (RFC 6750).

mod granted;
mod rejections;
mod tokens;
mod withdrawal;

use std::{collections::HashSet, fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::{sync::watch, time};

pub(super) use self::granted::router;
use self::{
    rejections::{Reason, Rejections},
    tokens::{Scope, Tokens, Verdict},
    withdrawal::Grant,
};
use super::{ClientAddress, HttpSettings};
use crate::problem::{Kind, Problem};

/// How often the token file is looked at, and rejections are summed up in the log.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Which requests are let through.
#[derive(Debug)]
pub(super) struct Access {
    settings: HttpSettings,
    tokens: ArcSwap<Tokens>,
    /// Told to all that was begun with one of them.
    changed: watch::Sender<()>,
    /// What the file held at the start.
    file_hash: Option<[u8; 32]>,
    /// Paths whose operations need a token of scope repair.
    repair_paths: HashSet<String>,
    rejections: Rejections,
}

impl Access {
    /// `None` if no tokens are set.
    ///
    /// # Errors
    /// If the file can't be read, or what is set is no list of tokens. Shows no token.
    pub(super) fn from_settings(
        settings: &HttpSettings,
        repair_paths: HashSet<String>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        if !settings.has_tokens() {
            return Ok(None);
        }
        let file = settings.token_file.as_deref().map(read).transpose()?;
        Ok(Some(Arc::new(Self {
            tokens: ArcSwap::from_pointee(parse(file.as_ref(), settings)?),
            changed: watch::Sender::new(()),
            file_hash: file.as_ref().map(hash),
            settings: settings.clone(),
            repair_paths,
            rejections: Rejections::default(),
        })))
    }

    /// Takes over the tokens of the file when it changes, and writes the log of rejections.
    pub(super) async fn maintain(self: Arc<Self>) {
        // A pipe can be read once only.
        let watched = (self.settings.token_file.clone()).filter(|path| path.is_file());
        let mut known = self.file_hash;
        loop {
            time::sleep(REFRESH_INTERVAL).await;
            self.rejections.sum_up();
            if let Some(path) = watched.clone() {
                let file = tokio::task::spawn_blocking(move || read(&path)).await;
                let file = file.context("reading tokens").flatten();
                let found = file.as_ref().ok().map(hash);
                if found != known {
                    known = found;
                    self.replace_tokens(file);
                }
            }
        }
    }

    fn replace_tokens(&self, file: anyhow::Result<SecretString>) {
        match file.and_then(|file| parse(Some(&file), &self.settings)) {
            Ok(tokens) => {
                tracing::info!(tokens = tokens.len(), "reloaded the API tokens");
                self.tokens.store(Arc::new(tokens));
                self.changed.send_replace(());
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "could not reload the API tokens; the former ones stay valid"
            ),
        }
    }

    fn judge(&self, token: &str, needed: Scope) -> Verdict {
        self.tokens.load().judge(token, needed)
    }

    fn needed_scope(&self, request: &Request) -> Scope {
        let path = request.extensions().get::<MatchedPath>();
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
            Scope::Read
        } else if path.is_some_and(|path| self.repair_paths.contains(path.as_str())) {
            Scope::Repair
        } else {
            Scope::Write
        }
    }
}

fn read(path: &Path) -> anyhow::Result<SecretString> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("reading tokens from {}", path.display()))?;
    Ok(text.into())
}

fn hash(file: &SecretString) -> [u8; 32] {
    Sha256::digest(file.expose_secret()).into()
}

fn parse(file: Option<&SecretString>, settings: &HttpSettings) -> anyhow::Result<Tokens> {
    let file = file.map_or("", |file| file.expose_secret());
    let set = settings
        .tokens
        .as_ref()
        .map_or("", ExposeSecret::expose_secret);
    let mut tokens = Tokens::default();
    tokens.add(file.lines()).context("token file")?;
    tokens.add(set.split(',')).context("API_TOKENS")?;
    ensure!(tokens.len() > 0, "tokens are to be used, but none is set");
    Ok(tokens)
}

/// Lets a request pass whose token may do what it asks, for as long as it may.
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    client: ClientAddress,
    request: Request,
    next: Next,
) -> Response {
    let needed = access.needed_scope(&request);
    let verdict = match bearer(request.headers()) {
        None => Err(Reason::NoToken),
        Some(token) => match access.judge(token, needed) {
            Verdict::Granted => Ok(SecretString::from(token)),
            Verdict::Unknown => Err(Reason::UnknownToken),
            Verdict::OutOfScope => Err(Reason::InsufficientScope),
        },
    };
    let reason = match verdict {
        Ok(token) => {
            let grant = Grant {
                access,
                token,
                scope: needed,
            };
            return grant.answer(request, next).await;
        }
        Err(reason) => reason,
    };
    access.rejections.log(client, reason);
    if reason == Reason::InsufficientScope {
        return Problem::new(Kind::FORBIDDEN)
            .detail(format!("this request needs a token of scope {needed}"))
            .into_response();
    }
    let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (challenge, Problem::new(Kind::UNAUTHENTICATED)).into_response()
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
