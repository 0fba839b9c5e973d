//! How old the copy is, as readers and probes are told.

use std::time::Duration;

use serde_json::Value;
use testkit::{Proxy, eventually};

use crate::{
    events::{created, updated},
    outages::proxy_to_mongodb,
    support::{Service, World},
};

async fn lag_ms(service: &Service, path: &str) -> Option<u64> {
    let response = service.get(path).await;
    let lag = response.headers().get("x-projection-lag-ms")?;
    Some(lag.to_str().ok()?.parse().expect("a number"))
}

async fn fresh(service: &Service) {
    eventually("a copy that has all", async || {
        (lag_ms(service, "/notifications").await? == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_age_of_the_copy_is_told_and_makes_the_service_unready_beyond_its_limit() {
    let world = World::new().await;
    let mut config = world.config();
    config.max_lag = Some(Duration::from_secs(1));
    let proxy = proxy_to_mongodb(&world, &mut config).await;
    let service = world.serve_with(config).await;
    world.publish(&created(1)).await;
    world.settled().await;
    fresh(&service).await;
    assert_eq!(lag_ms(&service, "/notifications/user/1").await, Some(0));
    assert_eq!(lag_ms(&service, "/notifications/user/2").await, Some(0));

    proxy.cut();
    world.publish(&updated(1, 2)).await;
    eventually("a copy that is too old", async || {
        let lag = lag_ms(&service, "/notifications/user/1").await?;
        let ready: Value = service.get("/readyz").await.json().await.ok()?;
        (lag > 1_000 && ready["checks"]["lag"] == "failed").then_some(())
    })
    .await;

    proxy.pass();
    world.settled().await;
    fresh(&service).await;
    eventually("a check that says so", async || {
        let ready: Value = service.get("/readyz").await.json().await.ok()?;
        (ready["checks"]["lag"] == "ok").then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn a_copy_ages_while_nobody_can_say_what_it_misses() {
    let world = World::new().await;
    let (_, host) = world.nats_url.split_once("//").expect("a URL");
    let proxy = Proxy::start(host.to_owned()).await;
    let mut config = world.config();
    let url = format!("nats://{}", proxy.address());
    config.projector.nats.connection.url = url.parse().expect("a URL");
    let service = world.serve_with(config).await;
    fresh(&service).await;

    proxy.cut();
    eventually("an older copy", async || {
        (lag_ms(&service, "/notifications").await? > 5_000).then_some(())
    })
    .await;
    proxy.pass();
    fresh(&service).await;
    service.stop().await;
}
