use std::{fs, path::Path};

use async_nats::jetstream;
use testkit::{eventually, nats};

use crate::support::{Api, World, assert_in_order};

#[tokio::test]
async fn a_deleted_stream_is_made_again_from_the_ledger() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    write(&api, 20).await;
    world.published(20).await;
    world.drained().await;
    let client = async_nats::connect(&world.nats_url).await.expect("NATS");
    let deleted = jetstream::new(client)
        .delete_stream(&world.topic.stream)
        .await;
    assert!(deleted.expect("a deletion").success);
    // Nothing is written meanwhile: the idle relay has to notice.
    assert_in_order(&world.published(20).await);
    assert_loud(&api).await;
}

#[tokio::test]
async fn a_stream_that_lost_its_end_gets_it_again() {
    let mut nats = nats::Server::start().await;
    let world = World::with_nats(nats.url()).await;
    let api = world.serve(&[]).await;
    write(&api, 20).await;
    world.published(20).await;
    world.drained().await;
    nats.stop().await;
    let copy = tempfile::tempdir().expect("a directory");
    copy_tree(nats.store(), copy.path());
    nats.restart().await;
    write(&api, 20).await;
    world.published(40).await;
    world.drained().await;
    nats.stop().await;
    fs::remove_dir_all(nats.store().join("jetstream")).expect("the newer store");
    copy_tree(copy.path(), nats.store());
    nats.restart().await;
    // Written at once, so that the stream grows past where it was before the loss is noticed.
    write(&api, 30).await;
    assert_in_order(&world.published(70).await);
    world.drained().await;
    assert_loud(&api).await;
}

/// The relay crashes after the acknowledgement and before it saves the cursor, then publishes the
/// event again and learns that it is a duplicate. Then the stream is restored to before that event.
#[tokio::test]
async fn an_event_that_was_last_seen_as_a_duplicate_is_published_again_if_the_stream_loses_it() {
    let mut nats = nats::Server::start().await;
    let world = World::with_nats(nats.url()).await;
    let mut api = world.serve(&[]).await;
    write(&api, 5).await;
    world.published(5).await;
    world.drained().await;
    world
        .execute("create table saved as select * from outbox.cursor")
        .await;
    nats.stop().await;
    let copy = tempfile::tempdir().expect("a directory");
    copy_tree(nats.store(), copy.path());
    nats.restart().await;
    write(&api, 1).await;
    world.published(6).await;
    world.drained().await;

    api.service.process.kill();
    world
        .execute(
            r"
            update outbox.cursor as c
            set last_id = s.last_id, gaps = s.gaps, stream_sequence = s.stream_sequence,
                stream_event_id = s.stream_event_id, last_event_id = s.last_event_id
            from saved as s
            ",
        )
        .await;
    world
        .execute("delete from outbox.checkpoint where last_id > (select last_id from saved)")
        .await;
    let mut api = world.serve(&[]).await;
    world.drained().await;
    assert_eq!(
        world.events().await.len(),
        6,
        "the stream drops the duplicate"
    );

    api.service.process.kill();
    nats.stop().await;
    fs::remove_dir_all(nats.store().join("jetstream")).expect("the newer store");
    copy_tree(copy.path(), nats.store());
    nats.restart().await;
    let _api = world.serve(&[]).await;
    assert_in_order(&world.published(6).await);
}

pub(crate) async fn write(api: &Api, count: usize) {
    let id = api.create().await;
    for round in 1..count {
        api.rename(id, &format!("Ada {round}")).await;
    }
}

async fn assert_loud(api: &Api) {
    eventually("an error in the log", async || {
        let output = api.service.process.output();
        let loud = |line: &String| line.contains("ERROR") && line.contains("has lost events");
        output.iter().any(loud).then_some(())
    })
    .await;
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
