//! Which events were on messages that are lost.

use testkit::eventually;

use crate::support::{Target, World};

/// An earlier relay has sent it before it was cut off, and the message is gone. While that is being noted the event
/// is read, and the server takes it for a duplicate of that message.
#[tokio::test]
async fn an_event_that_passes_while_its_message_is_being_missed_is_published_again() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 3).await;

    let writing = world.sent_and_not_committed(&target).await;

    let mut noting = world.database.pool.begin().await.expect("a transaction");
    let held_up = sqlx::query("select from outbox.cursor for update");
    held_up.execute(&mut *noting).await.expect("a lock");
    let stream = world.stream(&target).await;
    stream.delete_message(4).await.expect("gone");
    world
        .waits("%update outbox.cursor set complete_from%")
        .await;
    writing.commit().await.expect("a commit");
    world.waits("%update outbox.cursor set last_id%").await;
    noting.rollback().await.expect("the lock is gone");

    world.has_all(&target).await;
    relay.stop().await;
}

/// Checkpoints tell what stood at a sequence only if no more than one of them has passed the sequence and not the
/// event.
#[tokio::test]
async fn an_event_that_passes_long_after_its_message_was_sent_survives_the_loss_of_that_message() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 3).await;
    let late = world.sent_and_not_committed(&target).await;
    world.append_many("account", 2).await;
    world.is_true("select last_id = 7 from outbox.cursor").await;
    relay.stop().await;
    let two_checkpoints = "
        insert into outbox.checkpoint (stream, stream_sequence, stream_event_id, last_id, gaps)
        select stream, id, event_id, id, gaps from outbox.cursor, outbox.event where id in (5, 6)
        on conflict (stream, stream_sequence) do nothing";
    world.execute(two_checkpoints).await;

    let relay = world.relay(&[target.route("account")], &[]);
    late.commit().await.expect("a commit");
    world.drained(&target).await;
    let stream = world.stream(&target).await;
    stream.delete_message(4).await.expect("gone");
    world.has_all(&target).await;
    relay.stop().await;
}

/// It is refused however often it is taken back.
#[tokio::test]
async fn what_is_lost_beside_an_event_that_is_parked_is_published_again() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 3).await;
    world
        .execute("select outbox.append('account', '7', 'changed', json_build_object('large', repeat('x', 2000000)))")
        .await;
    world
        .is_true("select count(*) = 1 from outbox.parked")
        .await;

    let stream = world.stream(&target).await;
    stream.delete_message(2).await.expect("gone");
    world.is_refilled(&target, 2).await;
    relay.stop().await;
}

/// Only those who read that subject get it.
#[tokio::test]
async fn a_copy_on_another_subject_does_not_make_up_for_a_lost_message() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 3).await;
    let stream = world.stream(&target).await;
    let original = stream.get_raw_message(2).await.expect("a message");
    let replays = format!("replay.{}.another", target.subject);
    let mut headers = original.headers;
    let id = headers.get("ce-id").cloned().expect("an id");
    headers.insert("Nats-Msg-Id", "a replay");
    let replayed = world
        .jetstream
        .publish_with_headers(replays, headers, original.payload);
    replayed.await.expect("sent").await.expect("stored");

    world.append("account", "8").await;
    world.drained(&target).await;
    stream.delete_message(2).await.expect("gone");
    eventually("the lost event again", async || {
        let subject = &target.subject;
        let last = stream.get_last_raw_message_by_subject(subject).await.ok()?;
        (last.headers.get("ce-id") == Some(&id)).then_some(())
    })
    .await;
    relay.stop().await;
}

/// A checkpoint with joined gaps would say of events that were published that they were not.
#[tokio::test]
async fn what_was_published_while_the_cursor_had_more_gaps_than_can_be_kept_survives_its_loss() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 3).await;
    let mut writing = world.database.pool.begin().await.expect("a transaction");
    for _ in 0..1_001 {
        let append = sqlx::query("select outbox.append('account', '7', 'changed', '{}')");
        append.execute(&mut *writing).await.expect("an event");
        world.append("account", "8").await;
    }
    // Were there two such checkpoints, the second would tell what stood before the first.
    for _ in 0..2 {
        world
            .is_true(
                "select max(saved_at) < clock_timestamp() - interval '11 s' from outbox.checkpoint",
            )
            .await;
        // A checkpoint comes after its save and before the next one.
        for _ in 0..2 {
            world.append("account", "9").await;
            world
                .is_true("select last_id = (select max(id) from outbox.event) from outbox.cursor")
                .await;
        }
    }
    writing.commit().await.expect("a commit");
    world.drained(&target).await;

    let stream = world.stream(&target).await;
    stream.delete_message(500).await.expect("gone");
    world.has_all(&target).await;
    relay.stop().await;
}
