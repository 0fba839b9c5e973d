//! An outbox that was restored to an earlier state than the relay's cursor.

use testkit::{Service, eventually};

use crate::{
    stream_loss::write,
    support::{World, assert_in_order},
};

#[tokio::test]
async fn events_that_are_written_below_the_cursor_are_published() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    write(&api, 20).await;
    world.published(20).await;
    world.drained().await;
    world.execute("delete from outbox.event where id > 5").await;
    world
        .execute("select setval('outbox.event_id_seq', 5)")
        .await;
    write(&api, 3).await;
    assert_in_order(&world.published(23).await);
    assert_loud(&api.service).await;
    // The repair is over: what follows is published as usual.
    write(&api, 3).await;
    world.published(26).await;
    world.drained().await;
}

#[tokio::test]
async fn events_that_took_ids_again_while_no_relay_was_there_are_published() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let mut relay = Service::start("user-service", &["relay"], &world.environment());
    write(&api, 20).await;
    world.published(20).await;
    world.drained().await;
    relay.process.stop().await;
    world.execute("delete from outbox.event where id > 5").await;
    world
        .execute("select setval('outbox.event_id_seq', 5)")
        .await;
    // Past the cursor: the sequence alone shows nothing any more.
    write(&api, 30).await;
    let relay = Service::start("user-service", &["relay"], &world.environment());
    assert_in_order(&world.published(50).await);
    assert_loud(&relay).await;
}

/// As after an upgrade by logical replication, which copies rows but no sequences.
#[tokio::test]
async fn events_are_published_although_the_sequence_begins_anew() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    write(&api, 20).await;
    world.published(20).await;
    world.drained().await;
    world
        .execute("delete from outbox.event where id < 15")
        .await;
    world
        .execute("select setval('outbox.event_id_seq', 1, false)")
        .await;
    write(&api, 3).await;
    world.published(23).await;
    assert_loud(&api.service).await;
    write(&api, 20).await;
    world.published(43).await;
    world.drained().await;
}

async fn assert_loud(service: &Service) {
    eventually("an error in the log", async || {
        let output = service.process.output();
        let loud = |line: &String| line.contains("ERROR") && line.contains("behind the relay's");
        output.iter().any(loud).then_some(())
    })
    .await;
}
