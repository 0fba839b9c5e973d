//! Making the copy anew while it is read and written.

use std::sync::atomic::{AtomicBool, Ordering};

use mongodb::bson::doc;
use serde_json::Value;

use crate::{
    events::{created, deleted, named, updated},
    support::World,
};

async fn rebuild(world: &World, more: &[&str]) -> (bool, String) {
    let arguments = [
        "rebuild",
        "--mongodb-uri",
        &world.database.uri,
        "--mongodb-database",
        &world.database.name,
        "--consumer",
        &world.consumer,
    ];
    world.run(&[&arguments, more].concat()).await
}

#[tokio::test]
async fn a_damaged_copy_is_made_anew_while_it_is_read_and_written() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut events: Vec<_> = (1..=900).map(created).collect();
    events.extend([named(2, 2, "Bea"), deleted(3, 2)]);
    world.publish_all(&events).await;
    world
        .publish_raw(async_nats::HeaderMap::new(), b"no event")
        .await;
    world.settled().await;

    let copy = world.collection();
    let damage = doc! { "$set": { "name": "Eve" } };
    copy.update_one(doc! { "_id": 2 }, damage)
        .await
        .expect("a write");
    copy.delete_many(doc! { "_id": { "$gt": 500, "$lte": 800 } })
        .await
        .expect("a write");

    let is_rebuilt = AtomicBool::new(false);
    let rebuilding = async {
        let (done, output) = rebuild(&world, &[]).await;
        is_rebuilt.store(true, Ordering::Relaxed);
        assert!(done, "{output}");
        assert!(output.contains("1 were skipped"), "{output}");
    };
    // A user of each thousand keeps changing; whoever was seen is seen again, never older.
    let writing = async {
        let mut version = 2;
        while !is_rebuilt.load(Ordering::Relaxed) {
            world
                .publish_all(&[updated(1, version), created(10_000 + version)])
                .await;
            version += 1;
        }
        version - 1
    };
    let reading = async {
        let (mut count, mut version) = (0, 0);
        while !is_rebuilt.load(Ordering::Relaxed) {
            let page = service.get("/notifications?limit=1000").await;
            let users: Vec<Value> = page.json().await.expect("users");
            assert!(users.len() >= count, "{} after {count}", users.len());
            count = users.len();
            let now = users[0]["version"].as_i64().expect("a version");
            assert!(now >= version, "{now} after {version}");
            version = now;
        }
    };
    let ((), last, ()) = tokio::join!(rebuilding, writing, reading);
    world.settled().await;

    assert_eq!(world.version(1).await, Some(last));
    let mended = world.document(2).await.expect("a user");
    assert_eq!(mended.get_str("name").expect("a name"), "Bea");
    let tombstone = world.document(3).await.expect("a tombstone");
    assert!(tombstone.contains_key("deleted_at"));
    let living = doc! { "_id": { "$lte": 900 }, "deleted_at": { "$exists": false } };
    assert_eq!(world.count(living).await, 899);
    let written = u64::try_from(last - 1).expect("a count");
    assert_eq!(
        world.count(doc! { "_id": { "$gt": 10_000 } }).await,
        written
    );
    let indexes = world
        .collection()
        .list_index_names()
        .await
        .expect("indexes");
    assert!(indexes.contains(&"tombstone_ttl".to_owned()), "{indexes:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_stream_without_its_beginning_is_enough_only_after_a_republish() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish_all(&[created(1), created(2)]).await;
    world.settled().await;
    let stream = world.stream().await;
    stream.delete_message(1).await.expect("deleted");

    let (done, output) = rebuild(&world, &[]).await;
    assert!(!done && output.contains("republish --all"), "{output}");
    assert!(world.document(1).await.is_some(), "the copy is as it was");

    world.publish(&updated(1, 1)).await;
    let (done, output) = rebuild(&world, &["--after-republish"]).await;
    assert!(done, "{output}");
    assert_eq!(world.count(doc! {}).await, 2);
    service.stop().await;
}

#[tokio::test]
async fn what_a_killed_rebuild_left_behind_is_not_taken_for_ours() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;
    let left = world.database.collection("user_notifications.rebuild");
    left.insert_one(doc! { "_id": 7 }).await.expect("a write");

    let (done, output) = rebuild(&world, &[]).await;
    assert!(!done && output.contains("--anew"), "{output}");
    let (done, output) = rebuild(&world, &["--anew"]).await;
    assert!(done, "{output}");
    assert_eq!(world.count(doc! {}).await, 1);
    let consumer = world.stream().await.consumer_info(&world.consumer).await;
    assert!(
        !consumer.expect("the consumer").paused,
        "the projector goes on"
    );
    world.publish(&updated(1, 2)).await;
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));
    service.stop().await;
}

/// No service has ever run: there is nobody to hold still, and no copy to replace.
#[tokio::test]
async fn a_first_copy_can_be_made_without_a_service() {
    let world = World::new().await;
    world.serve().await.stop().await;
    world
        .stream()
        .await
        .delete_consumer(&world.consumer)
        .await
        .expect("deleted");
    world.collection().drop().await.expect("dropped");
    world.publish_all(&[created(1), updated(1, 2)]).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "{output}");
    assert_eq!(world.version(1).await, Some(2));
}
