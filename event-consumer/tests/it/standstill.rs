//! What does not go on shows, though the server answers.

use std::time::Duration;

use event_consumer::Lag;
use service_runtime::progress::Progress;
use testkit::eventually;
use time::OffsetDateTime;

use crate::support::{Log, World};

#[tokio::test]
async fn messages_that_wait_and_are_not_delivered_are_noticed() {
    let world = World::new().await;
    let log = Log::default();
    let consumer = world.consumer(log.handler());
    let (lag, connection) = (Lag::new(), consumer.connection());
    let running = crate::support::Running::start(consumer, Duration::from_secs(10));
    let observing = lag.clone().observe(
        connection,
        world.topic.clone(),
        world.name.clone(),
        Progress::new("lag"),
        running.shutdown.clone(),
    );
    tokio::spawn(observing);
    world.publish(["1"]).await;
    world.settled(1).await;
    lag.check_deliveries().expect("nothing waits");

    let stream = world.stream().await;
    let for_long = OffsetDateTime::now_utc() + Duration::from_hours(1);
    let paused = stream.pause_consumer(world.name.as_str(), for_long).await;
    assert!(paused.expect("paused").paused);
    world.publish(["2"]).await;
    let error = eventually("a check that fails", async || lag.check_deliveries().err()).await;
    assert!(
        error.to_string().starts_with("1 messages wait"),
        "{error:#}"
    );

    let resumed = stream.resume_consumer(world.name.as_str()).await;
    resumed.expect("resumed");
    world.settled(2).await;
    eventually("a check that passes", async || lag.check_deliveries().ok()).await;
    running.stop().await;
}
