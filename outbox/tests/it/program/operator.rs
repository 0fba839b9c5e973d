//! What operators and their scripts do with `outbox-relay`.

use testkit::eventually;

use super::support::World;

#[tokio::test]
async fn status_tells_people_and_scripts_what_needs_attention() {
    let world = World::new().await;
    let (code, output) = world.run(&["status"]).await.expect_err("no relay");
    assert_eq!(code, 3, "{output}");
    assert!(
        output.contains("no relay is active, and none ever was"),
        "{output}"
    );

    world
        .execute("select outbox.append('order', '1', 'placed', '{}')")
        .await;
    let mut relay = world.relay(&[]);
    world.published(1).await;
    let output = eventually("all to be well", async || world.run(&["status"]).await.ok()).await;
    assert!(output.contains("active relay: "), "{output}");
    let line = format!(
        "stream {} (all other aggregate types): 0 pending",
        world.stream
    );
    assert!(output.contains(&line), "{output}");
    assert!(output.contains("last sequence 1"), "{output}");

    relay.process.stop().await;
    world
        .execute("select outbox.append('order', '1', 'paid', '{}')")
        .await;
    let (code, output) = world.run(&["status"]).await.expect_err("no relay");
    assert_eq!(code, 3, "{output}");
    assert!(
        output.contains("no relay is active; the last was"),
        "{output}"
    );
    assert!(output.contains("1 pending, the oldest for"), "{output}");
}

#[tokio::test]
async fn a_list_counts_all_parked_events_and_shows_so_many() {
    let world = World::new().await;
    world
        .execute("select outbox.append('order', '1', 'placed', '{}') from generate_series(1, 3)")
        .await;
    world.park_all().await;
    let list = world.run(&["list", "--limit", "1"]).await.expect("a list");
    assert!(list.contains("3 parked"), "{list}");
    assert_eq!(list.matches(" tries: ").count(), 1, "{list}");
}

#[tokio::test]
async fn an_event_without_a_route_is_parked_shown_and_retried_once_there_is_one() {
    let world = World::new().await;
    let mut relay = world.relay(&[]);
    world
        .execute(
            "select outbox.append('cart', '1', 'filled', '{\"a\":1}', 7);
             select outbox.append('order', '1', 'placed', '{}');",
        )
        .await;
    world.published(1).await;
    eventually("a parked event", async || {
        let (code, output) = world.run(&["status"]).await.err()?;
        (code == 3 && output.contains("1 parked")).then_some(())
    })
    .await;
    let list = world.run(&["list"]).await.expect("a list");
    assert!(list.contains("1  filled  cart 1  version 7"), "{list}");
    let show = world.run(&["show", "1"]).await.expect("an event");
    assert!(show.contains("reason     no route"), "{show}");
    assert!(show.contains("payload    {\"a\":1}"), "{show}");

    relay.process.stop().await;
    let both = format!("order={0}:{1},cart={0}:{1}", world.stream, world.subject);
    let mut environment = world.environment();
    environment.retain(|(name, _)| *name != "RELAY_ROUTES");
    environment.push(("RELAY_ROUTES", both));
    let _relay = testkit::Service::start("outbox-relay", &["run"], &environment);
    world
        .execute("select outbox.append('cart', '1', 'emptied', '{}')")
        .await;
    world.published(2).await;
    let (code, output) = world.run(&["retry", "1"]).await.expect_err("later events");
    assert!(code == 1 && output.contains("--out-of-order"), "{output}");
    world
        .run(&["retry", "1", "--out-of-order"])
        .await
        .expect("it is retried");
    assert_eq!(
        world.published(3).await[2].body,
        r#"{"type":"filled","payload":{"a":1}}"#
    );
    world.run(&["show", "99"]).await.expect_err("there is none");
    world
        .run(&["discard", "1", "--yes"])
        .await
        .expect_err("it is parked no longer");
}

