//! What comes back after what went away.

use std::time::Duration;

use event_consumer::EventConsumer;
use service_runtime::progress::Progress;
use testkit::{Proxy, eventually};

use crate::support::{Log, Running, World};

#[tokio::test]
async fn a_stream_that_is_deleted_and_created_again_is_followed() {
    let world = World::new().await;
    let log = Log::default();
    let running = world.run(log.handler());
    world.publish(["1"]).await;
    world.settled(1).await;

    let deleted = world.jetstream.delete_stream(&world.topic.stream).await;
    deleted.expect("deleted");
    eventually("the stream and its consumer are back", async || {
        world.info().await
    })
    .await;
    world.publish(["2"]).await;
    world.settled(1).await;
    assert_eq!(log.all(), ["1", "2"]);
    running.stop().await;
}

/// The stream has lost its tail while nobody followed it.
#[tokio::test]
async fn a_consumer_that_is_ahead_of_its_stream_starts_over() {
    let world = World::new().await;
    let log = Log::default();
    world.publish(["1"]).await;
    let running = world.run(log.handler());
    world.settled(1).await;
    running.stop().await;
    let stream = world.stream().await;
    let reset = stream.reset_consumer(world.name.as_str(), Some(100)).await;
    reset.expect("the consumer stands at 100");

    let running = world.run(log.handler());
    eventually("the message again", async || {
        (log.all() == ["1", "1"]).then_some(())
    })
    .await;
    running.stop().await;
}

/// Nothing is closed, and nothing comes any more, as when a firewall forgets the connection.
#[tokio::test]
async fn a_connection_that_has_fallen_silent_is_replaced() {
    let world = World::new().await;
    let (_, host) = world.nats_url.split_once("//").expect("a URL");
    let proxy = Proxy::start(host.to_owned()).await;
    let log = Log::default();
    let mut settings = world.settings();
    let url = format!("nats://{}", proxy.address());
    settings.nats.url = url.parse().expect("a URL");
    settings.ack_wait = Duration::from_secs(10);
    let consumer = EventConsumer::new(settings, log.handler(), Progress::new("consumer"));
    let running = Running::start(consumer, Duration::from_secs(10));
    world.publish(["1"]).await;
    world.settled(1).await;

    proxy.black_hole();
    world.publish(["2"]).await;
    world.settled(2).await;
    assert_eq!(log.all(), ["1", "2"]);
    running.stop().await;
}
