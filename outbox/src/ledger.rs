//! The ledger: insert-only events in the order of their ids. What is read of it.

use std::ops::Range;

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, postgres::types::PgRange};
use uuid::Uuid;

/// Payloads and headers that one statement brings, by a bound on their size that needs no reading of them: for
/// what is stored compressed the greatest that it can be. So no statement takes long however large events are.
pub(crate) const READ_BYTES: i64 = 8 << 20;

/// Whose events a reader wants. Of all others it learns no more than their ids: they are no gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Those of these aggregate types.
    Only(Vec<String>),
    /// Those of all aggregate types but these.
    AllBut(Vec<String>),
}

impl Selection {
    fn types(&self) -> &[String] {
        match self {
            Self::Only(types) | Self::AllBut(types) => types,
        }
    }

    fn is_inverted(&self) -> bool {
        matches!(self, Self::AllBut(_))
    }
}

/// One entry of the ledger, as the relay reads it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) event_id: Uuid,
    pub(crate) aggregate_type: String,
    pub(crate) created_at: DateTime<Utc>,
    /// Whether the reader wants it. If not, the fields that follow are empty.
    pub(crate) is_wanted: bool,
    pub(crate) aggregate_id: String,
    pub(crate) event_type: String,
    pub(crate) version: Option<i64>,
    /// JSON, passed on as it is.
    pub(crate) payload: String,
    /// A JSON object of strings.
    pub(crate) headers: Option<String>,
}

/// The entry with this id, if there is one, and those above it that are committed, in order, at most
/// `limit` of them and [`READ_BYTES`], or one that is larger. Ids that are missing between them belong to
/// transactions that are still open or were rolled back. A database with another identity than the one
/// given has none.
pub(crate) async fn read_from(
    db: impl PgExecutor<'_>,
    last_id: i64,
    limit: u16,
    selection: &Selection,
    identity: Option<&str>,
) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_file_as!(
        Entry,
        "src/ledger/read_from.sql",
        last_id,
        i64::from(limit),
        selection.types(),
        selection.is_inverted(),
        identity,
        READ_BYTES,
    )
    .fetch_all(db)
    .await
}

/// Where the ledger ends.
#[derive(Debug)]
pub(crate) struct End {
    /// The last id that was given out.
    pub(crate) drawn: i64,
    /// Of the event with the id that was asked for.
    pub(crate) event_id: Option<Uuid>,
}

/// Costs less than reading, which looks into all partitions that may come. `None` from a database with
/// another identity.
pub(crate) async fn end(
    db: impl PgExecutor<'_>,
    last_id: i64,
    identity: Option<&str>,
) -> sqlx::Result<Option<End>> {
    sqlx::query_as!(
        End,
        r#"
        select last_value - (not is_called)::int as "drawn!",
               (select event_id from outbox.event where id = $1) as event_id
        from outbox.event_id_seq
        where $2::text is null or outbox.database_identity() = $2
        "#,
        last_id,
        identity,
    )
    .fetch_optional(db)
    .await
}

/// Of each of these events, by id and event id, whether the ledger does not have it. What was dropped after
/// the retention was there; and what was parked has been. (`offset 0` keeps each lookup a lookup in one
/// partition.)
pub(crate) async fn lacks(
    db: impl PgExecutor<'_>,
    events: &[(i64, Uuid)],
) -> sqlx::Result<Vec<bool>> {
    let (ids, event_ids): (Vec<_>, Vec<_>) = events.iter().copied().unzip();
    sqlx::query_scalar!(
        r#"
        select (
            event.event_id is distinct from said.event_id
            and not (
                event.event_id is null and said.id < (select ledger_from from outbox.ledger)
            )
            and not exists (
                select from outbox.parked
                where parked.id = said.id and parked.event_id = said.event_id
            )
        ) as "is_lacking!"
        from unnest($1::bigint[], $2::uuid[]) with ordinality as said (id, event_id, number)
        left join lateral (
            select event_id from outbox.event where id = said.id offset 0
        ) as event on true
        order by number
        "#,
        &ids,
        &event_ids,
    )
    .fetch_all(db)
    .await
}

