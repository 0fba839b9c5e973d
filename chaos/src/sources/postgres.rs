//! What Postgres has, in one snapshot.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::event::{Event, User};

/// Bounded by the services: a statement has five seconds, an idle transaction ten.
const TRANSACTIONS_DEADLINE: Duration = Duration::from_secs(30);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Postgres {
    url: String,
    /// All events up to this id have been read, and none will be added.
    settled: i64,
    /// Above it.
    read: HashSet<i64>,
}

#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Those that were not read before, in the order of the ledger.
    pub(crate) events: Vec<Event>,
    pub(crate) users: HashMap<i64, User>,
    /// Events that are not published, or parked, and what is not reconciled: at most 100.
    pub(crate) open: Vec<String>,
}

impl Postgres {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            settled: 0,
            read: HashSet::new(),
        }
    }

    /// Reads everything once more, since an earlier state was put in its place.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(&self.url);
    }

    /// Waits until every transaction has ended that is open now. Events up to the id that is returned have
    /// been committed by then, or never will be.
    pub(crate) async fn until_settled(&self) -> anyhow::Result<i64> {
        let mut connection = connect(&self.url).await?;
        // A transaction has its own id before it draws that of an event.
        let drawn = "select last_value from outbox.event_id_seq";
        let drawn: i64 = sqlx::query_scalar(drawn).fetch_one(&mut connection).await?;
        let bound = "select pg_current_xact_id()::text";
        let bound: String = sqlx::query_scalar(bound).fetch_one(&mut connection).await?;
        let have_ended = "select pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8";
        let started = Instant::now();
        loop {
            let asking = sqlx::query_scalar(have_ended).bind(&bound);
            if asking.fetch_one(&mut connection).await? {
                return Ok(drawn);
            }
            let is_late = started.elapsed() > TRANSACTIONS_DEADLINE;
            ensure!(
                !is_late,
                "a transaction stays open for {TRANSACTIONS_DEADLINE:?}"
            );
            sleep(PAUSE).await;
        }
    }

    /// `settled` is what [`Self::until_settled`] returned.
    pub(crate) async fn snapshot(&mut self, settled: i64) -> anyhow::Result<Snapshot> {
        let snapshot = timeout(ANSWER_DEADLINE, self.read_all()).await;
        let (ids, snapshot) = snapshot.context("no answer from Postgres")??;
        self.settled = settled;
        self.read.extend(ids);
        self.read.retain(|id| *id > settled);
        Ok(snapshot)
    }

    /// The ids of the events, and everything.
    async fn read_all(&self) -> anyhow::Result<(Vec<i64>, Snapshot)> {
        let mut connection = connect(&self.url).await?;
        let mut transaction = connection.begin_with(ONE_SNAPSHOT).await?;
        let events = sqlx::query(EVENTS).bind(self.settled);
        let rows = events.fetch_all(&mut *transaction).await?;
        let (mut ids, mut events) = (Vec::new(), Vec::new());
        for row in rows {
            let id = row.try_get("id")?;
            if !self.read.contains(&id) {
                ids.push(id);
                events.push(event(&row)?);
            }
        }
        let rows = sqlx::query(USERS).fetch_all(&mut *transaction).await?;
        let users = rows.iter().map(user).collect::<anyhow::Result<_>>()?;
        let open = sqlx::query_scalar(OPEN);
        let open = open.fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        let snapshot = Snapshot {
            events,
            users,
            open,
        };
        Ok((ids, snapshot))
    }
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let connection = timeout(ANSWER_DEADLINE, PgConnection::connect(url)).await;
    Ok(connection.context("no connection to Postgres")??)
}

const ONE_SNAPSHOT: &str = "begin isolation level repeatable read, read only";
const EVENTS: &str = "
    select id, event_id, event_type, payload::text as payload from outbox.event
    where id > $1 and aggregate_type = 'user' order by id
";
const USERS: &str = "
    select id, name, email, version, (extract(epoch from updated_at) * 1000)::bigint as updated_at
    from users
";
const OPEN: &str = "
    select format('event %s of user %s is not published', id, aggregate_id) from outbox.pending
    union all
    select format('event %s of user %s is parked: %s', id, aggregate_id, reason) from outbox.parked
    union all
    select format('user %s of an orphan is not restated: %s', aggregate_id, error)
    from outbox.orphan where restated_at is null
    union all
    select format('stream %s is unreconciled since %s', stream, unreconciled_since)
    from outbox.cursor where unreconciled_since is not null
    limit 100
";

fn event(row: &PgRow) -> anyhow::Result<Event> {
    let payload: Value = serde_json::from_str(row.try_get("payload")?)?;
    let event_id: Uuid = row.try_get("event_id")?;
    Event::parse(event_id, row.try_get("event_type")?, &payload)
}

fn user(row: &PgRow) -> anyhow::Result<(i64, User)> {
    let id = row.try_get("id")?;
    let user = User {
        id,
        version: row.try_get("version")?,
        name: row.try_get("name")?,
        email: row.try_get("email")?,
        updated_at: row.try_get("updated_at")?,
    };
    Ok((id, user))
}
