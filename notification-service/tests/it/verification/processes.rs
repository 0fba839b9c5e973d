//! Several processes that are to verify one copy.

use std::{sync::atomic::Ordering, time::Duration};

use mongodb::bson::{DateTime, doc};
use serde_json::Value;
use testkit::{Service as Process, eventually};

use super::{ONCE, config, copy, last_pass, verification};
use crate::{events::state, support::World, users_api::UsersApi};

#[tokio::test]
async fn of_several_processes_one_verifies_and_all_tell_the_same() {
    let world = World::new().await;
    let users = || (1..=100).map(|id| state(id, 1));
    copy(&world, users()).await;
    let (api, url) = UsersApi::serve(users()).await;
    api.permits.forget_permits(1_000_000);
    let first = world
        .serve_with(config(&world, &url, ONCE, Duration::ZERO))
        .await;
    eventually("a question", async || {
        (!api.asked(16_384).is_empty()).then_some(())
    })
    .await;
    let second = world
        .serve_with(config(&world, &url, ONCE, Duration::ZERO))
        .await;
    let third = world.serve().await;
    // The second one has looked by now, while the first is at it.
    api.permits.add_permits(1_000_000);
    last_pass(&first).await;
    let shown = verification(&first).await;
    for service in [&second, &third] {
        eventually("the same", async || {
            let same = verification(service).await;
            (same["last_pass"] == shown["last_pass"]).then_some(())
        })
        .await;
    }
    assert_eq!(api.most_at_once.load(Ordering::Relaxed), 1);
    for service in [first, second, third] {
        service.stop().await;
    }

    // Often.
    let every = Duration::from_secs(1);
    let first = world
        .serve_with(config(&world, &url, every, Duration::ZERO))
        .await;
    let second = world
        .serve_with(config(&world, &url, every, Duration::ZERO))
        .await;
    eventually("many passes", async || {
        (api.asked(16_384).len() > 4).then_some(())
    })
    .await;
    assert_eq!(api.most_at_once.load(Ordering::Relaxed), 1);
    first.stop().await;
    second.stop().await;
}

async fn expire_lease(world: &World) {
    let leases = world
        .database
        .collection("user_notifications.verification_lease");
    let expire = doc! { "$set": { "expires_at": DateTime::from_millis(1) } };
    let expired = leases.update_one(doc! {}, expire).await;
    assert_eq!(expired.expect("a write").modified_count, 1);
}

/// Two of three parts are compared; then the process hangs, another one goes on, and the first one
/// wakes up.
#[tokio::test]
async fn a_pass_whose_process_froze_is_continued_by_another_and_undone_by_nobody() {
    let world = World::new().await;
    let users = || (1..=40_000).map(|id| state(id, 1));
    copy(&world, users()).await;
    let (api, url) = UsersApi::serve_slowly(users(), 1).await;
    api.permits.forget_permits(1_000_000);
    api.permits.add_permits(2);
    let (own, arguments) = (world.environment(), ["serve", "--verify-users", &url]);
    let frozen = Process::start("notification-service", &arguments, &own).process;
    let showing = world.serve().await;
    eventually("two parts", async || {
        let shown = verification(&showing).await;
        assert_eq!(shown["last_pass"], Value::Null);
        (shown["pass"]["through"] == 32_767 && shown["is_running"] == true).then_some(())
    })
    .await;
    eventually("the third question", async || {
        (api.asked(16_384).len() >= 3).then_some(())
    })
    .await;
    frozen.freeze();
    let asked = api.asked(16_384).len();

    expire_lease(&world).await;
    let second = world
        .serve_with(config(&world, &url, ONCE, Duration::ZERO))
        .await;
    eventually("another one", async || {
        (api.asked(16_384).len() > asked).then_some(())
    })
    .await;
    let continued = api.asked(16_384)[asked];
    assert_eq!(continued.first, 32_768, "where the first one was");
    api.permits.add_permits(1_000_000);
    let pass = last_pass(&second).await;
    assert_eq!(
        (&pass["users"], &pass["remaining"]),
        (&40_000.into(), &0.into())
    );
    second.stop().await;

    frozen.thaw();
    eventually("a process that finds its pass taken", async || {
        let output = frozen.output().join("\n");
        output.contains("the verification is held up").then_some(())
    })
    .await;
    let shown = verification(&showing).await;
    assert_eq!(shown["last_pass"], pass);
    assert_eq!(shown["equal"].as_array().map(Vec::len), Some(3));
    showing.stop().await;
}
