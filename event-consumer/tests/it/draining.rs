//! Stopping loses nothing, repeats little and holds up nobody.

use std::time::Duration;

use event_consumer::{ConsumerSettings, EventConsumer, Handler};
use service_runtime::progress::Progress;
use testkit::eventually;

use crate::support::{Gate, Log, Running, Scripted, World, acks};

#[tokio::test]
async fn what_is_in_hand_is_finished_and_what_came_ahead_goes_to_another_process() {
    let world = World::new().await;
    world.publish(1_000..2_000).await;
    let (log, release) = (Log::default(), Gate::default());
    let (seen, gate) = (log.clone(), release.clone());
    let running = world.run(Scripted(move |batch: Vec<String>| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            gate.pass().await;
            let verdicts = acks(batch.len());
            seen.extend(batch);
            Ok(verdicts)
        }
    }));
    eventually("batches in hand and messages ahead", async || {
        (world.info().await?.num_ack_pending >= 200).then_some(())
    })
    .await;
    running.shutdown.cancel();
    release.open();
    running.ended().await;
    let handled = log.all().len();
    assert!((1..1_000).contains(&handled), "{handled} were in hand");

    let other = world.run(log.handler());
    world.settled(1_000).await;
    let texts: Vec<_> = (1_000..2_000).map(|it| it.to_string()).collect();
    assert_eq!(log.sorted(), texts, "each took effect once");
    other.stop().await;
}

#[tokio::test]
async fn a_handler_that_hangs_is_left_after_the_grace_and_its_messages_come_again() {
    let world = World::new().await;
    world.publish(["1", "2"]).await;
    let hanging = impatient(&world, Scripted(|_| std::future::pending()));
    let running = Running::start(hanging, Duration::ZERO);
    eventually("messages in hand", async || {
        (world.info().await?.num_ack_pending == 2).then_some(())
    })
    .await;
    running.stop().await;

    let log = Log::default();
    let other = Running::start(impatient(&world, log.handler()), Duration::from_secs(10));
    world.settled(2).await;
    let mut seen = log.sorted();
    seen.dedup();
    assert_eq!(seen, ["1", "2"]);
    other.stop().await;
}

/// What is not given back comes again after a second.
fn impatient<H: Handler>(world: &World, handler: H) -> EventConsumer<H> {
    let settings = ConsumerSettings {
        ack_wait: Duration::from_secs(1),
        ..world.settings()
    };
    EventConsumer::new(settings, handler, Progress::new("consumer"))
}
