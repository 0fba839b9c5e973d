//! Making the copy anew while it is read and written.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::TryStreamExt;
use mongodb::{
    IndexModel,
    bson::{DateTime, Document, doc},
    options::IndexOptions,
};
use serde_json::Value;
use testkit::{Process, eventually};

use crate::{
    dead_letters::publish_bytes,
    events::{created, deleted, named, updated},
    support::World,
};

const PREFIX: &str = "user_notifications.rebuild.";

fn arguments(world: &World) -> [&str; 7] {
    [
        "rebuild",
        "--mongodb-uri",
        &world.database.uri,
        "--mongodb-database",
        &world.database.name,
        "--consumer",
        &world.consumer,
    ]
}

/// Again if the machine was too slow for the swap.
async fn rebuild(world: &World, more: &[&str]) -> (bool, String) {
    for _ in 0..5 {
        let (done, output) = world.run(&[&arguments(world), more].concat()).await;
        if !output.contains("is not paused for as long as the swap takes") {
            return (done, output);
        }
    }
    panic!("never paused for as long as the swap takes");
}

/// Starts a rebuild, and freezes it while it fills its collection.
async fn begin(world: &World) -> Process {
    let environment = [
        ("NATS_URL", world.nats_url.clone()),
        ("NATS_STREAM", world.topic.stream.clone()),
        ("NATS_SUBJECT", world.topic.subject.clone()),
    ];
    let program = env!("CARGO_BIN_EXE_notification-service");
    for _ in 0..5 {
        let mut process = Process::spawn(program, &arguments(world), &environment);
        eventually("a collection that is filled", async || {
            if !process.is_running() {
                return Some(());
            }
            let name = collections_of_rebuilds(world).await.pop()?;
            let found = world.database.collection(&name).find_one(doc! {}).await;
            found.ok()?.map(|_| process.freeze())
        })
        .await;
        if process.is_running() && !collections_of_rebuilds(world).await.is_empty() {
            return process;
        }
    }
    panic!("each was over before it could be frozen");
}

/// Makes the lease of the rebuild that has begun end at this time.
async fn end_lease(world: &World, expires_at: DateTime) {
    let name = "user_notifications.rebuild_lease";
    let update = doc! { "$set": { "expires_at": expires_at } };
    let leases = world.database.collection(name);
    let updated = leases.update_one(doc! {}, update).await;
    assert_eq!(updated.expect("a write").modified_count, 1);
}

async fn collections_of_rebuilds(world: &World) -> Vec<String> {
    let names = world.database.database.list_collection_names().await;
    let names = names.expect("names").into_iter();
    names.filter(|name| name.starts_with(PREFIX)).collect()
}

/// More than a rebuild reads before it can be interfered with.
async fn with_many_users(world: &World) -> u64 {
    const USERS: i64 = 15_000;
    let events: Vec<_> = (1..=USERS).map(created).collect();
    for events in events.chunks(1_000) {
        world.publish_all(events).await;
        world.settled().await;
    }
    USERS.unsigned_abs()
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
    world.complete_from(1).await;

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
            let page = service.answered("/notifications?limit=1000").await;
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
    let indexes = world.collection().list_index_names().await;
    let indexes = indexes.expect("indexes");
    assert!(indexes.contains(&"tombstone_ttl".to_owned()), "{indexes:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_not_known_to_hold_every_user_is_refused() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish_all(&[created(1), created(2)]).await;
    world.settled().await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(!done && output.contains("republish --all"), "{output}");

    world.complete_from(1).await;
    let stream = world.stream().await;
    stream.delete_message(1).await.expect("deleted");
    let (done, output) = rebuild(&world, &[]).await;
    assert!(!done && output.contains("republish --all"), "{output}");
    assert!(world.document(1).await.is_some(), "the copy is as it was");

    world.publish(&updated(1, 1)).await;
    world.complete_from(2).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "{output}");
    assert_eq!(world.count(doc! {}).await, 2);
    service.stop().await;
}

