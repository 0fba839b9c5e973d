//! The list of valid tokens.

use std::fmt;

use anyhow::{bail, ensure};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Shorter ones could be guessed.
const MIN_BYTES: usize = 16;

/// What a request needs, and what a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Read,
    Write,
    /// Operations on the copies of any user, such as publishing users again.
    Repair,
}

impl Scope {
    /// Every token may read; nothing else is included in another scope.
    fn includes(self, needed: Self) -> bool {
        needed == Self::Read || needed == self
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Repair => "repair",
        })
    }
}

/// Tokens are kept and compared as their SHA-256: of one length, and nothing to leak.
#[derive(Debug)]
struct Token {
    hash: [u8; 32],
    scope: Scope,
}

#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<Token>);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Granted,
    Unknown,
    OutOfScope,
}

impl Tokens {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads `SCOPE TOKEN` from each line; a token that stands in several has all their scopes.
    ///
    /// # Errors
    /// If a line is something else. Does not repeat the line.
    pub(super) fn add<'a>(&mut self, lines: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
        for (number, line) in (1..).zip(lines) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (scope, token) = match line.split_once(char::is_whitespace) {
                Some(("read", token)) => (Scope::Read, token.trim()),
                Some(("write", token)) => (Scope::Write, token.trim()),
                Some(("repair", token)) => (Scope::Repair, token.trim()),
                _ => bail!("token {number} is not `read TOKEN`, `write TOKEN` or `repair TOKEN`"),
            };
            let is_whole =
                token.len() >= MIN_BYTES && token.bytes().all(|it| it.is_ascii_graphic());
            ensure!(
                is_whole,
                "token {number} must have at least {MIN_BYTES} visible ASCII characters"
            );
            let hash = Sha256::digest(token).into();
            self.0.push(Token { hash, scope });
        }
        Ok(())
    }

    /// All tokens are compared, so that the time tells nothing.
    pub(super) fn judge(&self, token: &str, needed: Scope) -> Verdict {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut verdict = Verdict::Unknown;
        for token in &self.0 {
            if token.hash.ct_eq(&hash).into() && verdict != Verdict::Granted {
                verdict = if token.scope.includes(needed) {
                    Verdict::Granted
                } else {
                    Verdict::OutOfScope
                };
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::{Scope, Tokens, Verdict};

    #[test]
    fn each_scope_includes_reading_and_no_other() {
        let mut tokens = Tokens::default();
        let text = "# old\nread reader-reader-reader\n\n write  writer-writer-writer \n\
                    repair repairer-repairer\nwrite both-both-both-both\nrepair both-both-both-both";
        tokens.add(text.lines()).expect("tokens");
        for (token, may_write, may_repair) in [
            ("reader-reader-reader", false, false),
            ("writer-writer-writer", true, false),
            ("repairer-repairer", false, true),
            ("both-both-both-both", true, true),
        ] {
            let verdict = |granted| match granted {
                true => Verdict::Granted,
                false => Verdict::OutOfScope,
            };
            assert_eq!(tokens.judge(token, Scope::Read), Verdict::Granted);
            assert_eq!(
                tokens.judge(token, Scope::Write),
                verdict(may_write),
                "{token}"
            );
            assert_eq!(
                tokens.judge(token, Scope::Repair),
                verdict(may_repair),
                "{token}"
            );
        }
        for unknown in ["reader-reader-readers", "reader-reader-reade", ""] {
            assert_eq!(tokens.judge(unknown, Scope::Read), Verdict::Unknown);
        }
    }

    #[test]
    fn a_line_that_is_not_a_token_is_refused_without_being_shown() {
        for bad in [
            "admin 0123456789abcdef",
            "read short-secret",
            "0123456789abcdef",
        ] {
            let error = Tokens::default().add([bad].into_iter());
            let error = error.expect_err("not a token").to_string();
            assert!(
                !error.contains("secret") && !error.contains("0123"),
                "{error}"
            );
        }
    }
}