#[tokio::test]
async fn parked_events_of_one_aggregate_are_retried_in_their_order_and_in_no_other() {
    let world = World::new().await;
    world
        .execute(
            "select outbox.append('order', aggregate, 'changed', '{}')
             from unnest(array['1', '1', '1', '2', '2']) as aggregate",
        )
        .await;
    world.park_all().await;
    for id in ["1", "2", "3", "5"] {
        world.run(&["retry", id]).await.expect("it is retried");
    }
    let (_, output) = world.run(&["retry", "4"]).await.expect_err("5 is later");
    assert!(output.contains("event 4 stays parked"), "{output}");
    assert_eq!(world.retried().await, [1, 2, 3, 5]);

    // JetStream refuses the first one once more: 3 was appended after it.
    world
        .execute(
            "insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type,
                                        payload, created_at, reason, attempts)
             select id, event_id, aggregate_type, aggregate_id, event_type, payload, created_at, '', 3
             from outbox.event where id = 6;
             delete from outbox.event where id in (7, 8);",
        )
        .await;
    let retried = world.run(&["retry", "6"]).await;
    retried.expect_err("its first place is before those of 2 and 3");
}

#[tokio::test]
async fn an_event_whose_later_ones_may_have_been_dropped_is_retried_only_out_of_order() {
    let world = World::new().await;
    world
        .execute("select outbox.append('order', '1', 'changed', '{}')")
        .await;
    world.park_all().await;
    // As when the partition is dropped.
    world
        .execute("delete from outbox.event; update outbox.ledger set ledger_from = 2")
        .await;
    let (_, output) = world.run(&["retry", "1"]).await.expect_err("not known");
    assert!(output.contains("may have been dropped"), "{output}");
    world
        .run(&["retry", "1", "--out-of-order"])
        .await
        .expect("it is retried");
}

/// By the lock that the README recommends for an aggregate without a row.
#[tokio::test]
async fn a_retry_sees_the_later_event_of_a_producer_that_holds_the_aggregate() {
    let world = World::new().await;
    world
        .execute("select outbox.append('order', '7', 'changed', '{}')")
        .await;
    world.park_all().await;
    let mut producer = world.pool().begin().await.expect("a transaction");
    for statement in [
        "select pg_advisory_xact_lock(hashtextextended('order/7', 0))",
        "select outbox.append('order', '7', 'changed', '{}')",
    ] {
        let done = sqlx::query(statement).execute(&mut *producer).await;
        done.expect("a statement that runs");
    }
    let committing = async {
        eventually("the retry to wait", async || {
            let waiting = "select exists (
                select from pg_locks where locktype = 'advisory' and not granted
                    and database = (select oid from pg_database where datname = current_database())
            )";
            let is_waiting: bool =
                (sqlx::query_scalar(waiting).fetch_one(world.pool()).await).expect("an answer");
            is_waiting.then_some(())
        })
        .await;
        producer.commit().await.expect("a commit");
    };
    let (retried, ()) = tokio::join!(world.run(&["retry", "1"]), committing);
    let (_, output) = retried.expect_err("a later event");
    assert!(output.contains("event 1 stays parked"), "{output}");
}

#[tokio::test]
async fn the_stream_of_a_relay_that_is_gone_is_forgotten_with_a_word_on_what_follows() {
    let world = World::new().await;
    let mut relay = world.relay(&[]);
    world
        .execute("select outbox.append('order', '1', 'placed', '{}')")
        .await;
    world.published(1).await;
    relay.process.stop().await;
    let forgotten = world.run(&["forget", &world.stream, "--yes"]).await;
    let output = forgotten.expect("it is forgotten");
    assert!(
        output.contains("published again from the beginning of the ledger"),
        "{output}"
    );
    assert!(!output.contains("will not be published"), "{output}");
}

#[tokio::test]
async fn a_stream_that_is_no_longer_configured_is_named_and_can_be_forgotten() {
    let world = World::new().await;
    world
        .execute("insert into outbox.cursor (stream, aggregate_types) values ('OLD', '{old}')")
        .await;
    let _relay = world.relay(&[]);
    world
        .execute("select outbox.append('order', '1', 'placed', '{}')")
        .await;
    world.published(1).await;
    let (code, output) = world.run(&["status"]).await.expect_err("a stream too many");
    assert_eq!(code, 3, "{output}");
    let line = output.lines().find(|line| line.contains("stream OLD"));
    assert!(
        line.is_some_and(|line| line.contains("no longer configured")),
        "{output}"
    );
    let (_, output) = world
        .run(&["forget", &world.stream, "--yes"])
        .await
        .expect_err("in use");
    assert!(output.contains("the active relay publishes to"), "{output}");
    world
        .run(&["forget", "OLD", "--yes"])
        .await
        .expect("it is forgotten");
    world
        .run(&["forget", "OLD", "--yes"])
        .await
        .expect_err("it is gone");
    eventually("all to be well", async || world.run(&["status"]).await.ok()).await;
}
