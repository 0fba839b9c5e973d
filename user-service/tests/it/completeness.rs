//! From where on the stream is enough to build a whole copy.

use std::collections::BTreeSet;

use async_nats::jetstream;
use service_runtime::nats::stream::StreamMetadata;
use testkit::{Service, eventually};

use crate::support::{Api, World};

impl World {
    /// What the stream says of itself, once the relay has told it.
    async fn is_complete_from(&self, expected: Option<u64>) {
        eventually("the stream's metadata", async || {
            let told = StreamMetadata::of(self.stream().await.cached_info()).complete_from;
            (told == expected).then_some(())
        })
        .await;
    }

    async fn lose_stream(&self) {
        let client = async_nats::connect(&self.nats_url).await.expect("NATS");
        let jetstream = jetstream::new(client);
        let deleted = jetstream.delete_stream(&self.topic.stream);
        assert!(deleted.await.expect("a deletion").success);
    }
}

async fn create(api: &Api, count: usize) {
    for _ in 0..count {
        api.create().await;
    }
}

#[tokio::test]
async fn a_stream_with_the_whole_ledger_is_complete_from_its_beginning() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    world.is_complete_from(Some(1)).await;
    create(&api, 5).await;
    world.published(5).await;
    world.drained().await;

    world.lose_stream().await;
    world.published(5).await;
    world.is_complete_from(Some(1)).await;
}

#[tokio::test]
async fn a_stream_that_the_outbox_can_not_fill_again_is_complete_only_after_a_republish() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    create(&api, 5).await;
    world.published(5).await;
    world.drained().await;
    world.is_complete_from(Some(1)).await;

    // As after the retention of the outbox.
    let dropped =
        "delete from outbox.event where id <= 3; update outbox.ledger set ledger_from = 4;";
    world.execute(dropped).await;
    world.lose_stream().await;
    world.published(2).await;
    world.is_complete_from(None).await;

    let (done, output) = world.run(&["republish", "--all"]).await;
    assert!(done && output.contains("on the stream"), "{output}");
    world.is_complete_from(Some(3)).await;
    let events = world.events().await;
    let users: BTreeSet<_> = (events[2..].iter())
        .map(|published| published.event.state().id)
        .collect();
    assert_eq!(users.len(), 5);
}

#[tokio::test]
async fn a_republish_whose_events_the_stream_loses_does_not_count() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    create(&api, 3).await;
    world.published(3).await;
    world.drained().await;
    drop(api);
    world
        .execute("update outbox.ledger set ledger_from = 2")
        .await;

    let mut republish = Service::start(
        "user-service",
        &["republish", "--all"],
        &world.environment(),
    );
    eventually("a command that waits", async || {
        let output = republish.process.output();
        let waits = |line: &String| line.contains("waiting for the relay");
        output.iter().any(waits).then_some(())
    })
    .await;
    world.lose_stream().await;
    let _api = world.serve(&[]).await;
    assert!(!republish.process.ended().await.success());
    let output = republish.process.output().join("\n");
    assert!(output.contains("has lost events"), "{output}");
    world.drained().await;
    world.is_complete_from(None).await;
}

#[tokio::test]
async fn a_republish_that_was_broken_off_counts_from_its_beginning_once_it_is_resumed() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    create(&api, 5).await;
    world.published(5).await;
    world.drained().await;
    // It had written the users 1 and 2 when it was broken off.
    let broken_off = "update outbox.cursor set complete_from = null;
        insert into outbox.republish_run (stream, stream_sequence, last_key)
        select stream, 4, 2 from outbox.cursor;";
    world.execute(broken_off).await;
    world.is_complete_from(None).await;

    let (done, _) = world.run(&["republish", "--since", "3"]).await;
    assert!(done);
    world.published(7).await;
    world.drained().await;
    world.is_complete_from(None).await;
    let (done, output) = world.run(&["republish", "--since", "2"]).await;
    assert!(done && output.contains("on the stream"), "{output}");
    world.is_complete_from(Some(5)).await;
}
