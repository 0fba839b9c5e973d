//! A database of the releases before the schema `outbox`, migrated while they go on writing.

mod older_release;

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Executor, PgPool};
use testkit::{Service, eventually};
use tokio_util::sync::CancellationToken;

use self::older_release::{Events, OlderRelease};
use crate::support::{World, assert_in_order};

#[tokio::test]
async fn a_ledger_of_older_releases_is_moved_while_they_write_and_nothing_is_lost() {
    let world = World::new().await;
    let older = OlderRelease::begin(&world).await;
    let stop = CancellationToken::new();
    let writers = older.keep_writing(4, &stop);

    // It drew an id before the migration begins, and commits while that waits.
    let mut open = world.database.pool.begin().await.expect("a transaction");
    let late = older_release::create(&mut open).await;
    let migrating = Service::start("user-service", &["migrate"], &world.environment());
    says(&migrating, "trying again").await;

    // It is killed between the two steps: the second can't get by this lock.
    let mut reader = world.database.pool.begin().await.expect("a transaction");
    let lock = "lock table republish_run in access share mode";
    reader.execute(lock).await.expect("a lock");
    open.commit().await.expect("a commit");
    is_waited_for(&world.database.pool, "republish_run", true).await;
    drop(migrating);
    older.has_written_more().await;
    // Its statement goes on waiting until it has waited too long.
    is_waited_for(&world.database.pool, "republish_run", false).await;
    reader.rollback().await.expect("a rollback");

    let relay = world.start(&["relay"]).await;
    relay.ready().await;
    older.has_written_more().await;
    stop.cancel();
    let mut written = writers.await;
    written.extend(older.events.clone());
    written.insert(late.event_id.clone(), late);

    assert_is_whole(&world, &written, &older.parked).await;
    // The stream had lost what it acknowledged last. That is published again, and only that.
    let events = world.events().await;
    let expected = written.len() - older.parked.len();
    assert_eq!(events.len(), expected, "nothing is published twice");
}

#[tokio::test]
async fn writers_of_older_releases_go_on_beside_a_migrated_service() {
    let world = World::new().await;
    let older = OlderRelease::begin(&world).await;
    let stop = CancellationToken::new();
    let writers = older.keep_writing(2, &stop);
    older.has_written_more().await;
    let api = world.serve(&[]).await;
    let id = api.create().await;
    api.rename(id, "Ada L.").await;
    older.has_written_more().await;
    stop.cancel();
    let mut written = writers.await;
    written.extend(older.events.clone());
    assert_is_whole(&world, &written, &older.parked).await;
}

/// Every event is on the stream with its content, in order, or is still parked.
async fn assert_is_whole(world: &World, written: &Events, parked: &BTreeSet<String>) {
    eventually("nothing to be pending", async || {
        let pending: i64 = sqlx::query_scalar("select count(*) from outbox.pending")
            .fetch_one(&world.database.pool)
            .await
            .ok()?;
        (pending == 0).then_some(())
    })
    .await;
    let events = world.events().await;
    assert_in_order(&events);
    let on_stream: BTreeMap<_, _> = events.iter().map(|it| (&it.id, &it.body)).collect();
    for (event_id, written) in written {
        let expected = (!parked.contains(event_id)).then_some(&written.body);
        assert_eq!(on_stream.get(event_id).copied(), expected, "{event_id}");
    }
    let still_parked: Vec<String> =
        sqlx::query_scalar("select event_id::text from outbox.parked where reason = 'too large'")
            .fetch_all(&world.database.pool)
            .await
            .expect("parked events");
    assert_eq!(&BTreeSet::from_iter(still_parked), parked);
}

async fn says(service: &Service, words: &str) {
    eventually(words, async || {
        let lines = service.process.output();
        lines.iter().any(|line| line.contains(words)).then_some(())
    })
    .await;
}

/// Waits until a statement waits for a lock on this table, or none does.
async fn is_waited_for(pool: &PgPool, table: &str, expected: bool) {
    eventually("a lock to be waited for, or not", async || {
        let waits = "select exists (
            select from pg_locks where relation = $1::regclass and not granted
        )";
        let waits: bool = sqlx::query_scalar(waits)
            .bind(table)
            .fetch_one(pool)
            .await
            .ok()?;
        (waits == expected).then_some(())
    })
    .await;
}
