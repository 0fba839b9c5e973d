//! What comes back after what went away.

use mongodb::bson::doc;
use testkit::{copy_directory, eventually, nats};

use crate::{
    events::{created, updated},
    support::World,
};

#[tokio::test]
async fn a_stream_that_is_deleted_comes_back_and_is_followed() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;

    let deleted = world.jetstream.delete_stream(&world.topic.stream).await;
    deleted.expect("deleted");
    eventually("the stream and its consumer are back", async || {
        let stream = world.jetstream.get_stream(&world.topic.stream).await.ok()?;
        stream.consumer_info(&world.consumer).await.ok()
    })
    .await;
    world.publish(&updated(1, 2)).await;
    world.settled().await;

    assert_eq!(world.version(1).await, Some(2));
    service.stop().await;
}

#[tokio::test]
async fn a_consumer_that_is_ahead_of_its_stream_starts_over() {
    let world = World::new().await;
    world.serve().await.stop().await;
    world.publish(&created(1)).await;
    // As if the stream had lost its tail while nobody followed it.
    let stream = world.stream().await;
    let reset = stream.reset_consumer(&world.consumer, Some(100)).await;
    reset.expect("the consumer stands at 100");

    let service = world.serve().await;
    world.settled().await;
    assert!(world.document(1).await.is_some());
    service.stop().await;
}

#[tokio::test]
async fn a_service_that_was_away_catches_up() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;
    service.stop().await;

    let events: Vec<_> = (1..=3_000).map(|id| updated(id, 2)).collect();
    world.publish_all(&events).await;
    let service = world.serve().await;
    world.settled().await;

    assert_eq!(world.count(doc! { "version": 2 }).await, 3_000);
    service.stop().await;
}

/// The server was killed before the end of the stream was on disk, and the stream has been filled
/// again by the time anybody looks: nothing but the messages themselves tells.
#[tokio::test]
async fn a_stream_that_was_filled_again_is_followed_from_the_start() {
    let mut nats = nats::Server::start().await;
    let world = World::with_nats(nats.url()).await;
    let service = world.serve().await;
    world.publish_all(&[created(1), created(2)]).await;
    world.settled().await;

    nats.stop().await;
    let messages = nats
        .store()
        .join("jetstream/$G/streams")
        .join(&world.topic.stream)
        .join("msgs");
    let (kept, aside) = (tempfile::tempdir().expect("a directory"), "msgs");
    copy_directory(&messages, &kept.path().join(aside));
    nats.restart().await;
    world.publish_all(&[created(3), created(4)]).await;
    world.settled().await;

    nats.stop().await;
    std::fs::remove_dir_all(&messages).expect("removed");
    copy_directory(&kept.path().join(aside), &messages);
    nats.restart().await;
    world.publish_all(&[created(5), created(6)]).await;
    assert_eq!(world.stream().await.cached_info().state.last_sequence, 4);
    eventually("what took the place of the lost events", async || {
        Some(world.version(5).await? + world.version(6).await?)
    })
    .await;
    service.stop().await;
}
