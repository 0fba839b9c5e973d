//! Users in Postgres. Each change writes the user and its outbox event in one statement, the
//! users row first: its lock gives the events of a user their order, and the transaction has its
//! xid before the event's id is drawn, which the relay relies on.

mod create;
pub(super) mod digests;
pub(super) mod id_sequence;
pub(super) mod normal_emails;
pub(super) mod republish;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use postgres_pool::Failure;
use serde::{Deserialize, Serialize};
use sqlx::PgExecutor;
use utoipa::ToSchema;
use uuid::Uuid;

pub(super) use self::create::{create, create_at_once};
use super::{draft::Draft, email::Email, name::Name};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct User {
    /// Never given to another user.
    #[schema(minimum = 1, example = 1)]
    pub(crate) id: i64,
    #[schema(example = "Ada Lovelace")]
    pub(crate) name: String,
    #[schema(example = "ada@example.com")]
    pub(crate) email: String,
    /// When this version was written, in whole milliseconds.
    pub(crate) updated_at: DateTime<Utc>,
    /// The user's own count of changes: 1 at creation, one more for each change.
    #[schema(minimum = 1, example = 1)]
    pub(crate) version: i64,
}

/// Why a change was not made. Requests that shared a statement share its error.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("another user has this e-mail address")]
    EmailTaken,
    #[error("there is no user {0}")]
    NoSuchUser(i64),
    #[error("the user's version is {0}, not the expected one")]
    OtherVersion(i64),
    #[error("Postgres can't be reached")]
    Unavailable(#[source] Arc<sqlx::Error>),
    #[error("concurrent transactions were in each other's way")]
    Conflict(#[source] Arc<sqlx::Error>),
    #[error("Postgres refused")]
    Refused(#[source] Arc<sqlx::Error>),
    #[error("an open transaction holds what is to be changed")]
    Locked,
    #[error("the change was not begun, because it waited too long for its turn")]
    TooLate,
    #[error("this process is stopping")]
    Stopping,
}

/// A user to be.
#[derive(Debug)]
pub(crate) struct NewUser {
    pub(crate) draft: Draft,
    /// As JSON: the trace context of the request that wants it.
    pub(crate) event_headers: Option<String>,
}

/// What is to become of a user: what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) name: Option<Name>,
    pub(crate) email: Option<Email>,
}

/// A user after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) user: User,
    /// False if the user was so already: then nothing was written, and the version stays.
    pub(crate) is_new: bool,
}

/// Changes a user whose version is one of `expected`, if any are named.
pub(crate) async fn change(
    db: impl PgExecutor<'_>,
    id: i64,
    change: &Change,
    expected: Option<&[i64]>,
    event_headers: Option<&str>,
) -> Result<Changed, StoreError> {
    let row = sqlx::query!(
        r#"
        with current as (
            select *, $7::bigint[] is null or version = any($7) as is_expected,
                   coalesce($5 <> email, false) as has_new_email
            from users where id = $3 for no key update
        ), changed as (
            update users
            set name = coalesce($4, current.name), email = coalesce($5, current.email),
                -- An address that stays keeps its normal form, even if another user has it.
                normal_email = case when has_new_email then $6 else current.normal_email end,
                normal_email_set = case when has_new_email then true end,
                version = current.version + 1, updated_at = clock_timestamp()
            from current
            where users.id = current.id and is_expected
                and (coalesce($4, current.name), coalesce($5, current.email))
                    is distinct from (current.name, current.email)
            returning users.*, user_state(users, users.version, users.updated_at) as state
        ), event as (
            insert into outbox.event (event_id, aggregate_type, aggregate_id, event_type, version,
                                      payload, headers)
            select $1::uuid, 'user', id::text, 'user_updated', version, state, $2::text::json
            from changed
        )
        select id as "id!", name as "name!", email as "email!", updated_at as "updated_at!",
               version as "version!", true as "is_expected!", true as "is_new!"
        from changed
        union all
        select id, name, email, updated_at, version, is_expected, false from current
        where not exists (select from changed)
        "#,
        Uuid::now_v7(),
        event_headers,
        id,
        change.name.as_ref().map(Name::as_str),
        change.email.as_ref().map(Email::as_str),
        change.email.as_ref().map(Email::normal),
        expected,
    )
    .fetch_optional(db)
    .await?
    .ok_or(StoreError::NoSuchUser(id))?;
    if !row.is_expected {
        return Err(StoreError::OtherVersion(row.version));
    }
    let user = User {
        id: row.id,
        name: row.name,
        email: row.email,
        updated_at: row.updated_at,
        version: row.version,
    };
    Ok(Changed {
        user,
        is_new: row.is_new,
    })
}

