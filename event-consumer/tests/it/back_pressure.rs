//! A handler that is slow is given fewer messages at once.

use event_consumer::HandlerError;
use testkit::eventually;
use tokio::sync::watch;

use crate::support::{Gate, Log, Scripted, World, acks};

fn too_slow() -> HandlerError {
    HandlerError::TooSlow(anyhow::anyhow!("the time limit"))
}

#[tokio::test]
async fn a_batch_that_is_too_slow_comes_in_smaller_parts() {
    const LIMIT: usize = 3;
    let world = World::new().await;
    let texts: Vec<_> = (100..300).map(|it| it.to_string()).collect();
    world.publish(&texts).await;
    let log = Log::default();
    let seen = log.clone();
    let running = world.run(Scripted(move |batch: Vec<String>| {
        let handled = if batch.len() > LIMIT {
            Err(too_slow())
        } else {
            let verdicts = acks(batch.len());
            seen.extend(batch);
            Ok(verdicts)
        };
        async { handled }
    }));
    world.settled(200).await;
    assert_eq!(log.sorted(), texts, "each took effect once");
    running.stop().await;
}

/// Otherwise a batch whose later parts are slow would be handled again from its beginning.
#[tokio::test]
async fn what_one_part_has_achieved_is_acknowledged_before_the_next_begins() {
    let world = World::new().await;
    world.publish(1..=100).await;
    let (log, release) = (Log::default(), Gate::default());
    let (seen, gate) = (log.clone(), release.clone());
    let running = world.run(Scripted(move |batch: Vec<String>| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            if batch.len() > 20 {
                return Err(too_slow());
            }
            if !seen.all().is_empty() {
                gate.pass().await;
            }
            let verdicts = acks(batch.len());
            seen.extend(batch);
            Ok(verdicts)
        }
    }));
    eventually("the first part's acknowledgements", async || {
        let handled = u64::try_from(log.all().len()).ok()?;
        let info = world.info().await?;
        (handled > 0 && info.ack_floor.stream_sequence == handled).then_some(())
    })
    .await;
    assert!(log.all().len() < 100, "the next part is held");
    release.open();
    world.settled(100).await;
    running.stop().await;
}

#[tokio::test]
async fn two_batches_are_handled_at_once_and_no_more() {
    let world = World::new().await;
    world.publish(1..=2_000).await;
    let (at_once, release) = (watch::Sender::new((0, 0)), Gate::default());
    let (counted, gate) = (at_once.clone(), release.clone());
    let running = world.run(Scripted(move |batch: Vec<String>| {
        let (counted, gate) = (counted.clone(), gate.clone());
        async move {
            counted.send_modify(|(now, most)| {
                *now += 1;
                *most = (*now).max(*most);
            });
            gate.pass().await;
            counted.send_modify(|(now, _)| *now -= 1);
            Ok(acks(batch.len()))
        }
    }));
    let mut counts = at_once.subscribe();
    counts.wait_for(|(now, _)| *now == 2).await.expect("counts");
    release.open();
    world.settled(2_000).await;
    assert_eq!(at_once.borrow().1, 2);
    running.stop().await;
}
