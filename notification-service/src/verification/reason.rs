//! Why a pass could not go on, as readers of the API are told.

use std::{error::Error, fmt};

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{mongo::Failure, verify::Refused};

/// One of a few sentences. Addresses and answers of other servers are for the log only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "&'static str")]
pub(super) enum Reason {
    Unreachable,
    TokenRefused,
    Busy,
    Refused,
    NoDigests,
    MongoDb,
    Other,
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::TokenRefused,
        Self::Busy,
        Self::Refused,
        Self::NoDigests,
        Self::MongoDb,
        Self::Other,
    ];

    pub(super) fn of(error: &anyhow::Error) -> Self {
        let said: Option<Self> = error.downcast_ref().copied();
        let found = said.or_else(|| error.chain().find_map(Self::of_cause));
        found.unwrap_or(Self::Other)
    }

    fn of_cause(cause: &(dyn Error + 'static)) -> Option<Self> {
        if cause.is::<Failure>() {
            return Some(Self::MongoDb);
        }
        if cause.is::<reqwest::Error>() {
            return Some(Self::Unreachable);
        }
        let refused: &Refused = cause.downcast_ref()?;
        Some(match refused.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::TokenRefused,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Self::Busy,
            _ => Self::Refused,
        })
    }

    fn text(self) -> &'static str {
        match self {
            Self::Unreachable => "the user service can't be reached, or does not answer in time",
            Self::TokenRefused => "the user service refuses the token",
            Self::Busy => "the user service is overloaded or not available",
            Self::Refused => "the user service answers with an error",
            Self::NoDigests => "the user service is of a release without digests",
            Self::MongoDb => "MongoDB does not answer, or refuses a command",
            Self::Other => "an unexpected error, which the log tells",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl From<Reason> for &'static str {
    fn from(reason: Reason) -> Self {
        reason.text()
    }
}

impl From<String> for Reason {
    /// Earlier releases stored all that the log has.
    fn from(text: String) -> Self {
        let known = Self::ALL.into_iter().find(|reason| reason.text() == text);
        known.unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::{Context, anyhow};
    use reqwest::StatusCode;
    use serde_json::json;

    use super::Reason;
    use crate::{mongo::Failure, verification::state::PassError, verify::Refused};

    #[test]
    fn an_error_is_told_without_what_servers_are_called_and_say() {
        let refused = |status| {
            let refused = Refused {
                asked: "http://10.0.0.1:8080".to_owned(),
                status,
            };
            anyhow::Error::from(refused).context("comparing")
        };
        let late = Failure::Late(Duration::from_secs(5));
        let none: Option<()> = None;
        let no_digests = none.context(Reason::NoDigests).expect_err("it is none");
        for (error, expected) in [
            (refused(StatusCode::UNAUTHORIZED), Reason::TokenRefused),
            (refused(StatusCode::SERVICE_UNAVAILABLE), Reason::Busy),
            (refused(StatusCode::BAD_GATEWAY), Reason::Refused),
            (anyhow::Error::from(late).context("late"), Reason::MongoDb),
            (no_digests, Reason::NoDigests),
            (anyhow!("http://10.0.0.1 said 7"), Reason::Other),
        ] {
            assert_eq!(Reason::of(&error), expected, "{error:#}");
        }
    }

    #[test]
    fn what_an_earlier_release_stored_is_not_shown() {
        let read = |error: &str| -> Reason {
            let stored = json!({ "at": "2026-01-02T03:04:05Z", "error": error });
            let read: PassError = serde_json::from_value(stored).expect("an error");
            read.error
        };
        assert_eq!(read("asking http://10.0.0.1:8080: refused"), Reason::Other);
        for reason in Reason::ALL {
            assert_eq!(read(&reason.to_string()), reason);
        }
    }
}
