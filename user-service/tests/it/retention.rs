use testkit::{Service, eventually};

use crate::support::{World, assert_in_order};

#[tokio::test]
async fn old_events_go_by_the_partition_once_they_are_published() {
    let world = world_with_small_partitions().await;
    let flags = [
        "--outbox-retention",
        "1s",
        "--outbox-partition-events",
        "100",
    ];
    let api = world.serve(&flags).await;
    partition_for(&world, 800).await;
    let first = first_partition(&world).await;
    let id = api.create().await;
    for round in 0..450 {
        api.rename(id, &format!("Ada {round}")).await;
    }
    assert_in_order(&world.published(451).await);
    eventually("old partitions to be dropped", async || {
        (first_partition(&world).await > first + 300).then_some(())
    })
    .await;
    assert_eq!(
        in_overflow(&world).await,
        0,
        "partitions are made ahead of need"
    );
    let left: i64 = sqlx::query_scalar("select count(*) from outbox.event")
        .fetch_one(&world.database.pool)
        .await
        .expect("a count");
    assert!(left < 200, "{left} events are left");
    api.rename(id, "Ada at last").await;
    world.published(452).await;
}

#[tokio::test]
async fn events_that_are_not_published_stay_however_old_they_are() {
    let world = world_with_small_partitions().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    for round in 0..250 {
        api.rename(id, &format!("Ada {round}")).await;
    }
    let old = "update outbox.event set created_at = now() - interval '1 year'";
    sqlx::query(old)
        .execute(&world.database.pool)
        .await
        .expect("old events");
    let flags = [
        "--outbox-retention",
        "1s",
        "--outbox-partition-events",
        "100",
    ];
    let _relay = world.serve(&flags).await;
    assert_in_order(&world.published(251).await);
}

/// As a dump does, which reads every table in one transaction.
#[tokio::test]
async fn a_transaction_that_has_read_the_outbox_for_long_stops_neither_writes_nor_their_events() {
    let world = world_with_small_partitions().await;
    let api = world.serve(&["--outbox-partition-events", "100"]).await;
    partition_for(&world, 800).await;
    let mut dump = world.database.pool.begin().await.expect("a transaction");
    sqlx::query("set transaction isolation level repeatable read")
        .execute(&mut *dump)
        .await
        .expect("a snapshot");
    sqlx::query("select from outbox.event")
        .execute(&mut *dump)
        .await
        .expect("the outbox");
    let id = api.create().await;
    for round in 0..550 {
        api.rename(id, &format!("Ada {round}")).await;
    }
    assert_in_order(&world.published(551).await);
    assert_eq!(in_overflow(&world).await, 0);
    dump.commit().await.expect("a commit");
    partition_for(&world, 1300).await;
}

#[tokio::test]
async fn an_overflow_that_was_used_is_left_behind() {
    let world = world_with_small_partitions().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    for round in 0..300 {
        api.rename(id, &format!("Ada {round}")).await;
    }
    assert_eq!(in_overflow(&world).await, 101, "no relay made partitions");
    let mut relay = world.environment();
    relay.push(("OUTBOX_PARTITION_EVENTS", "100".to_owned()));
    let _relay = Service::start("user-service", &["relay"], &relay);
    partition_for(&world, 1200).await;
    // It takes what comes before the first of them, and nothing after that.
    world
        .execute("select setval('outbox.event_id_seq', 1150)")
        .await;
    for round in 0..10 {
        api.rename(id, &format!("Ada L. {round}")).await;
    }
    assert_in_order(&world.published(311).await);
    assert_eq!(in_overflow(&world).await, 101);
}

async fn in_overflow(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from outbox.event_overflow")
        .fetch_one(&world.database.pool)
        .await
        .expect("a count")
}

/// Waits for the partition of this id.
async fn partition_for(world: &World, id: i64) {
    eventually("a partition", async || {
        let found: bool = sqlx::query_scalar(
            r"
            select exists (
                select from pg_inherits join pg_class on pg_class.oid = inhrelid
                where inhparent = 'outbox.event'::regclass and relname ~ '^event_\d+_\d+$'
                    and split_part(relname, '_', 2)::bigint <= $1
                    and split_part(relname, '_', 3)::bigint > $1
            )
            ",
        )
        .bind(id)
        .fetch_one(&world.database.pool)
        .await
        .ok()?;
        found.then_some(())
    })
    .await;
}

/// The migration makes the first partition for a million events: too many for a test.
async fn world_with_small_partitions() -> World {
    let world = World::new().await;
    let (migrated, output) = world.run(&["migrate"]).await;
    assert!(migrated, "{output}");
    let shrink = r"
        drop table outbox.event_1_1000001;
        create table outbox.event_1_101 partition of outbox.event for values from (1) to (101);
        create table outbox.event_101_201 partition of outbox.event for values from (101) to (201);
    ";
    world.execute(shrink).await;
    world
}

async fn first_partition(world: &World) -> i64 {
    sqlx::query_scalar(
        r"
        select min(split_part(relname::text, '_', 2)::bigint) from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = 'outbox.event'::regclass and relname <> 'event_overflow'
        ",
    )
    .fetch_one(&world.database.pool)
    .await
    .expect("a partition")
}
