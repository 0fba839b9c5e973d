//! A sequence of user ids that is behind those in use when the service starts or while it runs.

use testkit::eventually;

use crate::support::{Api, World};

async fn assert_loud_once(api: &Api) {
    let behind = |line: &&String| line.contains("users_id_seq was behind");
    eventually("an error in the log", async || {
        let output = api.service.process.output();
        output.iter().find(behind)?.contains("ERROR").then_some(())
    })
    .await;
    let output = api.service.process.output();
    assert_eq!(output.iter().filter(behind).count(), 1);
}

/// Id 1 is free, so that no creation would notice.
const HIGHER_USER: &str =
    "insert into users (id, name, email) overriding system value values (50, 'Ada', 'a@b')";

#[tokio::test]
async fn a_sequence_that_is_behind_is_moved_before_its_ids_are_given_out_again() {
    let world = World::new().await;
    let mut api = world.serve(&["--no-relay"]).await;
    api.service.process.stop().await;
    world.execute(HIGHER_USER).await;
    let api = world.serve(&["--no-relay"]).await;
    assert_loud_once(&api).await;
    assert!(api.create().await > 50);
}

#[tokio::test]
async fn a_sequence_that_falls_behind_a_running_service_is_moved() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    world.execute(HIGHER_USER).await;
    assert_loud_once(&api).await;
    assert!(api.create().await > 50);
}
