//! Streams that lost messages, with a real server that is tampered with, a real relay and a durable
//! consumer that is behind the damage, at it, or ahead of it.

mod damage;
mod expiry;
mod many;
mod reader;

use std::collections::BTreeSet;

use service_runtime::nats::stream::StreamMetadata;
use testkit::{eventually, nats::Server};

use self::{damage::Damage, reader::Reader};
use crate::support::{RunningRelay, Target, World};

/// Events before the damage; what is older than the second number stays.
const EVENTS: usize = 20;
const STAYING: usize = 12;
/// How many of them the consumer has read: behind the damage, at it, or ahead of it.
const READ: [usize; 3] = [5, STAYING, EVENTS];

/// Whatever happened to the stream, and wherever the consumer was: it gets every event, and the stream
/// has them all again. Nobody helps.
async fn converges_after(damage: Damage) {
    futures::future::join_all(READ.map(|read| async move {
        let mut server = Server::start().await;
        let world = World::on(&server).await;
        let target = Target::new("account");
        let relay = world.relay(&[target.route("account")], &[]);
        let reader = Reader::new(&world, &target);
        let mut copy = None;
        for published in [5, STAYING, EVENTS] {
            world.publish_up_to(&target, published).await;
            if published <= read {
                reader.read(published).await;
            }
            if published == STAYING {
                copy = Some(damage::copy(&mut server).await);
            }
        }
        let copy = copy.expect("a copy");
        damage.happens(&mut server, &world, &target, &copy).await;
        world.append_many("account", 3).await;

        let running = reader.run();
        let what = format!("all events after {damage:?} with {read} read");
        eventually(&what, async || {
            let events = world.events().await;
            let is_read = reader.has_read(&events) && reader.is_ready().await;
            (is_read && world.on_stream(&target).await.is_superset(&events)).then_some(())
        })
        .await;
        running.stop().await;
        relay.stop().await;
    }))
    .await;
}

#[tokio::test]
async fn an_older_copy_of_the_store_gets_what_it_lacks() {
    converges_after(Damage::OlderStore).await;
}

#[tokio::test]
async fn an_older_copy_of_the_messages_under_newer_consumers_gets_what_it_lacks() {
    converges_after(Damage::OlderMessages).await;
}

#[tokio::test]
async fn what_a_server_can_not_read_and_does_not_report_is_published_again() {
    converges_after(Damage::DamagedBlock { has_index: true }).await;
}

#[tokio::test]
async fn what_a_server_drops_because_it_can_not_read_it_is_published_again() {
    converges_after(Damage::DamagedBlock { has_index: false }).await;
}

#[tokio::test]
async fn what_a_truncated_block_has_lost_is_published_again() {
    converges_after(Damage::TruncatedBlock { has_index: true }).await;
    converges_after(Damage::TruncatedBlock { has_index: false }).await;
}

#[tokio::test]
async fn deleted_messages_are_published_again() {
    converges_after(Damage::Deleted).await;
}

#[tokio::test]
async fn purged_messages_are_published_again() {
    converges_after(Damage::Purged).await;
    converges_after(Damage::PurgedUpTo).await;
    converges_after(Damage::PurgedSubject).await;
}

#[tokio::test]
async fn an_empty_server_gets_everything() {
    converges_after(Damage::Replaced).await;
}

/// The relay after one that was killed when the cursor had moved back to sequence 3 and readers were not
/// told yet.
async fn killed_before_readers_were_told() -> (World, Target, RunningRelay) {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 5).await;
    relay.stop().await;
    world
        .execute("insert into outbox.incarnation select stream, 1, 3 from outbox.cursor")
        .await;
    let relay = world.relay(&[target.route("account")], &[]);
    (world, target, relay)
}

#[tokio::test]
async fn readers_are_told_of_an_incarnation_that_a_relay_began_before_it_was_killed() {
    let (world, target, relay) = killed_before_readers_were_told().await;
    eventually("the metadata", async || {
        let stream = world.stream(&target).await;
        let told = StreamMetadata::of(stream.cached_info()).incarnations;
        (told.common_up_to(0) == Some(3)).then_some(())
    })
    .await;
    relay.stop().await;
}

/// Somebody edits the stream with a configuration that was read before.
#[tokio::test]
async fn readers_are_told_again_what_somebody_has_removed_from_the_metadata() {
    let (world, target, relay) = killed_before_readers_were_told().await;
    let told = async |when: &str| {
        eventually(when, async || {
            let stream = world.stream(&target).await;
            let told = StreamMetadata::of(stream.cached_info());
            let is_all = told.ledger.is_some() && told.complete_from == Some(1);
            (is_all && told.incarnations.common_up_to(0) == Some(3)).then_some(told)
        })
        .await
    };
    let before = told("the metadata").await;
    let stream = world.stream(&target).await;
    let mut config = stream.cached_info().config.clone();
    config.metadata.clear();
    let edited = world.jetstream.update_stream(config).await;
    edited.expect("an edit");
    assert_eq!(told("the same metadata again").await, before);
    relay.stop().await;
}

