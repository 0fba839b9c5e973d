//! Users in Postgres. Each change writes the user and its outbox event in one statement, the
//! users row first: its lock gives the events of a user their order, and the transaction has its
//! xid before the event's id is drawn, which the relay relies on.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::draft::Draft;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) version: i64,
}

/// Why a change was not made. Requests that shared a statement share its error.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("another user has this e-mail address")]
    EmailTaken,
    #[error("Postgres can't be reached")]
    Unavailable(#[source] Arc<sqlx::Error>),
    #[error("Postgres refused")]
    Refused(#[source] Arc<sqlx::Error>),
    #[error("an open transaction holds what is to be changed")]
    Locked,
    #[error("this process is stopping")]
    Stopping,
}

/// A user to be, and the trace of the request that wants it.
#[derive(Debug)]
pub(crate) struct NewUser {
    pub(crate) draft: Draft,
    pub(crate) traceparent: Option<String>,
}

/// Creates those users whose address is free, all in one statement; the answers stand in the
/// order of the requests. No two of them may have the very same address.
pub(crate) async fn create(
    db: impl PgExecutor<'_>,
    users: &[&NewUser],
) -> Result<Vec<Result<User, StoreError>>, StoreError> {
    let column = |field: fn(&NewUser) -> &str| users.iter().map(|user| field(user)).collect();
    let names: Vec<&str> = column(|user| user.draft.name.as_str());
    let emails: Vec<&str> = column(|user| user.draft.email.as_str());
    let event_ids: Vec<_> = users.iter().map(|_| Uuid::now_v7()).collect();
    let traceparents: Vec<_> = users.iter().map(|it| it.traceparent.as_deref()).collect();
    // In a file of its own, because pgbench runs the same for comparison.
    let created: Vec<User> = sqlx::query_as(include_str!("create.sql"))
        .bind(event_ids)
        .bind(traceparents)
        .bind(names)
        .bind(&emails)
        .fetch_all(db)
        .await?;
    let mut by_email: HashMap<_, _> = (created.into_iter())
        .map(|user| (user.email.clone(), user))
        .collect();
    let answer = |email: &&str| by_email.remove(*email).ok_or(StoreError::EmailTaken);
    Ok(emails.iter().map(answer).collect())
}

/// `None` if there is no such user, or if it is so already: then nothing is written.
pub(crate) async fn replace(
    db: impl PgExecutor<'_>,
    id: i64,
    draft: &Draft,
    traceparent: Option<&str>,
) -> Result<Option<User>, StoreError> {
    sqlx::query_as(
        r"
        with updated as (
            update users
            set name = $4, email = $5, version = version + 1, updated_at = clock_timestamp()
            where id = $3 and (name, email) is distinct from ($4, $5)
            returning id, name, email, updated_at, version
        ), event as (
            insert into outbox (event_id, type, user_id, version, payload, traceparent)
            select $1, 'user_updated', id, version,
                   user_state(id, name, email, updated_at, version), $2
            from updated
        )
        select * from updated
        ",
    )
    .bind(Uuid::now_v7())
    .bind(traceparent)
    .bind(id)
    .bind(draft.name.as_str())
    .bind(draft.email.as_str())
    .fetch_optional(db)
    .await
    .map_err(StoreError::from)
}

/// Whether there was such a user. The event's version is one above that of the state it ends.
pub(crate) async fn delete(
    db: impl PgExecutor<'_>,
    id: i64,
    traceparent: Option<&str>,
) -> Result<bool, StoreError> {
    let deleted: Option<i64> = sqlx::query_scalar(
        r"
        with deleted as (
            delete from users where id = $3
            returning id, name, email, clock_timestamp() as deleted_at, version + 1 as version
        ), event as (
            insert into outbox (event_id, type, user_id, version, payload, traceparent)
            select $1, 'user_deleted', id, version,
                   user_state(id, name, email, deleted_at, version), $2
            from deleted
        )
        select id from deleted
        ",
    )
    .bind(Uuid::now_v7())
    .bind(traceparent)
    .bind(id)
    .fetch_optional(db)
    .await?;
    Ok(deleted.is_some())
}

pub(crate) async fn find(db: impl PgExecutor<'_>, id: i64) -> Result<Option<User>, StoreError> {
    sqlx::query_as("select id, name, email, updated_at, version from users where id = $1")
        .bind(id)
        .fetch_optional(db)
        .await
        .map_err(StoreError::from)
}

/// At most `limit` users with an id above `after`, in the order of their ids.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    after: i64,
    limit: u16,
) -> Result<Vec<User>, StoreError> {
    sqlx::query_as(
        r"
        select id, name, email, updated_at, version from users
        where id > $1 order by id limit $2
        ",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
    .map_err(StoreError::from)
}

impl From<sqlx::Error> for StoreError {
    /// The constraint's name decides: looking first would race with another writer.
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refusal) if refusal.constraint() == Some("users_email_key") => {
                Self::EmailTaken
            }
            // lock_not_available
            sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some("55P03") => {
                Self::Locked
            }
            // Class 57: operator intervention, such as a shutdown or the statement timeout.
            sqlx::Error::Database(refusal)
                if refusal.code().is_some_and(|code| code.starts_with("57")) =>
            {
                Self::Unavailable(Arc::new(error))
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(Arc::new(error)),
            _ => Self::Refused(Arc::new(error)),
        }
    }
}
