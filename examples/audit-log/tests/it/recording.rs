//! Each event has one entry, whatever order and however often it comes.

use crate::support::{Event, World, checks, is_ready, ready};
use testkit::eventually;

#[tokio::test]
async fn an_event_is_recorded_with_its_user_version_and_body() {
    let world = World::new().await;
    let service = world.serve().await;
    let event = Event::new(7, 3);
    world.publish(&event).await;
    world.recorded_once(1).await;

    let query =
        "select event_type, user_id, version, happened_at::text, event::text from audit_entry";
    let (event_type, user_id, version, happened_at, body): (String, i64, i64, String, String) =
        sqlx::query_as(query)
            .fetch_one(&world.database.pool)
            .await
            .expect("an entry");
    assert_eq!(
        (event_type.as_str(), user_id, version),
        ("user_updated", 7, 3)
    );
    assert!(
        happened_at.starts_with("2026-01-02 03:04:05.678"),
        "{happened_at}"
    );
    assert_eq!(body.as_bytes(), event.body);
    drop(service);
}

#[tokio::test]
async fn events_that_are_published_again_in_another_order_are_recorded_once() {
    let world = World::new().await;
    let _service = world.serve().await;
    let events: Vec<_> = (1..=50).map(|version| Event::new(1, version)).collect();
    let backwards: Vec<_> = events.iter().rev().cloned().collect();
    // Some of them twice in one batch.
    world
        .publish_again(&[backwards, events.clone()].concat())
        .await;
    world.recorded_once(events.len()).await;
    world.publish_again(&events).await;
    world.recorded_once(events.len()).await;
}

#[tokio::test]
async fn a_consumer_that_starts_over_records_nothing_twice() {
    let world = World::new().await;
    let _service = world.serve().await;
    let events: Vec<_> = (1..=50).map(|id| Event::new(id, 1)).collect();
    world.publish_all(&events).await;
    world.recorded_once(events.len()).await;

    let stream = world.stream().await;
    let deleted = stream.delete_consumer(&world.consumer).await;
    deleted.expect("deleted");
    eventually("the consumer to be back", async || {
        stream.consumer_info(&world.consumer).await.ok()
    })
    .await;
    world.settled().await;
    world.recorded_once(events.len()).await;
}

#[tokio::test]
async fn a_service_that_is_stopped_finishes_what_it_has_and_the_next_goes_on() {
    let world = World::new().await;
    let mut service = world.serve().await;
    let events: Vec<_> = (1..=3_000).map(|id| Event::new(id, 1)).collect();
    world.publish_all(&events).await;
    eventually("the first entries", async || {
        (!world.recorded().await.is_empty()).then_some(())
    })
    .await;
    assert!(service.process.stop().await.success());

    let _next = world.serve().await;
    world.recorded_once(events.len()).await;
}

#[tokio::test]
async fn events_that_left_the_stream_unread_are_noticed_until_an_operator_has_seen_them() {
    let world = World::new().await;
    let mut service = world.serve().await;
    world.publish(&Event::new(1, 1)).await;
    world.recorded_once(1).await;
    eventually("the position to be kept", async || {
        let settled = "select (position ->> 'settled')::bigint from stream_position";
        let settled: i64 = sqlx::query_scalar(settled)
            .fetch_one(&world.database.pool)
            .await
            .ok()?;
        (settled == 1).then_some(())
    })
    .await;
    service.process.stop().await;
    world.publish(&Event::new(1, 2)).await;
    world.stream().await.purge().await.expect("purged");

    let service = world.start(&[]);
    eventually("the hole to be noticed", async || {
        let holes = "select position ->> 'holes' <> '[]' from stream_position";
        let holes = sqlx::query_scalar(holes).fetch_one(&world.database.pool);
        let is_noticed = holes.await.ok()?;
        let is_failed = checks(&service).await["holes"] == "failed";
        (is_noticed && is_failed && !is_ready(&service).await).then_some(())
    })
    .await;
    // As README.md says.
    world
        .execute(
            "update stream_position set revision = revision + 1,
                position = jsonb_set(position::jsonb, '{holes}', '[]')::json",
        )
        .await;
    ready(&service).await;
}
