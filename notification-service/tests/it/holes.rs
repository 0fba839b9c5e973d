//! Events that leave the stream before they are read.

use async_nats::jetstream::stream::Config;
use mongodb::bson::doc;
use serde_json::Value;
use testkit::eventually;

use crate::{
    events::{created, updated},
    outages::serve_behind_proxy,
    support::{Service, World},
};

pub(crate) async fn holes(service: &Service) -> Vec<(i64, i64)> {
    let response = service.answered("/projection/holes").await;
    let holes: Vec<Value> = response.json().await.expect("an array");
    let range = |it: &Value| Some((it["first"].as_i64()?, it["last"].as_i64()?));
    let ranges = holes.iter().map(|it| range(it).expect("a range"));
    ranges.collect()
}

/// Waits until these are known, and the service is unready for them.
pub(crate) async fn flagged(service: &Service, expected: &[(i64, i64)]) {
    eventually("the holes to be found", async || {
        let ready: Value = service.get("/readyz").await.json().await.ok()?;
        let is_flagged = ready["checks"]["holes"] == "failed";
        (is_flagged && holes(service).await == expected).then_some(())
    })
    .await;
}

/// Waits until it is kept that all up to here was settled.
pub(crate) async fn kept(world: &World, sequence: i64) {
    eventually("the position to be kept", async || {
        let kept = world.database.collection("projection_state");
        let kept = kept.find_one(doc! {}).await.ok()??;
        (kept.get_i64("settled").ok()? == sequence).then_some(())
    })
    .await;
}

/// A service that has missed the second of two users' events.
pub(crate) async fn missed_second(world: &World) -> Service {
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;
    kept(world, 1).await;
    service.stop().await;
    world.publish(&created(2)).await;
    world.stream().await.purge().await.expect("purged");
    let service = Service::start(world.config()).await;
    flagged(&service, &[(2, 2)]).await;
    service
}

async fn ready(service: &Service) {
    eventually("a service that is ready", async || {
        let ready = service.get("/readyz").await.status();
        ready.is_success().then_some(())
    })
    .await;
}

async fn clear(service: &Service) {
    let url = format!("{}/projection/holes", service.url());
    eventually("the holes to be forgotten", async || {
        let cleared = reqwest::Client::new().delete(&url).send().await;
        (cleared.expect("a response").status() == 204).then_some(())
    })
    .await;
}

#[tokio::test]
async fn events_that_were_purged_while_nobody_read_are_found_and_not_forgotten() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish_all(&[created(1), created(2)]).await;
    world.settled().await;
    kept(&world, 2).await;
    service.stop().await;

    world.publish_all(&[created(3), created(4)]).await;
    world.stream().await.purge().await.expect("purged");
    world.publish(&updated(1, 2)).await;
    let service = Service::start(world.config()).await;
    flagged(&service, &[(3, 4)]).await;
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));
    service.stop().await;

    let service = Service::start(world.config()).await;
    flagged(&service, &[(3, 4)]).await;
    clear(&service).await;
    ready(&service).await;
    world.publish(&updated(1, 3)).await;
    world.settled().await;
    assert_eq!(holes(&service).await, []);
    service.stop().await;
}

/// Both services look; the consumer goes along with the purge.
#[tokio::test]
async fn events_that_were_purged_or_deleted_while_mongodb_was_away_are_found_once() {
    let world = World::new().await;
    let (proxy, service) = serve_behind_proxy(&world).await;
    let other = world.serve().await;
    other.stop().await;
    proxy.cut();
    world
        .publish_all(&[created(1), created(2), created(3), created(4)])
        .await;
    let stream = world.stream().await;
    stream.delete_message(3).await.expect("deleted");
    stream.purge().sequence(2).await.expect("purged");

    proxy.pass();
    let other = Service::start(world.config()).await;
    for service in [&service, &other] {
        flagged(service, &[(1, 1), (3, 3)]).await;
    }
    world.settled().await;
    assert_eq!(world.version(2).await, Some(1));
    assert_eq!(holes(&other).await, [(1, 1), (3, 3)]);
    service.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_new_copy_of_a_stream_that_has_lost_its_beginning_is_flagged() {
    let world = World::new().await;
    let stream = Config {
        name: world.topic.stream.clone(),
        subjects: vec![world.topic.subject.clone()],
        ..Config::default()
    };
    let stream = world.jetstream.create_stream(stream).await;
    world.publish_all(&[created(1), created(2)]).await;
    let purge = stream.expect("the stream");
    purge.purge().sequence(2).await.expect("purged");

    let service = Service::start(world.config()).await;
    flagged(&service, &[(1, 1)]).await;
    service.stop().await;
}
