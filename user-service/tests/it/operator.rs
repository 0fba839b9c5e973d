use reqwest::StatusCode;
use testkit::{Service, eventually};

use crate::support::{Api, World, assert_in_order};

#[tokio::test]
async fn a_parked_event_is_shown_retried_and_discarded() {
    let world = World::new().await;
    let (api, users) = three_parked(&world).await;

    let (shown, output) = world.run(&["outbox", "show", "1"]).await;
    assert!(shown && output.contains("reason     too large"), "{output}");

    let (retried, output) = world.run(&["outbox", "retry", "1"]).await;
    assert!(retried, "{output}");
    let events = world.published(4).await;
    assert_eq!(events[3].event, events[0].event);

    api.rename(users[1], "Ada L.").await;
    let (retried, output) = world.run(&["outbox", "retry", "2"]).await;
    assert!(retried && output.contains("changed since"), "{output}");

    let (discarded, output) = world.run(&["outbox", "discard", "3"]).await;
    assert!(!discarded && output.contains("--yes"), "{output}");
    let (discarded, _) = world.run(&["outbox", "discard", "3", "--yes"]).await;
    assert!(discarded);
    let (discarded, _) = world.run(&["outbox", "discard", "3", "--yes"]).await;
    assert!(!discarded, "it is gone");

    world.drained().await;
    assert_in_order(&world.published(5).await);
}

#[tokio::test]
async fn a_parked_event_of_another_aggregate_type_is_not_published_after_later_ones() {
    let world = World::new().await;
    let (migrated, output) = world.run(&["migrate"]).await;
    assert!(migrated, "{output}");
    world
        .execute(
            "select outbox.append('order', n::text, 'placed', '{}') from generate_series(1, 2) n",
        )
        .await;
    park_all(&world).await;
    world
        .execute("select outbox.append('order', '1', 'paid', '{}')")
        .await;
    let (retried, output) = world.run(&["outbox", "retry", "1"]).await;
    assert!(!retried && output.contains("later events"), "{output}");
    let (_, output) = world.run(&["outbox", "list"]).await;
    assert!(output.contains("2 parked"), "{output}");
    let (retried, output) = world.run(&["outbox", "retry", "2"]).await;
    assert!(retried, "{output}");
}

#[tokio::test]
async fn republish_brings_the_present_state_of_every_user_while_writes_go_on() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let mut users = Vec::new();
    for _ in 0..50 {
        users.push(api.create().await);
    }
    let deleted = users.remove(10);
    assert_eq!(api.delete(deleted).await.status(), StatusCode::NO_CONTENT);
    world.published(51).await;

    let writing = async {
        for round in 0..40_usize {
            api.rename(users[round % users.len()], &format!("Ada {round}"))
                .await;
        }
    };
    let ((republished, output), ()) = tokio::join!(world.run(&["republish", "--all"]), writing);
    assert!(republished && output.contains("49 users"), "{output}");
    let events = world.published(51 + 40 + 49).await;
    assert_in_order(&events);

    let (_, output) = world
        .run(&["republish", "--since", &users[46].to_string()])
        .await;
    assert!(output.contains("2 users"), "{output}");
    world.drained().await;
    let events = world.published(51 + 40 + 49 + 2).await;
    assert_in_order(&events);
    let last = events.last().expect("an event").event.state();
    assert_eq!(last.id, users[48]);
}

#[tokio::test]
async fn republish_does_not_wait_for_ids_that_no_event_has() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let id = api.create().await;
    world.published(1).await;
    // As after an import that was rolled back.
    world
        .execute("select setval('outbox.event_id_seq', 100000)")
        .await;
    let (republished, output) = world.run(&["republish", "--all"]).await;
    assert!(republished && output.contains("1 users"), "{output}");
    let events = world.published(2).await;
    assert_eq!(events[1].event.state().id, id);
}

#[tokio::test]
async fn republish_says_that_it_waits_for_a_relay() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    api.create().await;
    world
        .execute(
            r"
            insert into outbox.event (aggregate_type, aggregate_id, event_type, version, payload)
            select 'user', '1', 'user_updated', n + 1,
                   user_state(1, 'Ada', 'ada@example.com', clock_timestamp(), n + 1)
            from generate_series(1, 10000) as n
            ",
        )
        .await;
    let arguments = ["republish", "--all"];
    let mut waiting = Service::start("user-service", &arguments, &world.environment());
    eventually("a message", async || {
        let output = waiting.process.output();
        let says = |line: &String| line.contains("waiting") && line.contains("no relay is active");
        output.iter().any(says).then_some(())
    })
    .await;
    let (_, listed) = world.run(&["outbox", "list"]).await;
    assert!(listed.contains("10001 pending"), "{listed}");
    // All of one user, each would wait for the one before it.
    world.execute("delete from outbox.event where id > 1").await;
    let _relay = Service::start("user-service", &["relay"], &world.environment());
    assert!(waiting.process.ended().await.success());
}

/// The events of three new users, published and then parked.
pub(crate) async fn three_parked(world: &World) -> (Api, [i64; 3]) {
    let api = world.serve(&[]).await;
    let users = [api.create().await, api.create().await, api.create().await];
    world.published(3).await;
    world.drained().await;
    park_all(world).await;
    (api, users)
}

/// As the relay would, had `JetStream` refused them. Under other ids than those that the stream knows.
pub(crate) async fn park_all(world: &World) {
    sqlx::query(
        r"
        insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type, version,
                                   payload, created_at, reason, attempts)
        select id, gen_random_uuid(), aggregate_type, aggregate_id, event_type, version,
               payload, created_at, 'too large', 3
        from outbox.event
        ",
    )
    .execute(&world.database.pool)
    .await
    .expect("parked events");
}
