//! Replays of events so old that what came after them may be forgotten.

use chrono::{TimeDelta, Utc};
use mongodb::bson::doc;
use serde_json::Value;

use crate::{
    events::{created, named},
    replays::{accept, listed, refuse, replay_subject, written_at},
    support::World,
};

/// By then its tombstone is gone.
#[tokio::test]
async fn a_replay_as_old_as_tombstones_become_does_not_bring_a_deleted_user_back() {
    let world = World::new().await;
    let service = world.serve().await;
    refuse(&world).await;
    let long_ago = Utc::now() - TimeDelta::days(28);
    let body = serde_json::to_vec(&named(1, 1, "refused")).expect("JSON");
    world.publish_raw(written_at(long_ago), &body).await;
    world.settled().await;
    accept(&world).await;
    assert_eq!(listed(&service).await, [1]);

    let (replayed, output) = world.run(&["dead-letters", "replay", "1"]).await;
    assert!(replayed, "{output}");
    world.settled().await;
    assert_eq!(world.document(1).await, None);
    let letters = service.get("/dead-letters").await.json::<Value>().await;
    assert_eq!(letters.expect("an array")[0]["reason"], "too_old");
    service.stop().await;
}

/// Whoever was deleted before the stream begins has nothing else on it.
#[tokio::test]
async fn a_rebuild_leaves_out_replays_of_events_that_are_older_than_the_stream() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(2)).await;
    let body = serde_json::to_vec(&created(1)).expect("JSON");
    let before = Utc::now() - TimeDelta::hours(1);
    let publish = world.jetstream.publish_with_headers(
        replay_subject(&world),
        written_at(before),
        body.into(),
    );
    publish.await.expect("sent").await.expect("stored");
    world.settled().await;
    // As after a deletion whose tombstone is gone.
    let copy = world.collection();
    copy.delete_one(doc! { "_id": 1_i64 }).await.expect("gone");
    world.complete_from(1).await;

    let arguments = [
        "rebuild",
        "--mongodb-uri",
        &world.database.uri,
        "--mongodb-database",
        &world.database.name,
    ];
    let (rebuilt, output) = world.run(&arguments).await;
    assert!(rebuilt, "{output}");
    assert_eq!(world.version(1).await, None);
    assert_eq!(world.version(2).await, Some(1));
    service.stop().await;
}
