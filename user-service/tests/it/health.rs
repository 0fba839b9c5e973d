//! Readiness says whether the work is done now.

use reqwest::StatusCode;
use serde_json::Value;
use testkit::eventually;

use crate::support::World;

#[tokio::test]
async fn a_relay_that_does_not_reach_nats_is_not_ready_while_writes_go_on() {
    let (world, proxy) = World::with_proxy_to_nats().await;
    let api = world.serve(&[]).await;
    proxy.hold_client();
    api.create().await;
    api.check_is("relay", "failed").await;
    let unready = api.get("/readyz").await;
    assert_eq!(unready.status(), StatusCode::SERVICE_UNAVAILABLE);
    for (path, status) in [
        ("/livez", StatusCode::OK),
        ("/readyz?exclude=relay", StatusCode::OK),
        ("/readyz?exclude=lag,relay", StatusCode::OK),
        ("/readyz?exclude=postgres", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        eventually(path, async || {
            (api.get(path).await.status() == status).then_some(())
        })
        .await;
    }
    api.create().await;
    proxy.pass();
    world.published(2).await;
    api.ready().await;
}

#[tokio::test]
async fn without_an_answer_from_postgres_nothing_is_ready_and_both_recover() {
    let mut world = World::new().await;
    let proxy = world.proxy_to_postgres().await;
    let api = world.serve(&[]).await;
    for _ in 0..2 {
        api.create().await;
        proxy.hold_client();
        api.check_is("postgres", "failed").await;
        api.check_is("relay", "failed").await;
        assert_eq!(api.get("/livez").await.status(), StatusCode::OK);
        proxy.pass();
        api.ready().await;
    }
}

#[tokio::test]
async fn a_relay_of_its_own_answers_health_checks_whether_active_or_standing_by() {
    let (world, proxy) = World::with_proxy_to_nats().await;
    let api = world.serve(&["--no-relay"]).await;
    let relays = [world.start(&["relay"]).await, world.start(&["relay"]).await];
    for relay in &relays {
        relay.ready().await;
        assert_eq!(relay.get("/livez").await.status(), StatusCode::OK);
        assert_eq!(relay.get("/users").await.status(), StatusCode::NOT_FOUND);
    }
    proxy.hold_client();
    api.create().await;
    // A lease that was lost makes the other one active.
    eventually("the active relay to be unready", async || {
        for relay in &relays {
            let readiness: Value = relay.get("/readyz").await.json().await.expect("JSON");
            if readiness["checks"]["relay"] == "failed" {
                return Some(());
            }
        }
        None
    })
    .await;
    proxy.pass();
    world.published(1).await;
    for relay in &relays {
        relay.ready().await;
    }
}