/// The last id that was given out; 0 before the first.
pub(crate) async fn drawn_id(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select coalesce(pg_sequence_last_value('outbox.event_id_seq'), 0) as "id!""#
    )
    .fetch_one(db)
    .await
}

/// What one snapshot shows of ids that were missing before.
#[derive(Debug)]
pub(crate) struct Filled {
    /// Every transaction with an xid below this one had ended when the snapshot was taken.
    pub(crate) horizon: i64,
    /// The entries found, in order.
    pub(crate) entries: Vec<Entry>,
    /// Whether that may not be all.
    pub(crate) is_cut: bool,
}

/// The columns of an entry are null in the only row of a snapshot that shows none.
struct FilledRow {
    horizon: i64,
    /// Rows before the bound on bytes; null as well.
    found: Option<i64>,
    id: Option<i64>,
    event_id: Option<Uuid>,
    aggregate_type: Option<String>,
    created_at: Option<DateTime<Utc>>,
    is_wanted: Option<bool>,
    aggregate_id: Option<String>,
    event_type: Option<String>,
    version: Option<i64>,
    payload: Option<String>,
    headers: Option<String>,
}

/// The entries within `gaps` that are committed by now, in order, at most `limit` of them and
/// [`READ_BYTES`], or one that is larger. Horizon and entries come from one statement, hence from one
/// snapshot.
///
/// Each gap is looked up by itself: a join with a limit would merge all partitions in the order of
/// their ids and read the whole ledger for an id that is missing. `gaps` are in order and do not
/// overlap, so their numbers order the entries, and reading ends at the limit.
///
/// # Errors
/// If Postgres can't be reached, or is a database with another identity than the one given.
pub(crate) async fn read_gaps(
    db: impl PgExecutor<'_>,
    gaps: &[Range<i64>],
    limit: u16,
    selection: &Selection,
    identity: Option<&str>,
) -> sqlx::Result<Filled> {
    let gaps: Vec<_> = gaps.iter().cloned().map(PgRange::from).collect();
    let rows = sqlx::query_file_as!(
        FilledRow,
        "src/ledger/read_gaps.sql",
        &gaps,
        i64::from(limit),
        selection.types(),
        selection.is_inverted(),
        identity,
        READ_BYTES,
    )
    .fetch_all(db)
    .await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (horizon, found) = (first.horizon, first.found.unwrap_or(0));
    let entries: Vec<_> = rows.into_iter().filter_map(FilledRow::entry).collect();
    let is_cut = found >= i64::from(limit) || entries.len() as u64 != found.unsigned_abs();
    Ok(Filled {
        horizon,
        entries,
        is_cut,
    })
}

impl FilledRow {
    fn entry(self) -> Option<Entry> {
        Some(Entry {
            id: self.id?,
            event_id: self.event_id?,
            aggregate_type: self.aggregate_type?,
            created_at: self.created_at?,
            is_wanted: self.is_wanted?,
            aggregate_id: self.aggregate_id?,
            event_type: self.event_type?,
            version: self.version,
            payload: self.payload?,
            headers: self.headers,
        })
    }
}

/// An xid above that of every transaction that has drawn an event's id so far.
/// `None` from another database, whose xids are others.
pub(crate) async fn bound(
    db: impl PgExecutor<'_>,
    identity: Option<&str>,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        r#"
        select pg_current_xact_id()::text::bigint as "xid!"
        where $1::text is null or outbox.database_identity() = $1
        "#,
        identity,
    )
    .fetch_optional(db)
    .await
}

/// The message id of this event, published or not.
pub(crate) async fn event_id(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!("select event_id from outbox.event where id = $1", id)
        .fetch_optional(db)
        .await
}

#[cfg(test)]
mod tests;
