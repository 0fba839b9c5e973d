//! What becomes of a message follows the verdict on it.

use std::time::Duration;

use event_consumer::{HandlerError, Rejection, Verdict};
use testkit::eventually;

use crate::support::{Gate, Log, Scripted, World, acks};

#[tokio::test]
async fn every_message_is_handled_and_acknowledged() {
    let world = World::new().await;
    let log = Log::default();
    let running = world.run(log.handler());
    let texts: Vec<_> = (1_000..4_000).map(|it| it.to_string()).collect();
    world.publish(&texts).await;
    world.settled(3_000).await;
    assert_eq!(log.sorted(), texts);
    running.stop().await;
}

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_verdict() {
    let world = World::new().await;
    world.publish(["fine", "bad", "later", "fine"]).await;
    let log = Log::default();
    let seen = log.clone();
    let running = world.run(Scripted(move |batch: Vec<String>| {
        let judge = |text: &String| match text.as_str() {
            "bad" => Verdict::Reject(Rejection::new("not_fine", "it is \"bad\"")),
            "later" if !seen.all().contains(text) => Verdict::Retry {
                after: Duration::from_millis(100),
            },
            _ => Verdict::Ack,
        };
        let verdicts = batch.iter().map(judge).collect();
        seen.extend(batch);
        async { Ok(verdicts) }
    }));
    world.settled(4).await;

    let mut seen = log.sorted();
    // It comes again if it takes too long to store it.
    seen.dedup_by(|a, b| a == b && a == "bad");
    assert_eq!(seen, ["bad", "fine", "fine", "later", "later"]);
    let dead = world.topic.dead_letters().stream;
    let dead = world.jetstream.get_stream(dead).await.expect("a stream");
    assert_eq!(dead.cached_info().state.messages, 1);
    let letter = dead.get_raw_message(1).await.expect("a dead letter");
    assert_eq!(letter.payload, "bad");
    let header = |name| letter.headers.get(name).map(ToString::to_string);
    assert_eq!(header("Dead-Letter-Category"), Some("not_fine".to_owned()));
    assert_eq!(
        header("Dead-Letter-Reason"),
        Some("it is \"bad\"".to_owned())
    );
    running.stop().await;
}

/// A verdict could belong to another message.
#[tokio::test]
async fn a_handler_that_gives_too_few_verdicts_has_nothing_acknowledged() {
    let world = World::new().await;
    world.publish(["1", "2", "3"]).await;
    let (log, mended) = (Log::default(), Gate::default());
    let (seen, gate) = (log.clone(), mended.clone());
    let running = world.run(Scripted(move |batch: Vec<String>| {
        let verdicts = acks(batch.len() - usize::from(!gate.is_open()));
        seen.extend(batch);
        async { Ok(verdicts) }
    }));
    eventually("each to come twice", async || {
        (log.all().len() >= 6).then_some(())
    })
    .await;
    let info = world.info().await.expect("the consumer");
    assert_eq!(info.ack_floor.stream_sequence, 0);
    mended.open();
    world.settled(3).await;
    running.stop().await;
}

#[tokio::test]
async fn messages_that_a_handler_can_not_handle_now_go_to_another_process_at_once() {
    let world = World::new().await;
    let refused = Log::default();
    let seen = refused.clone();
    let unavailable = world.run(Scripted(move |batch: Vec<String>| {
        seen.extend(batch);
        async { Err(HandlerError::Unavailable(anyhow::anyhow!("no database"))) }
    }));
    world.publish(["1", "2", "3"]).await;
    eventually("the first to be refused", async || {
        (!refused.all().is_empty()).then_some(())
    })
    .await;

    let log = Log::default();
    let other = world.run(log.handler());
    world.settled(3).await;
    assert_eq!(log.sorted(), ["1", "2", "3"]);
    unavailable.stop().await;
    other.stop().await;
}
