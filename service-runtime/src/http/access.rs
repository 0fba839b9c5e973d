//! Bearer tokens (RFC 6750).

use std::{fs, sync::Arc};

use anyhow::{Context, bail, ensure};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::HttpSettings;
use crate::problem::{Kind, Problem};

/// Shorter ones could be guessed.
const MIN_BYTES: usize = 16;

/// Who may write may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Read,
    Write,
}

/// Tokens are kept and compared as their SHA-256: of one length, and nothing to leak.
#[derive(Debug)]
struct Token {
    hash: [u8; 32],
    scope: Scope,
}

/// The tokens that may ask.
#[derive(Debug, Clone)]
pub(super) struct Access(Arc<[Token]>);

impl Access {
    /// `None` if no tokens are set.
    ///
    /// # Errors
    /// If the file can't be read, or what is set is no list of tokens. Tells no token.
    pub(super) fn from_settings(settings: &HttpSettings) -> anyhow::Result<Option<Self>> {
        if !settings.has_tokens() {
            return Ok(None);
        }
        let mut tokens = Vec::new();
        if let Some(path) = &settings.token_file {
            let text = fs::read_to_string(path);
            let text = text.with_context(|| format!("reading tokens from {}", path.display()))?;
            parse(text.lines(), &mut tokens)?;
        }
        if let Some(text) = &settings.tokens {
            parse(text.expose_secret().split(','), &mut tokens)?;
        }
        ensure!(!tokens.is_empty(), "tokens are to be used, but none is set");
        Ok(Some(Self(tokens.into())))
    }

    /// All tokens are compared, so that the time tells nothing.
    fn scope_of(&self, token: &str) -> Option<Scope> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut scope = None;
        for token in self.0.iter() {
            if token.hash.ct_eq(&hash).into() {
                scope = scope.max(Some(token.scope));
            }
        }
        scope
    }
}

fn parse<'a>(lines: impl Iterator<Item = &'a str>, tokens: &mut Vec<Token>) -> anyhow::Result<()> {
    for (number, line) in lines.enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = number + 1;
        let (scope, token) = match line.split_once(char::is_whitespace) {
            Some(("read", token)) => (Scope::Read, token.trim()),
            Some(("write", token)) => (Scope::Write, token.trim()),
            _ => bail!("token {number} is not `read TOKEN` or `write TOKEN`"),
        };
        let is_whole = token.len() >= MIN_BYTES && token.bytes().all(|it| it.is_ascii_graphic());
        ensure!(
            is_whole,
            "token {number} must have at least {MIN_BYTES} visible ASCII characters"
        );
        let hash = Sha256::digest(token).into();
        tokens.push(Token { hash, scope });
    }
    Ok(())
}

/// Lets a request pass whose token may do what it asks.
pub(super) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    let token = bearer(request.headers());
    match token.and_then(|token| access.scope_of(token)) {
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
            (challenge, Problem::new(Kind::UNAUTHENTICATED)).into_response()
        }
        Some(Scope::Read) if !is_read(request.method()) => {
            Problem::new(Kind::FORBIDDEN).into_response()
        }
        Some(_) => next.run(request).await,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

#[cfg(test)]
mod tests {
    use super::{Access, Scope, parse};

    #[test]
    fn lists_of_tokens_are_read_and_searched() {
        let mut tokens = Vec::new();
        let text = "# old\nread 0123456789abcdef\n\n write  fedcba9876543210 \n";
        parse(text.lines(), &mut tokens).expect("tokens");
        let access = Access(tokens.into());
        assert_eq!(access.scope_of("0123456789abcdef"), Some(Scope::Read));
        assert_eq!(access.scope_of("fedcba9876543210"), Some(Scope::Write));
        assert_eq!(access.scope_of("0123456789abcdeg"), None);
        assert_eq!(access.scope_of(""), None);
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_told() {
        for bad in [
            "admin 0123456789abcdef",
            "read short-secret",
            "0123456789abcdef",
        ] {
            let error = parse([bad].into_iter(), &mut Vec::new()).expect_err("no token");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(!error.to_string().contains("0123"), "{error}");
        }
    }
}
