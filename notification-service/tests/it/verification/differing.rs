//! What becomes of users who differ.

use std::{sync::atomic::Ordering, time::Duration};

use mongodb::bson::doc;
use service_runtime::nats::NatsSettings;
use testkit::eventually;

use super::{config, copy, last_pass, verification};
use crate::{
    events::{state, updated},
    support::{Service, World},
    users_api::UsersApi,
};

#[tokio::test]
async fn what_comes_to_differ_is_no_longer_told_to_be_equal() {
    let world = World::new().await;
    let users = || (1..=3).map(|id| state(id, 1));
    copy(&world, users()).await;
    let (_api, url) = UsersApi::serve(users()).await;
    let every = Duration::from_secs(1);
    let service = world
        .serve_with(config(&world, &url, every, Duration::ZERO))
        .await;
    let equal = async || {
        let shown = verification(&service).await;
        shown["equal"].as_array().map_or(0, Vec::len)
    };
    eventually("equality", async || (equal().await == 1).then_some(())).await;
    let lost = world.collection().delete_one(doc! { "_id": 2 }).await;
    assert_eq!(lost.expect("a write").deleted_count, 1);
    eventually("a difference", async || (equal().await == 0).then_some(())).await;
    service.stop().await;
}

/// What it lacks may be on its way, and would be published again in each pass. How far it is
/// behind is not known as long as the stream can't be reached.
#[tokio::test]
async fn a_copy_that_is_behind_is_not_repaired() {
    let world = World::new().await;
    let (api, url) = UsersApi::serve([state(1, 1)]).await;
    let every = Duration::from_secs(1);
    let mut repairing = config(&world, &url, every, Duration::ZERO);
    repairing.verification.verify_repair = true;
    let mut behind = repairing.clone();
    let nobody = "nats://127.0.0.1:9".parse().expect("a URL");
    behind.projector.nats.connection = NatsSettings::open(nobody);
    let service = Service::start(behind).await;
    assert_eq!(last_pass(&service).await["remaining"], 1);
    assert_eq!(api.republished.load(Ordering::Relaxed), 0);
    service.stop().await;

    let service = world.serve_with(repairing).await;
    eventually("a repair", async || {
        (api.republished.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    service.stop().await;
}

/// By a transaction that somebody has left open.
#[tokio::test]
async fn a_user_who_is_locked_keeps_no_other_from_being_repaired() {
    const USERS: usize = 50;
    let world = World::new().await;
    let (api, url) = UsersApi::serve((1..=50).map(|id| state(id, 1))).await;
    api.locked.store(7, Ordering::Relaxed);
    let every = Duration::from_secs(1);
    let mut repairing = config(&world, &url, every, Duration::ZERO);
    repairing.verification.verify_repair = true;
    let service = world.serve_with(repairing).await;
    eventually("the repair of all others", async || {
        (api.republished.load(Ordering::Relaxed) >= USERS - 1).then_some(())
    })
    .await;
    service.stop().await;
}

/// The copy is behind at every look, by a version that was not there at the first.
#[tokio::test]
async fn a_copy_that_never_catches_up_with_a_busy_user_is_not_stale() {
    let world = World::new().await;
    copy(&world, [state(1, 1)]).await;
    let (api, url) = UsersApi::serve([state(1, 2)]).await;
    api.is_busy.store(true, Ordering::Relaxed);
    let settle = Duration::from_secs(20);
    let service = world
        .serve_with(config(&world, &url, super::ONCE, settle))
        .await;
    eventually("the first look", async || {
        (api.looks.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    world.publish(&updated(1, 2)).await;
    assert_eq!(last_pass(&service).await["found"], 0);
    service.stop().await;
}
