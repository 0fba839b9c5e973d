//! Streams that lost messages, with a real server that is tampered with, a real relay and a durable
//! consumer that is behind the damage, at it, or ahead of it.

mod damage;
mod expiry;
mod looked_up;
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
