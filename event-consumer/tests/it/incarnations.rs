//! A stream that goes on in another incarnation. The server is one that knows nothing of it: only
//! the stream's metadata tell.

use std::time::Duration;

use event_consumer::EventConsumer;
use service_runtime::{
    nats::stream::{Incarnation, StreamMetadata},
    progress::Progress,
};
use testkit::eventually;

use crate::support::{Log, Running, World};

impl World {
    /// As the relay does before it publishes what the stream has lost.
    pub(crate) async fn begin_incarnation(&self, number: u64, sequence: u64) {
        let info = self.stream().await.cached_info().clone();
        let mut metadata = StreamMetadata::of(&info);
        (metadata.incarnations).begin(Incarnation { number, sequence });
        let config = metadata.config(&info).expect("something new");
        let updated = self.jetstream.update_stream(config).await;
        updated.expect("an update");
    }

    /// A consumer reads the first so many messages, and stops.
    async fn reads(&self, log: &Log, messages: u64) {
        let running = self.run(log.handler());
        self.publish(1..=messages).await;
        self.settled(messages).await;
        running.stop().await;
    }

    /// Waits until the consumer follows it and has settled all.
    pub(crate) async fn follows(&self, incarnation: &str, settled: u64) {
        eventually("the consumer to follow the stream", async || {
            let info = self.info().await?;
            let followed = info.config.metadata.get("incarnation")?;
            let is_settled = info.ack_floor.stream_sequence == settled
                && info.num_ack_pending == 0
                && info.num_pending == 0;
            (followed == incarnation && is_settled && !info.paused).then_some(())
        })
        .await;
    }
}

/// The server does not tell: the stream has grown past the consumer's position since.
#[tokio::test]
async fn a_consumer_reads_again_what_came_after_the_stream_has_changed() {
    let world = World::new().await;
    let log = Log::default();
    world.reads(&log, 5).await;

    world.publish([6]).await;
    world.begin_incarnation(1, 3).await;
    let running = world.run(log.handler());
    world.follows("1", 6).await;
    assert_eq!(log.all(), ["1", "2", "3", "4", "5", "4", "5", "6"]);

    // While it runs.
    world.begin_incarnation(2, 5).await;
    world.follows("2", 6).await;
    assert_eq!(log.all()[8..], ["6"]);
    running.stop().await;

    // It has seen it, and does not go back once more.
    let running = world.run(log.handler());
    world.publish([7]).await;
    world.settled(7).await;
    assert_eq!(log.all()[9..], ["7"]);
    running.stop().await;
}

#[tokio::test]
async fn a_consumer_that_is_behind_goes_on() {
    let world = World::new().await;
    let log = Log::default();
    world.reads(&log, 2).await;
    world.begin_incarnation(1, 2).await;
    world.publish(3..=4).await;
    let running = world.run(log.handler());
    world.follows("1", 4).await;
    running.stop().await;
    assert_eq!(log.all(), ["1", "2", "3", "4"]);
}

/// Two processes share the consumer: each finds out by itself, and neither skips anything.
#[tokio::test]
async fn processes_that_share_a_consumer_go_back_together() {
    let world = World::new().await;
    let log = Log::default();
    let (one, other) = (world.run(log.handler()), world.run(log.handler()));
    world.publish(1..=50).await;
    world.settled(50).await;
    world.begin_incarnation(1, 10).await;
    world.follows("1", 50).await;
    world.publish(["new"]).await;
    world.follows("1", 51).await;
    one.stop().await;
    other.stop().await;
    for text in 11..=50 {
        let times = log
            .all()
            .iter()
            .filter(|it| **it == text.to_string())
            .count();
        assert!(times >= 2, "{text} was read {times} times");
    }
    assert!(log.all().contains(&"new".to_owned()));
}

/// Of its incarnation the stream says nothing any more.
#[tokio::test]
async fn a_consumer_that_has_missed_too_many_incarnations_starts_over() {
    let world = World::new().await;
    let log = Log::default();
    world.begin_incarnation(1, 0).await;
    let running = world.run(log.handler());
    world.publish(1..=3).await;
    world.follows("1", 3).await;
    running.stop().await;
    for number in 2..=30 {
        world.begin_incarnation(number, 3).await;
    }
    let running = world.run(log.handler());
    world.follows("30", 3).await;
    running.stop().await;
    assert_eq!(log.all(), ["1", "2", "3", "1", "2", "3"]);
}

/// Killed before its metadata say that it has gone back, it goes back again.
#[tokio::test]
async fn a_consumer_that_is_killed_while_it_goes_back_skips_nothing() {
    let world = World::new().await;
    let log = Log::default();
    world.reads(&log, 5).await;
    world.begin_incarnation(1, 1).await;
    let stream = world.stream().await;
    let reset = stream.reset_consumer(world.name.as_str(), Some(2)).await;
    reset.expect("half-way");

    let consumer = EventConsumer::new(world.settings(), log.handler(), Progress::new("consumer"));
    let running = Running::start(consumer, Duration::from_secs(10));
    world.follows("1", 5).await;
    running.stop().await;
    assert_eq!(log.all()[5..], ["2", "3", "4", "5"]);
}
