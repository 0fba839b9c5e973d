//! Seeing commits at once, without a word from producers and without a lock that others wait for.

use sqlx::{Connection, Executor, PgConnection, postgres::types::PgRange};
use testkit::{eventually, pgbouncer::PgBouncer};

use super::support::World;

/// `wait_for_event` in a session of its own, begun and not yet over.
struct Waiter {
    connection: PgConnection,
    last_id: i64,
    gaps: Vec<PgRange<i64>>,
}

impl Waiter {
    async fn new(world: &World, last_id: i64, gaps: Vec<PgRange<i64>>) -> Self {
        let connection = PgConnection::connect(&world.database.url).await;
        Self {
            connection: connection.expect("a connection"),
            last_id,
            gaps,
        }
    }

    async fn wait(mut self, seconds: f64) -> bool {
        sqlx::query_scalar("select outbox.wait_for_event($1, $2, $3 * interval '1 second')")
            .bind(self.last_id)
            .bind(self.gaps)
            .bind(seconds)
            .fetch_one(&mut self.connection)
            .await
            .expect("an answer")
    }
}

/// Until somebody waits.
async fn somebody_waits(world: &World) {
    eventually("a session that waits", async || {
        let waits = "select count(*) from pg_stat_activity
                     where query like 'select outbox.wait_for_event%' and state = 'active'
                         and wait_event = 'PgSleep' and datname = current_database()";
        let waits: i64 = sqlx::query_scalar(waits)
            .fetch_one(world.pool())
            .await
            .ok()?;
        (waits > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn waiting_ends_with_the_commit_of_a_new_event_or_of_a_late_one() {
    let world = World::new().await;
    for (last_id, gaps) in [(0, vec![]), (9, vec![PgRange::from(1..3)])] {
        world
            .execute("truncate outbox.event restart identity")
            .await;
        let mut open = world.pool().begin().await.expect("a transaction");
        let append = "select outbox.append('order', '1', 'placed', '{}')";
        open.execute(append).await.expect("an event");
        let waiter = Waiter::new(&world, last_id, gaps).await;
        let waiting = tokio::spawn(waiter.wait(600.0));
        somebody_waits(&world).await;
        assert!(!waiting.is_finished(), "it is not committed");
        open.commit().await.expect("a commit");
        assert!(waiting.await.expect("no panic"));
    }
}

/// Behind a pooler of transactions no statement waits: others need the connections to the server.
#[tokio::test]
async fn behind_pgbouncer_it_looks_instead_of_waiting() {
    let mut world = World::new().await;
    let bouncer = PgBouncer::start(&world.database.url, &["default_pool_size = 1"]).await;
    world.settings = vec![
        ("DATABASE_URL", bouncer.url()),
        ("DATABASE_POOLER", "transaction".to_owned()),
        ("MIGRATION_DATABASE_URL", world.database.url.clone()),
    ];
    // So long that polling finds nothing in time.
    let _relay = world.relay(&["--poll-interval", "1min"]);
    for count in 1..=5 {
        world
            .execute("select outbox.append('order', '1', 'placed', '{}')")
            .await;
        world.published(count).await;
    }
    let status = world.run(&["status"]).await.expect("all is well");
    assert!(status.contains("active relay"), "{status}");
}

#[tokio::test]
async fn waiting_ends_after_its_time_if_there_is_nothing() {
    let world = World::new().await;
    world
        .execute("select outbox.append('order', '1', 'placed', '{}')")
        .await;
    let waiter = Waiter::new(&world, 1, vec![PgRange::from(5..7)]).await;
    assert!(!waiter.wait(0.1).await);
}

/// A lock held for as long as it waits would make attaching or dropping partitions wait, and every
/// producer behind that.
#[tokio::test]
async fn while_it_waits_it_holds_no_lock_on_the_ledger() {
    let world = World::new().await;
    let mut open = world.pool().begin().await.expect("a transaction");
    let append = "select outbox.append('order', '1', 'placed', '{}')";
    open.execute(append).await.expect("an event");
    // It has reason to look at the ledger: an id is drawn, and others are missing.
    let waiter = Waiter::new(&world, 0, vec![PgRange::from(1..3)]).await;
    let waiting = tokio::spawn(waiter.wait(600.0));
    somebody_waits(&world).await;
    open.rollback().await.expect("a rollback");
    eventually("the strongest lock on the ledger", async || {
        let mut transaction = world.pool().begin().await.ok()?;
        let lock = "lock table outbox.event in access exclusive mode nowait";
        transaction.execute(lock).await.ok()
    })
    .await;
    assert!(!waiting.is_finished());
    waiting.abort();
}

/// Time that passes only while somebody sleeps, and a count of the sleeps.
const SLEEPS_ARE_COUNTED: &str = "
    create schema counted;
    create table counted.sleep (seconds double precision not null, till timestamptz not null);
    create function counted.clock_timestamp() returns timestamptz language sql volatile as $$
        select coalesce(max(till), 'epoch') from counted.sleep
    $$;
    create function counted.pg_sleep(seconds double precision) returns void language sql as $$
        insert into counted.sleep
        select $1, counted.clock_timestamp() + ceil($1 * 1000) * interval '1 ms'
    $$";

/// How long each pause was, in milliseconds.
async fn pauses_of_a_wait(world: &World, seconds: f64, silence: f64) -> Vec<f64> {
    world.execute("truncate counted.sleep").await;
    let mut session = PgConnection::connect(&world.database.url)
        .await
        .expect("a connection");
    // What stands before pg_catalog is called in its place.
    session
        .execute("set search_path = counted, pg_catalog")
        .await
        .expect("a search path");
    let wait = "select outbox.wait_for_event(
                    0, '{}', $1 * interval '1 second', $2 * interval '1 second')";
    let is_there: bool = sqlx::query_scalar(wait)
        .bind(seconds)
        .bind(silence)
        .fetch_one(&mut session)
        .await
        .expect("an answer");
    assert!(!is_there);
    sqlx::query_scalar("select ceil(seconds * 1000) from counted.sleep order by till")
        .fetch_all(world.pool())
        .await
        .expect("pauses")
}

#[tokio::test]
async fn an_idle_wait_costs_a_bounded_number_of_looks_and_begins_with_short_pauses() {
    let world = World::new().await;
    world.execute(SLEEPS_ARE_COUNTED).await;

    let after_an_event = pauses_of_a_wait(&world, 20.0, 0.0).await;
    let longest = after_an_event.iter().position(|pause| *pause >= 16.0);
    let longest = longest.expect("pauses at their longest");
    assert!(longest < 350, "{longest} looks until then");
    let many = 20_000 / 16 + 350;
    assert!(
        after_an_event.len() < many,
        "{} looks",
        after_an_event.len()
    );
    assert!(after_an_event[..50].iter().all(|pause| *pause <= 1.0));
    assert!(after_an_event.is_sorted());

    let mut silence = 0.0;
    for pause in &after_an_event {
        assert!(*pause <= 1.5 + silence / 100.0, "{pause} ms");
        silence += pause;
    }

    let after_silence = pauses_of_a_wait(&world, 20.0, 3600.0).await;
    assert!(after_silence.len() <= 20_000 / 16 + 1);
}

/// The relay says for how long there was silence: that decides how often is looked.
#[tokio::test]
async fn the_relay_looks_often_after_an_event_of_another_process_and_rarely_before() {
    let world = World::new().await;
    world
        .execute(
            "create table wait (number bigserial, silence interval not null);
             drop function outbox.wait_for_event;
             create function outbox.wait_for_event(
                 last_id bigint, gaps int8range[], timeout interval, silence interval
             ) returns boolean language plpgsql as $$
             begin
                 insert into public.wait (silence) values (silence);
                 perform pg_sleep(0.01);
                 return exists (select from outbox.event where id > wait_for_event.last_id);
             end
             $$",
        )
        .await;
    let silences = async || -> Vec<f64> {
        let silences = "select extract(epoch from silence)::float8 from wait order by number";
        let silences = sqlx::query_scalar(silences).fetch_all(world.pool()).await;
        silences.expect("silences")
    };
    let relay = world.relay(&[]);
    eventually("a first wait", async || {
        (!silences().await.is_empty()).then_some(())
    })
    .await;
    let idle = silences().await;
    assert!(idle.iter().all(|silence| *silence >= 2.0), "{idle:?}");

    let append = "select outbox.append('order', '1', 'placed', '{}')";
    // It can also be found by polling, or while the relay is not waiting.
    eventually("a wait shortly after an event", async || {
        world.execute(append).await;
        let silences = silences().await;
        silences.iter().any(|silence| *silence < 1.0).then_some(())
    })
    .await;
    eventually("silence that grows", async || {
        let silences = silences().await;
        silences.last().filter(|silence| **silence >= 1.0).copied()
    })
    .await;
    drop(relay);
}
