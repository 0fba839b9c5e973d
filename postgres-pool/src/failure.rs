//! What a failed statement means, by its SQLSTATE: the one place that knows.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};

/// `read_only_sql_transaction`: a standby, or a primary that was demoted.
pub(super) const READ_ONLY: &str = "25006";

/// What can be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Rolled back because of a concurrent transaction: safe to run again at once.
    Conflict,
    /// A lock was not free in time. Nothing was changed; later it may be.
    Locked,
    /// Postgres can't be reached or can't do its work now. If the connection was lost, nobody
    /// knows whether the statement was carried out.
    Unavailable,
    /// The statement is wrong, or breaks a rule; it would fail again.
    Refused,
}

impl From<&sqlx::Error> for Failure {
    fn from(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(refusal) => {
                refusal.code().as_deref().map_or(Self::Refused, of_sqlstate)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}

fn of_sqlstate(code: &str) -> Failure {
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Failure::Conflict,
        // lock_not_available
        "55P03" => Failure::Locked,
        READ_ONLY => Failure::Unavailable,
        // idle_in_transaction_session_timeout
        "25P03" => Failure::Unavailable,
        _ => match code.get(..2) {
            // Connection exception, insufficient resources, operator intervention (a shutdown, a
            // start, the statement timeout), system error
            Some("08" | "53" | "57" | "58") => Failure::Unavailable,
            _ => Failure::Refused,
        },
    }
}

/// Runs what may conflict with concurrent transactions, a few times if it does. `attempt` is to be
/// one statement or one whole transaction.
///
/// # Errors
/// The last one, if it conflicts each time, and any other at once.
pub async fn retry_conflicts<T, E, F: Future<Output = Result<T, E>>>(
    attempt: impl FnMut() -> F,
    is_conflict: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(100))
        .with_max_times(3)
        .with_jitter();
    (attempt.retry(delays))
        .when(is_conflict)
        .notify(|_, _| tracing::debug!("running a statement again after a conflict"))
        .await
}

#[cfg(test)]
mod tests {
    use super::{Failure, of_sqlstate};

    #[test]
    fn each_sqlstate_has_its_meaning() {
        for (code, expected) in [
            ("40001", Failure::Conflict),
            ("40P01", Failure::Conflict),
            ("55P03", Failure::Locked),
            ("25006", Failure::Unavailable),
            ("25P03", Failure::Unavailable),
            ("53100", Failure::Unavailable),
            ("53300", Failure::Unavailable),
            ("57014", Failure::Unavailable),
            ("57P01", Failure::Unavailable),
            ("57P03", Failure::Unavailable),
            ("08006", Failure::Unavailable),
            ("58030", Failure::Unavailable),
            ("23505", Failure::Refused),
            ("22021", Failure::Refused),
            ("", Failure::Refused),
        ] {
            assert_eq!(of_sqlstate(code), expected, "{code}");
        }
    }
}
