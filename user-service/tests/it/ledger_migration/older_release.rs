//! What the releases before the schema `outbox` left in a database, and how they write.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_nats::{HeaderMap, jetstream};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, PgConnection, PgPool, Row,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgRow},
};
use testkit::{eventually, unique};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::World;

/// The last migration before the ledger was moved.
const LAST_MIGRATION: i64 = 6;
/// A lock is waited for this long, as by the older releases.
const LOCK_TIMEOUT: &str = "set lock_timeout = '1s'";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const CREATE: &str = r"
    with created as (
        insert into users (name, email, normal_email) values ('Ada', $3, $3)
        on conflict do nothing
        returning id, name, email, updated_at, version
    ), event as (
        insert into outbox (event_id, type, user_id, version, payload, traceparent)
        select $1, 'user_created', id, version,
               user_state(id, name, email, updated_at, version), $2
        from created
    )
    select 'user_created' as type, id, user_state(id, name, email, updated_at, version)::text as payload
    from created
";

const RENAME: &str = r"
    with current as (
        select * from users where id = $3 for no key update
    ), changed as (
        update users set name = current.name || 'a', version = current.version + 1,
                         updated_at = clock_timestamp()
        from current where users.id = current.id
        returning users.id, users.name, users.email, users.updated_at, users.version
    ), event as (
        insert into outbox (event_id, type, user_id, version, payload, traceparent)
        select $1, 'user_updated', id, version,
               user_state(id, name, email, updated_at, version), $2
        from changed
    )
    select 'user_updated' as type, id, user_state(id, name, email, updated_at, version)::text as payload
    from changed
";

/// An event that was committed.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) event_id: String,
    pub(super) user_id: i64,
    /// As it is to be on the stream.
    pub(super) body: String,
}

impl Written {
    fn new(event_id: Uuid, row: &PgRow) -> Self {
        let (kind, payload): (String, String) = (row.get("type"), row.get("payload"));
        Self {
            event_id: event_id.to_string(),
            user_id: row.get("id"),
            body: format!(r#"{{"type":"{kind}","payload":{payload}}}"#),
        }
    }
}

pub(super) type Events = BTreeMap<String, Written>;

/// A database in which everything is as it can be when the migration begins.
pub(super) struct OlderRelease {
    url: String,
    /// All that was committed so far.
    pub(super) events: Events,
    /// Those of them that were set aside.
    pub(super) parked: BTreeSet<String>,
    /// Several writers change this user.
    shared_user: i64,
    written: Arc<AtomicUsize>,
}

impl OlderRelease {
    pub(super) async fn begin(world: &World) -> Self {
        let pool = &world.database.pool;
        migrate(pool).await;
        let mut connection = pool.acquire().await.expect("a connection");
        let mut in_order = Vec::new();
        for round in 0..30 {
            let created = create(&mut connection).await;
            let renamed = rename(&mut connection, created.user_id).await;
            in_order.extend([created, renamed.expect("a user")]);
            if round % 3 == 0 {
                roll_back(&mut connection).await;
            }
        }
        // Each user has two events in a row. Those of one user were set aside, those of another were
        // committed after the relay had passed their ids.
        let (parked, late) = (&in_order[8..10], &in_order[10..12]);
        set_aside(pool, parked).await;
        let published: Vec<_> = in_order[..8].iter().chain(&in_order[12..40]).collect();
        let (kept, lost) = published.split_at(28);
        let acknowledged = publish(world, kept).await;
        save_checkpoint(pool, acknowledged, kept[27], late).await;
        // The stream has acknowledged these as well, and has lost them.
        let acknowledged = acknowledged + lost.len() as i64;
        save_cursor(pool, acknowledged, lost[lost.len() - 1], late).await;

        Self {
            url: world.database.url.clone(),
            parked: parked.iter().map(|it| it.event_id.clone()).collect(),
            shared_user: in_order[0].user_id,
            events: (in_order.into_iter())
                .map(|event| (event.event_id.clone(), event))
                .collect(),
            written: Arc::default(),
        }
    }

    /// Writes with so many connections until it is told to stop; what was committed.
    pub(super) fn keep_writing(
        &self,
        writers: usize,
        stop: &CancellationToken,
    ) -> impl Future<Output = Events> + use<> {
        let options: PgConnectOptions = self.url.parse().expect("a Postgres URL");
        let mut tasks = JoinSet::new();
        for _ in 0..writers {
            let (options, written) = (options.clone(), Arc::clone(&self.written));
            tasks.spawn(write(options, self.shared_user, written, stop.clone()));
        }
        async move { tasks.join_all().await.into_iter().flatten().collect() }
    }

