//! While MongoDB or NATS is away.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use async_nats::HeaderMap;
use futures::future::join_all;
use mongodb::bson::doc;
use notification_service::config::ServeConfig;
use serde_json::Value;
use testkit::{Proxy, eventually};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::{
    events::{created, updated},
    fail_points::{self, Silence},
    support::{Service, World},
};

/// Longer than the test needs.
const PAUSE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn events_wait_for_mongodb_and_none_is_set_aside() {
    let world = World::new().await;
    let (proxy, service) = serve_behind_proxy(&world).await;
    world.publish(&created(1)).await;
    world.settled().await;

    proxy.cut();
    world.publish_raw(HeaderMap::new(), b"poison").await;
    world.publish_all(&[updated(1, 2), created(2)]).await;
    eventually("the service to notice", async || {
        let ready = service.get("/readyz").await.status();
        (ready == 503 && world.dead_letter_count().await == 1).then_some(())
    })
    .await;
    assert_eq!(world.version(1).await, Some(1));

    proxy.pass();
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));
    assert_eq!(world.version(2).await, Some(1));
    assert_eq!(world.dead_letter_count().await, 1);
    service.ready().await;
    service.stop().await;
}

#[tokio::test]
async fn what_can_not_be_read_need_not_wait_until_mongodb_takes_the_events_that_came_along() {
    let world = World::new().await;
    let (proxy, service) = serve_behind_proxy(&world).await;
    // So that all of them come in one batch, to a service that does not know yet.
    let (stream, consumer) = (world.stream().await, world.consumer.as_str());
    let paused = stream.pause_consumer(consumer, OffsetDateTime::now_utc() + PAUSE);
    assert!(paused.await.expect("an answer").paused);
    world.publish(&created(1)).await;
    world.publish_raw(HeaderMap::new(), b"poison").await;
    world.publish(&created(2)).await;
    proxy.cut();
    stream.resume_consumer(consumer).await.expect("resumed");

    eventually("the dead letter", async || {
        (world.dead_letter_count().await == 1).then_some(())
    })
    .await;
    assert_eq!(world.count(doc! {}).await, 0);
    proxy.pass();
    world.settled().await;
    assert_eq!(world.count(doc! {}).await, 2);
    assert_eq!(world.dead_letter_count().await, 1);
    service.stop().await;
}

#[tokio::test]
async fn a_mongodb_that_hangs_holds_up_nothing_but_the_copy() {
    let world = World::new().await;
    let (proxy, service) = serve_behind_proxy(&world).await;

    proxy.hold_client();
    world.publish(&created(1)).await;
    let response = service.get("/notifications").await;
    assert_eq!(response.status(), 503);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );

    proxy.pass();
    world.settled().await;
    assert_eq!(world.version(1).await, Some(1));
    service.stop().await;
}

#[tokio::test]
async fn a_mongodb_that_hangs_does_not_keep_the_service_from_stopping() {
    let world = World::new().await;
    let (proxy, service) = serve_behind_proxy(&world).await;
    proxy.hold_client();
    world.publish(&created(1)).await;
    eventually("the event to be in hand", async || {
        let stream = world.stream().await;
        let consumer = stream.consumer_info(&world.consumer).await.ok()?;
        (consumer.num_ack_pending == 1).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn events_wait_for_nats() {
    let world = World::new().await;
    let (_, host) = world.nats_url.split_once("//").expect("a URL");
    let proxy = Proxy::start(host.to_owned()).await;
    let mut config = world.config();
    let url = format!("nats://{}", proxy.address());
    config.projector.nats.connection.url = url.parse().expect("a URL");
    // What the server sends into a connection that is already cut comes again after that.
    config.projector.ack_wait = Duration::from_secs(1);
    let service = world.serve_with(config).await;
    world.publish(&created(1)).await;
    world.settled().await;

    proxy.cut();
    world.publish(&updated(1, 2)).await;
    service.answered("/notifications/user/1").await;
    proxy.pass();
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));

    proxy.cut();
    service.stop().await;
}

#[tokio::test]
async fn without_mongodb_it_says_so_and_stops_when_told() {
    let world = World::new().await;
    let mut config = world.config();
    let uri = format!("mongodb://{}", nobody());
    config.mongo.mongodb_uri = uri.parse().expect("a URL");
    let service = Service::start(config).await;

    assert_eq!(service.get("/livez").await.status(), 200);
    let ready = service.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    let body: Value = ready.json().await.expect("JSON");
    assert_eq!(body["checks"]["mongodb"], "failed");
    for path in ["/notifications", "/notifications/user/1"] {
        let response = service.get(path).await;
        assert_eq!(response.status(), 503);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert!(response.headers().contains_key("retry-after"));
        let body = response.text().await.expect("a body");
        assert!(!body.contains("127.0.0.1"), "{body}");
    }
    service.stop().await;
}

#[tokio::test]
async fn without_nats_it_serves_what_it_has_and_stops_when_told() {
    let world = World::new().await;
    let mut config = world.config();
    let url = format!("nats://{}", nobody());
    config.projector.nats.connection.url = url.parse().expect("a URL");
    let service = Service::start(config).await;

    let ready = service.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    let body: Value = ready.json().await.expect("JSON");
    assert_eq!(body["checks"]["projector"], "failed");
    service.answered("/notifications").await;
    service.stop().await;
}

/// As when a firewall forgets the connections: nothing is closed, and nothing comes any more.
#[tokio::test]
async fn silent_connections_to_mongodb_are_replaced() {
    let world = World::new().await;
    let (proxy, service) = serve_behind_proxy(&world).await;
    world.publish(&created(1)).await;
    world.settled().await;
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let url = format!("{}/notifications", service.url());
        reads.spawn(async move { reqwest::get(url).await.is_ok() });
    }

    proxy.black_hole();
    world.publish(&updated(1, 2)).await;
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));
    assert!(reads.join_all().await.into_iter().all(|answered| answered));
    eventually("a service that is ready", async || {
        let read = service.get("/notifications/user/1").await.status();
        let ready = service.get("/readyz").await.status();
        (read == 200 && ready == 200).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn silent_connections_to_nats_are_replaced() {
    let world = World::new().await;
    let (_, host) = world.nats_url.split_once("//").expect("a URL");
    let proxy = Proxy::start(host.to_owned()).await;
    let mut config = world.config();
    let url = format!("nats://{}", proxy.address());
    config.projector.nats.connection.url = url.parse().expect("a URL");
    config.projector.ack_wait = Duration::from_secs(10);
    let service = world.serve_with(config).await;
    world.publish(&created(1)).await;
    world.settled().await;

    proxy.black_hole();
    world.publish(&updated(1, 2)).await;
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));
    eventually("a service that is ready", async || {
        let ready = service.get("/readyz").await.status();
        (ready == 200).then_some(())
    })
    .await;
    service.stop().await;
}