/// Deletes a user whose version is one of `expected`, if any are named. The version of the
/// deletion: one above that of the state it ends.
pub(crate) async fn delete(
    db: impl PgExecutor<'_>,
    id: i64,
    expected: Option<&[i64]>,
    event_headers: Option<&str>,
) -> Result<i64, StoreError> {
    let row = sqlx::query!(
        r#"
        with current as (
            select id, version, $4::bigint[] is null or version = any($4) as is_expected
            from users where id = $3 for update
        ), deleted as (
            delete from users using current where users.id = current.id and is_expected
            returning users.id, users.version + 1 as version,
                      user_state(users, users.version + 1, clock_timestamp()) as state
        ), event as (
            insert into outbox.event (event_id, aggregate_type, aggregate_id, event_type, version,
                                      payload, headers)
            select $1::uuid, 'user', id::text, 'user_deleted', version, state, $2::text::json
            from deleted
        )
        select version as "version!", is_expected as "is_expected!" from current
        "#,
        Uuid::now_v7(),
        event_headers,
        id,
        expected,
    )
    .fetch_optional(db)
    .await?
    .ok_or(StoreError::NoSuchUser(id))?;
    if !row.is_expected {
        return Err(StoreError::OtherVersion(row.version));
    }
    Ok(row.version + 1)
}

/// The user who has this address, however it is spelled. One whose normal form is not known yet is
/// found by the comparison of older releases.
pub(crate) async fn find_by_email(
    db: impl PgExecutor<'_>,
    email: &Email,
) -> Result<Option<User>, StoreError> {
    let found = sqlx::query_as!(
        User,
        r"
        select id, name, email, updated_at, version from users where id = (
            select id from users where normal_email = $2
            union all
            select id from users where lower(email) = lower($1) and normal_email is null
            limit 1
        )
        ",
        email.as_str(),
        email.normal(),
    );
    Ok(found.fetch_optional(db).await?)
}

pub(crate) async fn find(db: impl PgExecutor<'_>, id: i64) -> Result<User, StoreError> {
    let found = sqlx::query_as!(
        User,
        "select id, name, email, updated_at, version from users where id = $1",
        id
    );
    found
        .fetch_optional(db)
        .await?
        .ok_or(StoreError::NoSuchUser(id))
}

/// At most `limit` users with an id above `after`, in the order of their ids.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    after: i64,
    limit: u16,
) -> Result<Vec<User>, StoreError> {
    let list = sqlx::query_as!(
        User,
        r"
        select id, name, email, updated_at, version from users
        where id > $1 order by id limit $2
        ",
        after,
        i64::from(limit),
    );
    Ok(list.fetch_all(db).await?)
}

/// Whether users can be read and written: table and functions are as this release needs them, and the
/// server takes writes.
pub(crate) async fn check(db: impl PgExecutor<'_>) -> sqlx::Result<()> {
    // A read-only server refuses row locks, and this locks no row.
    sqlx::query!(
        r"
        select normal_email, user_state(users, version, updated_at) as state, event_headers(null)
        from users where false for key share
        "
    )
    .fetch_optional(db)
    .await?;
    Ok(())
}

/// Somebody is still migrating: a table, a column or a function is not there.
pub(super) fn is_old_schema(error: &sqlx::Error) -> bool {
    has_code(error, &["42P01", "42703", "42883"])
}

pub(super) fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| codes.contains(&code.as_ref()))
}

impl StoreError {
    /// Whether it was rolled back and may succeed if it is run again at once.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }
}

impl From<sqlx::Error> for StoreError {
    /// The constraint's name decides: looking first would race with another writer.
    fn from(error: sqlx::Error) -> Self {
        let constraint = error.as_database_error().and_then(|it| it.constraint());
        if let Some("users_normal_email_key" | "users_email_key") = constraint {
            return Self::EmailTaken;
        }
        // The sequence of events is behind, as after a logical replication: the relay moves it on.
        if constraint.is_some_and(|it| it.starts_with("event_") && it.ends_with("_pkey")) {
            return Self::Unavailable(Arc::new(error));
        }
        match Failure::from(&error) {
            Failure::Conflict => Self::Conflict(Arc::new(error)),
            Failure::Locked => Self::Locked,
            Failure::Unavailable => Self::Unavailable(Arc::new(error)),
            Failure::Refused => Self::Refused(Arc::new(error)),
        }
    }
}