/// What the ledger no longer has can't come back: readers and operators are told.
#[tokio::test]
async fn what_the_outbox_has_dropped_stays_a_hole_and_the_stream_is_not_complete() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    let reader = Reader::new(&world, &target);
    world.publish_up_to(&target, 5).await;
    reader.read(5).await;
    world.publish_up_to(&target, 10).await;
    relay.stop().await;
    world
        .execute("delete from outbox.event where id < 9; update outbox.ledger set ledger_from = 9")
        .await;
    let stream = world.stream(&target).await;
    for sequence in [7, 10] {
        stream.delete_message(sequence).await.expect("gone");
    }
    let relay = world.relay(&[target.route("account")], &[]);
    let running = reader.run();
    eventually("the loss to be known and the rest to be back", async || {
        let stream = world.stream(&target).await;
        let info = stream.cached_info();
        let is_told = StreamMetadata::of(info).complete_from.is_none();
        (is_told && info.state.last_sequence > 10 && !reader.is_ready().await).then_some(())
    })
    .await;
    let events: BTreeSet<_> = world.events().await;
    eventually("the events that are left", async || {
        reader.has_read(&events).then_some(())
    })
    .await;
    assert!(!reader.is_ready().await);
    running.stop().await;
    relay.stop().await;
}

/// A whole ledger is read again only where it has to be.
#[tokio::test]
async fn of_a_stream_that_lost_one_message_no_other_is_published_again() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 30).await;
    let stream = world.stream(&target).await;
    stream.delete_message(17).await.expect("gone");
    eventually("the event again, and readers told", async || {
        let stream = world.stream(&target).await;
        let info = stream.cached_info();
        let refilled = StreamMetadata::of(info).refilled;
        let refill = refilled.iter().next()?;
        let is_told = refill.missing == (17..=17) && refill.through == 31;
        (is_told && info.state.last_sequence == 31).then_some(())
    })
    .await;
    let original = world.events().await;
    assert_eq!(world.on_stream(&target).await, original);
    relay.stop().await;
}

/// A checkpoint says what was published by then, not that it is still there.
#[tokio::test]
async fn what_was_published_again_and_is_lost_once_more_is_published_again() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    for held in [1, 10] {
        world.publish_up_to(&target, held).await;
    }
    let stream = world.stream(&target).await;
    stream.delete_message(1).await.expect("gone");
    world.is_refilled(&target, 1).await;
    stream.purge().await.expect("all gone");
    world.has_all(&target).await;
    relay.stop().await;
}

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

/// A joined gap would say of events that were published that they were not.
#[tokio::test]
async fn no_checkpoint_is_saved_while_the_cursor_has_more_gaps_than_can_be_kept() {
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
    world.holds(&target, 1_004).await;
    let is_due =
        "select max(saved_at) < clock_timestamp() - interval '11 s' from outbox.checkpoint";
    world.is_true(is_due).await;
    world.append("account", "9").await;
    world.holds(&target, 1_005).await;
    relay.stop().await;

    let joined = "select count(*) = 0 from outbox.checkpoint, unnest(gaps) as gap, outbox.event where id <@ gap";
    world.is_true(joined).await;
    drop(writing);
}

/// What stood before the stream's first message is expired only as far as it was not published again.
#[tokio::test]
async fn what_was_published_again_is_not_taken_for_expired_when_it_is_lost_once_more() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    for held in [100, 1_500] {
        world.publish_up_to(&target, held).await;
    }
    let stream = world.stream(&target).await;
    stream
        .purge()
        .sequence(1_201)
        .await
        .expect("the older ones gone");
    let refilled = eventually("readers to be told", async || {
        let stream = world.stream(&target).await;
        let refilled = StreamMetadata::of(stream.cached_info()).refilled;
        refilled.iter().map(|it| it.through).next()
    })
    .await;
    relay.stop().await;
    // One that was kept, and one of the first that were published again.
    for sequence in [1_300, refilled - 1_190] {
        stream.delete_message(sequence).await.expect("gone");
    }
    let relay = world.relay(&[target.route("account")], &[]);
    world.has_all(&target).await;
    relay.stop().await;
}

/// The relay learns of both at once, and begins with the end.
#[tokio::test]
async fn a_stream_that_lost_its_beginning_and_its_end_gets_both_again() {
    let mut server = Server::start().await;
    let world = World::on(&server).await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, STAYING).await;
    expiry::begins_at(&world, 1).await;
    let copy = damage::copy(&mut server).await;
    world.publish_up_to(&target, EVENTS).await;
    relay.stop().await;
    let damage = Damage::OlderStore;
    damage.happens(&mut server, &world, &target, &copy).await;
    let stream = world.stream(&target).await;
    let purge = stream.purge().sequence(STAYING as u64 / 2);
    purge.await.expect("the older ones gone");
    let relay = world.relay(&[target.route("account")], &[]);
    world.has_all(&target).await;
    relay.stop().await;
}