/// It begins at sequence 1 as well, and an operator may have created it with all its settings.
#[tokio::test]
async fn a_stream_that_was_created_again_is_not_taken_for_the_one_that_was_lost() {
    let world = World::new().await;
    let service = world.serve().await;
    let events: Vec<_> = (1..=4).map(created).collect();
    world.publish_all(&events).await;
    world.settled().await;
    world.complete_from(1).await;

    let config = world.stream().await.cached_info().config.clone();
    let deleted = world.jetstream.delete_stream(&world.topic.stream).await;
    deleted.expect("deleted");
    let created_again = world.jetstream.create_stream(config).await;
    created_again.expect("a stream");
    world.publish(&updated(4, 2)).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(!done && output.contains("republish --all"), "{output}");
    assert_eq!(world.count(doc! {}).await, 4);
    service.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_created_again_during_a_rebuild_is_noticed() {
    let world = World::new().await;
    let service = world.serve().await;
    let users = with_many_users(&world).await;
    world.complete_from(1).await;
    let config = world.stream().await.cached_info().config.clone();

    let mut rebuild = begin(&world).await;
    let deleted = world.jetstream.delete_stream(&world.topic.stream).await;
    deleted.expect("deleted");
    let created_again = world.jetstream.create_stream(config).await;
    created_again.expect("a stream");
    world.publish(&updated(1, 2)).await;
    rebuild.thaw();
    assert!(!rebuild.ended().await.success(), "{:?}", rebuild.output());
    assert_eq!(world.count(doc! {}).await, users);
    assert!(collections_of_rebuilds(&world).await.is_empty());
    service.stop().await;
}

#[tokio::test]
async fn living_users_do_not_disappear_unless_that_is_forced() {
    let world = World::new().await;
    let service = world.serve().await;
    world
        .publish_all(&[created(1), created(2), deleted(3, 2)])
        .await;
    world.settled().await;
    world.complete_from(1).await;
    let extra = doc! { "_id": 7_i64, "user_id": 7_i64, "version": 1_i64, "name": "Ada",
    "email": "ada@example.com", "updated_at": DateTime::now() };
    let inserted = world.collection().insert_one(extra).await;
    inserted.expect("a write");
    // The stream knows better: this one is to go.
    let undead = doc! { "$set": { "name": "Eve", "email": "e", "updated_at": DateTime::now() },
    "$unset": { "deleted_at": 1 } };
    let copy = world.collection();
    let updated = copy.update_one(doc! { "_id": 3 }, undead).await;
    assert_eq!(updated.expect("a write").modified_count, 1);

    let (done, output) = rebuild(&world, &[]).await;
    assert!(
        !done && output.contains("1 users would disappear"),
        "{output}"
    );
    assert!(
        output.contains("[7]") && output.contains("--force"),
        "{output}"
    );
    assert!(world.document(7).await.is_some(), "the copy is as it was");
    assert!(collections_of_rebuilds(&world).await.is_empty());

    let (done, output) = rebuild(&world, &["--force"]).await;
    assert!(done, "{output}");
    assert_eq!(world.count(doc! {}).await, 3);
    let tombstone = world.document(3).await.expect("a tombstone");
    assert!(tombstone.contains_key("deleted_at"));
    service.stop().await;
}

/// The relay has created a lost stream again, and has published the older events again so far.
#[tokio::test]
async fn users_do_not_go_back_while_a_stream_is_being_filled_again() {
    let world = World::new().await;
    let service = world.serve().await;
    world
        .publish_all(&[created(1), created(2), updated(1, 2), deleted(2, 2)])
        .await;
    world.settled().await;
    let config = world.stream().await.cached_info().config.clone();
    let lost = world.jetstream.delete_stream(&world.topic.stream).await;
    lost.expect("deleted");
    let created_again = world.jetstream.create_stream(config).await;
    created_again.expect("a stream");
    world.publish_all(&[created(1), created(2)]).await;
    world.complete_from(1).await;

    let (done, output) = rebuild(&world, &[]).await;
    assert!(!done && output.contains("[1, 2]"), "{output}");
    assert_eq!(world.count(doc! { "version": 2 }).await, 2, "as it was");

    world.publish_all(&[updated(1, 2), deleted(2, 2)]).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "{output}");
    service.stop().await;
}

#[tokio::test]
async fn only_one_rebuild_runs_at_a_time_and_one_that_was_killed_is_cleaned_up_after() {
    let world = World::new().await;
    let service = world.serve().await;
    let users = with_many_users(&world).await;
    world.complete_from(1).await;

    let mut killed = begin(&world).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(!done && output.contains("another rebuild"), "{output}");
    // Not before the test is over: it was not renewed since the freeze.
    end_lease(&world, DateTime::from_millis(4_000_000_000_000)).await;
    killed.kill();
    assert_eq!(collections_of_rebuilds(&world).await.len(), 1);
    let (done, output) = rebuild(&world, &[]).await;
    assert!(!done && output.contains("another rebuild"), "{output}");

    end_lease(&world, DateTime::from_millis(1)).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "{output}");
    assert_eq!(world.count(doc! {}).await, users);
    assert!(collections_of_rebuilds(&world).await.is_empty());
    let consumer = world.stream().await.consumer_info(&world.consumer).await;
    let paused = consumer.expect("the consumer").paused;
    assert!(!paused, "the projector goes on");
    world.publish(&updated(1, 2)).await;
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));
    service.stop().await;
}

/// Frozen until its lease is over, it wakes while another one is at work.
#[tokio::test]
async fn a_rebuild_that_lost_its_lease_does_not_swap() {
    let world = World::new().await;
    let service = world.serve().await;
    let users = with_many_users(&world).await;
    world.complete_from(1).await;

    let mut frozen = begin(&world).await;
    end_lease(&world, DateTime::from_millis(1)).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "{output}");
    frozen.thaw();
    assert!(!frozen.ended().await.success(), "{:?}", frozen.output());
    assert_eq!(world.count(doc! {}).await, users);
    assert!(collections_of_rebuilds(&world).await.is_empty());
    service.stop().await;
}

