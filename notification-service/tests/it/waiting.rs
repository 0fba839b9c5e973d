//! Reading a version that was just written.

use std::time::{Duration, Instant};

use mongodb::bson::{DateTime, doc};
use serde_json::Value;
use testkit::eventually;

use crate::{
    events::{created, deleted, updated},
    live::listening,
    support::World,
};

#[tokio::test]
async fn a_reader_is_woken_by_a_change_that_another_service_applied() {
    let world = World::new().await;
    let applying = world.serve().await;
    let reading = world.serve_nothing_but_reads().await;
    let get = async |id, rest| {
        let path = format!("/notifications/user/{id}?{rest}");
        reading.get(&path).await
    };
    let mut last = 0;
    let changed = eventually("readers that are woken", async || {
        last += 3;
        let (a, b, c) = (last - 2, last - 1, last);
        world.publish_all(&[created(a), created(c)]).await;
        world.settled().await;

        let started = Instant::now();
        let (changed, appeared, gone, ()) = tokio::join!(
            get(a, "min_version=3&wait=5s"),
            get(b, "wait=5s"),
            get(c, "min_version=2&wait=5s"),
            async {
                listening(&world).await;
                let events = [updated(a, 2), updated(a, 3), created(b), deleted(c, 2)];
                world.publish_all(&events).await;
            }
        );
        // At the end of its wait each would look for itself.
        let is_woken = started.elapsed() < Duration::from_secs(4);
        let statuses = [changed.status(), appeared.status(), gone.status()];
        (is_woken && statuses.map(|it| it.as_u16()) == [200, 200, 410]).then_some(changed)
    })
    .await;
    let body: Value = changed.json().await.expect("JSON");
    assert_eq!(body["version"], 3);
    applying.stop().await;
    reading.stop().await;
}

#[tokio::test]
async fn a_version_that_is_there_is_not_waited_for() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&updated(1, 5)).await;
    world.settled().await;
    for version in [1, 4, 5] {
        let path = format!("/notifications/user/1?min_version={version}");
        assert_eq!(service.get(&path).await.status(), 200);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_wait_ends_with_when_to_come_again() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;

    for path in [
        "/notifications/user/1?min_version=2",
        "/notifications/user/1?min_version=2&wait=200ms",
        "/notifications/user/2?wait=200ms",
    ] {
        let started = Instant::now();
        let response = service.get(path).await;
        assert_eq!(response.status(), 503, "{path}");
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        if path.contains("wait") {
            assert!(started.elapsed() >= Duration::from_millis(200));
        }
    }
    service.stop().await;
}

#[tokio::test]
async fn a_wait_does_not_hold_up_the_end() {
    let world = World::new().await;
    eventually("an end before that of a wait", async || {
        let service = world.serve().await;
        let waiting = service.get("/notifications/user/1?wait=5s");
        let started = Instant::now();
        let (response, ()) = tokio::join!(waiting, async {
            listening(&world).await;
            service.shutdown();
        });
        assert_eq!(response.status(), 503);
        let is_early = started.elapsed() < Duration::from_secs(4);
        service.stop().await;
        is_early.then_some(())
    })
    .await;
}

#[tokio::test]
async fn reads_that_wait_leave_room_for_other_clients_and_other_reads() {
    let world = World::new().await;
    let mut config = world.config();
    config.http.max_concurrent_requests = 2;
    config.limits.max_waiting_reads = 3;
    config.limits.max_waiting_reads_per_client = 2;
    let service = world.serve_with(config).await;
    // One that is refused while another's request is on its way comes again.
    let waits = async |host| {
        eventually("the user", async || {
            let response = service
                .get_from(host, "/notifications/user/1?wait=5s")
                .await;
            (response.status() == 200).then_some(())
        })
        .await;
    };
    let is_told = async |host, problem: &str| {
        eventually(problem, async || {
            let response = service
                .get_from(host, "/notifications/user/1?wait=1ms")
                .await;
            let body: Value = response.json().await.expect("a problem");
            (body["type"] == problem).then_some(())
        })
        .await;
        eventually("another read", async || {
            let other_read = service.get_from(host, "/notifications").await;
            (other_read.status() == 200).then_some(())
        })
        .await;
    };
    tokio::join!(waits(1), waits(1), async {
        is_told(1, "/problems/too-many-requests").await;
        tokio::join!(waits(2), async {
            is_told(3, "/problems/overloaded").await;
            world.publish(&created(1)).await;
        });
    });
    service.stop().await;
}

/// As when the change stream is ahead of the member that reads: it has announced version 9, and no
/// read shows it.
#[tokio::test]
async fn a_version_that_was_announced_and_can_not_be_read_is_looked_for_now_and_then() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;
    let collection = world.collection();
    let path = "/notifications/user/1?min_version=9&wait=4s";
    // Of this database only.
    let profile = doc! { "profile": 2 };
    let profiled = world.database.database.run_command(profile).await;
    profiled.expect("a profile");
    let filter =
        doc! { "ns": collection.namespace().to_string(), "command.find": { "$exists": true } };
    let reads = async || {
        let profile = world.database.collection("system.profile");
        let reads = profile.count_documents(filter.clone()).await;
        reads.expect("a count")
    };
    let reads = eventually("a read that waits for what is announced", async || {
        let (response, before) = tokio::join!(service.get(path), async {
            listening(&world).await;
            let before = reads().await;
            announce_what_no_read_shows(&world).await;
            before
        });
        assert_eq!(response.status(), 503);
        let reads = reads().await - before;
        // Without any, the wait had ended before.
        (reads > 0).then_some(reads)
    })
    .await;
    assert!(reads <= 25, "{reads} reads");
    service.stop().await;
}

async fn announce_what_no_read_shows(world: &World) {
    let (client, collection) = (world.database.database.client(), world.collection());
    let mut session = client.start_session().await.expect("a session");
    session.start_transaction().await.expect("a transaction");
    let user = doc! {
        "_id": 1_i64, "user_id": 1_i64, "name": "Ada", "email": "ada@example.com",
        "updated_at": DateTime::now(), "version": 9_i64,
    };
    let announced = collection.replace_one(doc! { "_id": 1_i64 }, user);
    announced.session(&mut session).await.expect("a write");
    let back = doc! { "$set": { "version": 1_i64 } };
    let hidden = collection.update_one(doc! { "_id": 1_i64 }, back);
    hidden.session(&mut session).await.expect("a write");
    session.commit_transaction().await.expect("committed");
}