    /// Waits until what is being written now is committed, and more.
    pub(super) async fn has_written_more(&self) {
        let before = self.written.load(Ordering::Relaxed);
        eventually("writers who go on", async || {
            (self.written.load(Ordering::Relaxed) > before + 50).then_some(())
        })
        .await;
    }
}

async fn migrate(pool: &PgPool) {
    let all = sqlx::migrate!("../schema/postgres/migrations");
    let known = all.iter().filter(|it| it.version <= LAST_MIGRATION);
    Migrator::with_migrations(known.cloned().collect())
        .run(pool)
        .await
        .expect("migrations");
}

async fn write(
    options: PgConnectOptions,
    shared_user: i64,
    count: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> Events {
    let mut connection = options.connect().await.expect("a connection");
    connection.execute(LOCK_TIMEOUT).await.expect("a setting");
    let mut events = Events::new();
    while !stop.is_cancelled() {
        let created = try_create(&mut connection).await;
        let own_user = created.as_ref().map_or(shared_user, |it| it.user_id);
        let written = [
            created,
            rename(&mut connection, own_user).await,
            rename(&mut connection, shared_user).await,
        ];
        for event in written.into_iter().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            events.insert(event.event_id.clone(), event);
        }
        if events.len().is_multiple_of(10) {
            roll_back(&mut connection).await;
        }
    }
    events
}

pub(super) async fn create(db: &mut PgConnection) -> Written {
    try_create(db).await.expect("a user")
}

async fn try_create(db: &mut PgConnection) -> Option<Written> {
    let event_id = Uuid::now_v7();
    let create = sqlx::query(CREATE)
        .bind(event_id)
        .bind(None::<&str>)
        .bind(format!("{}@example.com", unique("u")));
    unless_locked(create.fetch_one(db).await, event_id)
}

async fn rename(db: &mut PgConnection, user_id: i64) -> Option<Written> {
    let event_id = Uuid::now_v7();
    let rename = sqlx::query(RENAME)
        .bind(event_id)
        .bind(TRACEPARENT)
        .bind(user_id);
    unless_locked(rename.fetch_one(db).await, event_id)
}

/// An id that no event will have.
async fn roll_back(db: &mut PgConnection) {
    db.execute("begin").await.expect("a transaction");
    try_create(db).await;
    db.execute("rollback").await.expect("a rollback");
}

/// `None` if a lock was not free in time: nothing is written then.
fn unless_locked(row: sqlx::Result<PgRow>, event_id: Uuid) -> Option<Written> {
    match row {
        Ok(row) => Some(Written::new(event_id, &row)),
        Err(sqlx::Error::Database(refusal)) if refusal.code().as_deref() == Some("55P03") => None,
        Err(error) => panic!("{error}"),
    }
}

async fn set_aside(pool: &PgPool, events: &[Written]) {
    let event_ids: Vec<_> = events.iter().map(|it| it.event_id.as_str()).collect();
    let park = sqlx::query(
        r"
        insert into outbox_parked
        select id, event_id, type, user_id, version, payload, traceparent, created_at, 'too large', 3
        from outbox where event_id = any($1::text[]::uuid[])
        ",
    );
    park.bind(event_ids)
        .execute(pool)
        .await
        .expect("parked events");
}

/// The last sequence.
async fn publish(world: &World, events: &[&Written]) -> i64 {
    let client = async_nats::connect(&world.nats_url).await.expect("NATS");
    let jetstream = jetstream::new(client);
    let stream = jetstream::stream::Config {
        name: world.topic.stream.clone(),
        subjects: vec![world.topic.subject.clone()],
        ..Default::default()
    };
    jetstream.create_stream(stream).await.expect("a stream");
    let mut last_sequence = 0;
    for event in events {
        let mut headers = HeaderMap::new();
        for name in ["Nats-Msg-Id", "ce-id"] {
            headers.insert(name, event.event_id.as_str());
        }
        let (subject, body) = (world.topic.subject.clone(), event.body.clone().into());
        let published = jetstream.publish_with_headers(subject, headers, body);
        let acknowledged = published.await.expect("NATS").await;
        last_sequence = acknowledged.expect("an acknowledgement").sequence;
    }
    last_sequence.try_into().expect("a small number")
}

/// The relay stood after `last`, and did not see these `late` ones, nor what was rolled back.
async fn save_cursor(pool: &PgPool, sequence: i64, last: &Written, late: &[Written]) {
    let save = r"
        update relay_cursor
        set last_id = place.id, anchor_id = place.id, anchor_event_id = place.event_id,
            stream_sequence = $3, stream_event_id = place.event_id, gaps = place.gaps, epoch = 7,
            complete_from = 1
        from place
    ";
    save_place(save, pool, sequence, last, late).await;
}

async fn save_checkpoint(pool: &PgPool, sequence: i64, last: &Written, late: &[Written]) {
    let save = r"
        insert into relay_checkpoint (stream_sequence, stream_event_id, last_id, gaps, anchor_id,
                                      anchor_event_id)
        select $3, event_id, id, gaps, id, event_id from place
    ";
    save_place(save, pool, sequence, last, late).await;
}

async fn save_place(save: &str, pool: &PgPool, sequence: i64, last: &Written, late: &[Written]) {
    let place = r"
        with place as (
            select id, event_id, array(
                select int8range(missing, missing + 1) from generate_series(1, last.id) as missing
                where not exists (
                    select from outbox where id = missing and event_id <> all ($2::text[]::uuid[])
                )
                order by missing
            ) as gaps
            from outbox as last where event_id = $1::uuid
        )
    ";
    let late: Vec<_> = late.iter().map(|it| it.event_id.as_str()).collect();
    let saved = sqlx::query(AssertSqlSafe(format!("{place}{save}")))
        .bind(&last.event_id)
        .bind(late)
        .bind(sequence)
        .execute(pool)
        .await
        .expect("a place");
    assert_eq!(saved.rows_affected(), 1);
}