/// By another rebuild that was late, or by a session of the projector that began meanwhile.
#[tokio::test]
async fn a_rebuild_whose_pause_somebody_has_ended_does_not_swap() {
    let world = World::new().await;
    let service = world.serve().await;
    let users = with_many_users(&world).await;
    world.complete_from(1).await;
    let stream = world.stream().await;
    let ending_pauses = async {
        loop {
            // Without a consumer there is nothing to end.
            let _ = stream.resume_consumer(&world.consumer).await;
        }
    };
    // Not again: it is to be refused.
    let arguments = arguments(&world);
    let (done, output) = tokio::select! {
        outcome = world.run(&arguments) => outcome,
        never = ending_pauses => never,
    };
    assert!(!done && output.contains("is not paused"), "{output}");
    assert!(collections_of_rebuilds(&world).await.is_empty());
    assert_eq!(world.count(doc! {}).await, users);
    service.stop().await;
}

#[tokio::test]
async fn a_rebuild_that_is_told_to_stop_leaves_nothing_behind() {
    let world = World::new().await;
    let service = world.serve().await;
    let users = with_many_users(&world).await;
    world.complete_from(1).await;
    let mut stopped = begin(&world).await;
    stopped.terminate();
    stopped.thaw();
    assert!(!stopped.ended().await.success(), "{:?}", stopped.output());
    assert!(collections_of_rebuilds(&world).await.is_empty());
    assert_eq!(world.count(doc! {}).await, users);

    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "the lease was released: {output}");
    service.stop().await;
}

#[tokio::test]
async fn what_an_operator_has_set_on_the_collection_survives_a_rebuild() {
    let world = World::new().await;
    let create = doc! {
        "create": world.collection().name(),
        "validator": { "name": { "$ne": "Eve" } },
        "validationLevel": "moderate",
        "changeStreamPreAndPostImages": { "enabled": true },
    };
    world
        .database
        .database
        .run_command(create)
        .await
        .expect("a collection");
    let service = world.serve().await;
    world.publish_all(&[created(1), named(2, 1, "Eve")]).await;
    world.settled().await;
    world.complete_from(1).await;
    let options = IndexOptions::builder().name("by_name".to_owned());
    let options = options
        .partial_filter_expression(doc! { "version": { "$gt": 3 } })
        .build();
    let index = IndexModel::builder().keys(doc! { "name": 1, "_id": -1 });
    let index = index.options(options).build();
    world
        .collection()
        .create_index(index)
        .await
        .expect("an index");

    let before = settings(&world).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "{output}");
    assert_eq!(settings(&world).await, before);
    assert!(
        before
            .1
            .iter()
            .any(|it| it.get_str("name").ok() == Some("by_name"))
    );
    assert_eq!(
        world.count(doc! {}).await,
        1,
        "the validator was there from the beginning"
    );
    service.stop().await;
}

async fn settings(world: &World) -> (Document, Vec<Document>) {
    let database = &world.database.database;
    let name = world.collection().name().to_owned();
    let list = doc! { "listCollections": 1, "filter": { "name": &name } };
    let found = database.run_command(list).await.expect("a list");
    let cursor = found.get_document("cursor").expect("a cursor");
    let batch = cursor.get_array("firstBatch").expect("a batch");
    let options = batch[0]
        .as_document()
        .expect("a collection")
        .get_document("options");
    let indexes = database
        .run_cursor_command(doc! { "listIndexes": name })
        .await;
    let indexes = indexes.expect("indexes").try_collect();
    let mut indexes: Vec<Document> = indexes.await.expect("indexes");
    indexes.sort_by_key(|index| index.get_str("name").unwrap_or_default().to_owned());
    (options.expect("options").clone(), indexes)
}

/// No service has ever run: there is nobody to hold still, and no copy to replace.
#[tokio::test]
async fn a_first_copy_can_be_made_without_a_service() {
    let world = World::new().await;
    world.serve().await.stop().await;
    let stream = world.stream().await;
    let deleted = stream.delete_consumer(&world.consumer).await;
    deleted.expect("deleted");
    world.collection().drop().await.expect("dropped");
    world.publish_all(&[created(1), updated(1, 2)]).await;
    world.complete_from(1).await;
    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "{output}");
    assert_eq!(world.version(1).await, Some(2));
}

/// The client gives up its connection over the first, and panics over the second.
#[tokio::test]
async fn messages_with_unreadable_headers_are_stepped_over() {
    let world = World::new().await;
    world.serve().await.stop().await;
    world.publish(&created(1)).await;
    publish_bytes(&world, b"NATS/1.0\r\nX: \xff\r\n\r\n", b"poison").await;
    world.publish(&created(2)).await;
    publish_bytes(&world, b"NATS/1.0\r\nX: a\rb\r\n\r\n", b"poison").await;
    world.complete_from(1).await;

    let (done, output) = rebuild(&world, &[]).await;
    assert!(done, "{output}");
    assert!(output.contains("2 were skipped"), "{output}");
    assert_eq!(world.count(doc! {}).await, 2);
}
