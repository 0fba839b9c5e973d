//! Messages whose headers the client can't read.

use std::time::Duration;

use event_consumer::EventConsumer;
use service_runtime::progress::Progress;

use crate::support::{Log, Running, World};

/// The client gives up its connection over the first, and panics over the second.
#[tokio::test]
async fn messages_that_the_client_can_not_read_become_dead_letters_and_hold_up_no_other() {
    let world = World::new().await;
    let log = Log::default();
    let mut settings = world.settings();
    // What came along with such a message is lost to the consumer until then.
    settings.ack_wait = Duration::from_secs(1);
    let consumer = EventConsumer::new(settings, log.handler(), Progress::new("consumer"));
    let running = Running::start(consumer, Duration::from_secs(10));

    world.publish(["1"]).await;
    world
        .publish_bytes(b"NATS/1.0\r\nX: \xff\r\n\r\n", b"poison")
        .await;
    world.publish(["2"]).await;
    world
        .publish_bytes(b"NATS/1.0\r\nX: a\rb\r\n\r\n", b"poison")
        .await;
    world.publish(["3"]).await;
    world.settled(5).await;

    let mut seen = log.sorted();
    seen.dedup();
    assert_eq!(seen, ["1", "2", "3"]);
    let dead = world.topic.dead_letters().stream;
    let dead = world.jetstream.get_stream(dead).await.expect("a stream");
    assert_eq!(dead.cached_info().state.messages, 2);
    let letter = dead.get_raw_message(1).await.expect("a dead letter");
    let category = letter.headers.get("Dead-Letter-Category");
    let category = category.map(ToString::to_string);
    assert_eq!(category, Some("unreadable_headers".to_owned()));
    running.stop().await;
}
