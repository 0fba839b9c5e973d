//! The handler: one row of the audit log for each event.

use event_consumer::{Handler, HandlerError, Message, Rejection, Verdict};
use postgres_pool::{Failure, Pool, retry_conflicts};

use crate::{entry::Entry, store};

/// `query_canceled`: the statement took longer than its time limit.
const TIME_LIMIT_EXCEEDED: &str = "57014";

pub(crate) struct AuditLog {
    pool: Pool,
}

impl AuditLog {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Writes all entries in one statement. If Postgres refuses one of them, halves the batch until
    /// it is known which; their places, and why.
    async fn record(
        &self,
        entries: &[Entry],
        places: &[usize],
    ) -> Result<Vec<(usize, Rejection)>, HandlerError> {
        let mut refused = Vec::new();
        let mut parts = vec![(entries, places)];
        while let Some((entries, places)) = parts.pop() {
            let write = || store::record(&self.pool, entries);
            let is_conflict = |error: &_| Failure::from(error) == Failure::Conflict;
            let Err(error) = retry_conflicts(write, is_conflict).await else {
                continue;
            };
            if !is_about_the_data(&error) {
                return Err(handler_error(error));
            }
            if let [place] = places {
                refused.push((
                    *place,
                    Rejection::new("refused_by_postgres", error.to_string()),
                ));
                continue;
            }
            let (first, second) = entries.split_at(entries.len() / 2);
            let (first_places, second_places) = places.split_at(places.len() / 2);
            parts.push((second, second_places));
            parts.push((first, first_places));
        }
        Ok(refused)
    }
}

impl Handler for AuditLog {
    async fn prepare(&self) -> anyhow::Result<()> {
        Ok(store::check(&self.pool).await?)
    }

    async fn handle(&self, batch: &[Message]) -> Result<Vec<Verdict>, HandlerError> {
        let mut verdicts = vec![Verdict::Ack; batch.len()];
        let (mut entries, mut places) = (Vec::new(), Vec::new());
        for (place, message) in batch.iter().enumerate() {
            match Entry::parse(message) {
                Ok(entry) => {
                    entries.push(entry);
                    places.push(place);
                }
                Err(rejection) => verdicts[place] = Verdict::Reject(rejection),
            }
        }
        if !entries.is_empty() {
            for (place, rejection) in self.record(&entries, &places).await? {
                verdicts[place] = Verdict::Reject(rejection);
            }
        }
        Ok(verdicts)
    }
}

/// Whether an event is at fault, and would be refused again. Anything else, such as a missing
/// table, is the fault of the database.
fn is_about_the_data(error: &sqlx::Error) -> bool {
    // Data exception, constraint violation, program limit exceeded (JSON that is nested too deeply)
    const CLASSES: [&str; 3] = ["22", "23", "54"];
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| CLASSES.iter().any(|class| code.starts_with(class)))
}

fn handler_error(error: sqlx::Error) -> HandlerError {
    let code = error.as_database_error().and_then(|error| error.code());
    if code.as_deref() == Some(TIME_LIMIT_EXCEEDED) {
        return HandlerError::TooSlow(error.into());
    }
    HandlerError::Unavailable(anyhow::Error::from(error).context("writing to Postgres"))
}
