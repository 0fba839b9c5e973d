//! Whose cursor it is.

use postgres_pool::{Connection, Pool};

use super::{failure::Failure, lease::Lease};

/// A session's right to move the cursor of its stream: until the next session begins, of this relay or
/// of another one. Every statement of a session names all of this, so one that comes late, after its
/// session was given up, changes nothing of what the next one has read or written.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) stream: String,
    /// Of the lease.
    pub(super) epoch: i64,
    pub(super) session: i64,
    /// Of the database that gave the lease. A connection may come to another one without a word.
    pub(super) identity: String,
}

impl Owned {
    /// Begins a session, and thereby ends the one before.
    pub(super) async fn begin(pool: &Pool, lease: &Lease, stream: &str) -> Result<Self, Failure> {
        let session = sqlx::query_scalar!(
            r"
            update outbox.cursor
            -- As with the epoch of a lease, a database that was put back comes to no number that was in use
            -- a moment ago.
            set session = greatest(session, (extract(epoch from clock_timestamp()) * 1e6)::bigint) + 1
            where stream = $1 and epoch = $2 and outbox.database_identity() = $3
            returning session
            ",
            stream,
            lease.epoch,
            lease.identity,
        );
        let session = session.fetch_optional(pool).await?;
        Ok(Self {
            stream: stream.to_owned(),
            epoch: lease.epoch,
            session: session.ok_or(Failure::LeaseLost)?,
            identity: lease.identity.clone(),
        })
    }

    /// Whether the cursor is still this session's. If so, it stays so until the transaction ends.
    pub(super) async fn hold(&self, transaction: &mut Connection) -> Result<(), Failure> {
        let held = sqlx::query_scalar!(
            r"
            select epoch from outbox.cursor
            where stream = $1 and epoch = $2 and session = $3 and outbox.database_identity() = $4
            for update
            ",
            self.stream,
            self.epoch,
            self.session,
            self.identity,
        );
        match held.fetch_optional(transaction).await? {
            Some(_) => Ok(()),
            None => Err(Failure::SessionOver),
        }
    }
}

#[cfg(test)]
mod tests;