/// A command with all of the events would exceed its time limit for ever.
#[tokio::test]
async fn a_mongodb_that_is_slow_is_given_fewer_events_at_once() {
    let (_mongodb, world) = fail_points::world().await;
    let service = world.serve().await;
    // Speed lets the batches grow.
    let fast: Vec<_> = (1..=5_000).map(|id| updated(id, 2)).collect();
    world.publish_all(&fast).await;
    world.settled().await;

    let admin = world.database.database.client().database("admin");
    let slow = doc! { "configureFailPoint": "flowControlTicketOverride", "mode": "alwaysOn",
    "data": { "numTickets": 100 } };
    admin.run_command(slow).await.expect("slowed down");
    let probes: Vec<_> = (0..500)
        .map(|id| doc! { "q": { "_id": id }, "u": { "$inc": { "n": 1 } }, "upsert": true })
        .collect();
    let probe = doc! { "update": "probes", "updates": probes, "maxTimeMS": 3_000 };
    eventually("writes to be slow", async || {
        let database = &world.database.database;
        database.run_command(probe.clone()).await.err()
    })
    .await;
    let events: Vec<_> = (1..=950).map(|id| updated(id, 3)).collect();
    world.publish_all(&events).await;
    world.settled().await;

    assert_eq!(world.count(doc! { "version": 3 }).await, 950);
    service.stop().await;
}

/// Clients that hang up leave their reads behind, and MongoDB does not answer as many as there are
/// connections for requests.
#[tokio::test]
async fn reads_that_nobody_waits_for_hold_up_neither_the_projector_nor_readiness() {
    const CONNECTIONS: i32 = 20;
    const AT_ONCE: usize = 30;
    let (_mongodb, world) = fail_points::world().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;

    let copy = world.collection().namespace().to_string();
    let silence = Silence::begin(&world, "find", CONNECTIONS, Some(copy)).await;
    let hanging_up = async {
        loop {
            let reads = (0..AT_ONCE).map(|_| service.get("/notifications?limit=1000"));
            let _ = timeout(Duration::from_millis(50), join_all(reads)).await;
        }
    };
    let applying = async {
        // If all work shared one pool of the driver's size, it would have no connection left.
        silence.has_met(8).await;
        for version in 2..=20 {
            world.publish(&updated(1, version)).await;
            world.settled().await;
            assert_eq!(world.version(1).await, Some(version));
            service.ready().await;
        }
    };
    tokio::select! {
        () = applying => {}
        () = hanging_up => unreachable!("it goes on"),
    }

    service.answered("/notifications").await;
    service.stop().await;
}

/// With the proxy between the service and MongoDB.
pub(crate) async fn serve_behind_proxy(world: &World) -> (Proxy, Service) {
    let mut config = world.config();
    let proxy = proxy_to_mongodb(world, &mut config).await;
    let service = world.serve_with(config).await;
    (proxy, service)
}

pub(crate) async fn proxy_to_mongodb(world: &World, config: &mut ServeConfig) -> Proxy {
    let (_, hosts) = world.database.uri.split_once("//").expect("a URI");
    let host = hosts.split(['/', '?']).next().expect("a host");
    let proxy = Proxy::start(host.to_owned()).await;
    // Directly, or the driver would learn the real address from the replica set.
    let uri = format!("mongodb://{}/?directConnection=true", proxy.address());
    config.mongo.mongodb_uri = uri.parse().expect("a URI");
    proxy
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}
