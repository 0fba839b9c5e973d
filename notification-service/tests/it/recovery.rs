//! What comes back after what went away.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use futures::TryStreamExt;
use mongodb::bson::doc;
use serde_json::Value;

use crate::{
    events::{created, updated},
    support::{Scene, Service, eventually},
};

#[tokio::test]
async fn a_stream_that_is_deleted_comes_back_and_is_followed() {
    let scene = Scene::new().await;
    let service = scene.serve().await;
    scene.publish(&created(1)).await;
    scene.settled().await;

    let deleted = scene.jetstream.delete_stream(&scene.topic.stream).await;
    deleted.expect("deleted");
    eventually("the stream and its consumer are back", async || {
        let stream = scene.jetstream.get_stream(&scene.topic.stream).await.ok()?;
        stream.consumer_info(&scene.consumer).await.ok()
    })
    .await;
    scene.publish(&updated(1, 2)).await;
    scene.settled().await;

    let stored = scene.document(1).await.expect("the user");
    assert_eq!(stored.get_i64("version").ok(), Some(2));
    service.stop().await;
    scene.clear().await;
}

#[tokio::test]
async fn a_consumer_that_is_ahead_of_its_stream_starts_over() {
    let scene = Scene::new().await;
    scene.serve().await.stop().await;
    scene.publish(&created(1)).await;
    // As if the stream had lost its tail while nobody followed it.
    let stream = scene.stream().await;
    let reset = stream.reset_consumer(&scene.consumer, Some(100)).await;
    reset.expect("the consumer stands at 100");

    let service = scene.serve().await;
    scene.settled().await;
    assert!(scene.document(1).await.is_some());
    service.stop().await;
    scene.clear().await;
}

#[tokio::test]
async fn a_service_that_was_away_catches_up() {
    let scene = Scene::new().await;
    let service = scene.serve().await;
    scene.publish(&created(1)).await;
    scene.settled().await;
    service.stop().await;

    let events: Vec<_> = (1..=3_000).map(|id| updated(id, 2)).collect();
    scene.publish_all(&events).await;
    let service = scene.serve().await;
    scene.settled().await;

    assert_eq!(scene.count(doc! { "version": 2 }).await, 3_000);
    service.stop().await;
    scene.clear().await;
}

#[tokio::test]
async fn without_mongodb_it_says_so_and_stops_when_told() {
    let scene = Scene::new().await;
    let mut config = scene.config();
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
    let scene = Scene::new().await;
    let mut config = scene.config();
    let url = format!("nats://{}", nobody());
    config.projector.nats_url = url.parse().expect("a URL");
    let service = Service::start(config).await;

    let ready = service.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    let body: Value = ready.json().await.expect("JSON");
    assert_eq!(body["checks"]["projector"], "failed");
    assert_eq!(service.get("/notifications").await.status(), 200);
    service.stop().await;
}

#[tokio::test]
async fn the_age_of_tombstones_follows_the_setting() {
    let scene = Scene::new().await;
    scene.serve().await.stop().await;
    assert_eq!(tombstone_age(&scene).await, 30 * 24 * 3600);

    let mut config = scene.config();
    config.mongo.tombstone_ttl = Duration::from_hours(24 * 60);
    let service = Service::start(config).await;
    eventually("the index has the new age", async || {
        (tombstone_age(&scene).await == 60 * 24 * 3600).then_some(())
    })
    .await;
    service.stop().await;
    scene.clear().await;
}

async fn tombstone_age(scene: &Scene) -> i64 {
    let indexes = scene.collection().list_indexes().await.expect("indexes");
    let indexes: Vec<_> = indexes.try_collect().await.expect("indexes");
    let age = indexes.into_iter().find_map(|index| {
        let options = index.options?;
        assert!(index.keys == doc! { "_id": 1 } || index.keys == doc! { "deleted_at": 1 });
        Some(options.expire_after?.as_secs())
    });
    i64::try_from(age.expect("a TTL index")).expect("small")
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}
