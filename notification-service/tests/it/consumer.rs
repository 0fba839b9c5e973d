//! What the consumer of a process does, as it is watched.

use async_nats::{HeaderMap, jetstream::stream};
use reqwest::Method;
use serde_json::{Value, json};
use shared_events::UserEvent;
use testkit::eventually;
use uuid::Uuid;

use crate::{
    dead_letters::bound,
    events::{created, updated},
    live::{Event, Follower},
    outages::serve_behind_proxy,
    support::{Service, World},
};

const STREAM: &str = "/consumer/stream";

impl World {
    /// Publishes as the relay does; the event's id.
    async fn publish_with_id(&self, event: &UserEvent) -> String {
        let id = Uuid::now_v7().to_string();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        headers.insert("ce-id", id.as_str());
        let body = serde_json::to_vec(event).expect("an event is JSON");
        self.publish_raw(headers, &body).await;
        id
    }
}

/// The next status of which this is so.
pub(crate) async fn status(follower: &mut Follower, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let Event { event, data, .. } = follower.next().await;
        if event == "status" && is_it(&data) {
            return data;
        }
    }
}

/// The next event that was handled and of which this is so.
async fn handled(follower: &mut Follower, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let Event { event, data, .. } = follower.next().await;
        let events = data["events"].as_array().cloned().unwrap_or_default();
        if event == "applied"
            && let Some(found) = events.into_iter().find(|event| is_it(event))
        {
            return found;
        }
    }
}

async fn record(service: &Service, id: &str) -> Value {
    let response = service.get(&format!("/consumer/events/{id}")).await;
    assert_eq!(response.status(), 200);
    response.json().await.expect("JSON")
}

async fn request(service: &Service, method: Method, path: &str) -> reqwest::Response {
    let url = format!("{}{path}", service.url());
    let request = reqwest::Client::new().request(method, url);
    request.send().await.expect("a response")
}

#[tokio::test]
async fn an_event_is_told_as_it_is_applied_and_can_be_looked_up() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut follower = Follower::of(&service, STREAM).await;
    let is_known = |status: &Value| {
        let figures = ["pending", "holes", "lag_ms", "dead_letters"];
        let is_connected = status["mongodb"] == "ok" && status["nats"] == "ok";
        is_connected && figures.iter().all(|figure| status[figure] == 0)
    };
    let first = status(&mut follower, is_known).await;
    assert_eq!(first["consumer"], world.consumer);
    assert_eq!(first["last_verified_at"], Value::Null);

    let id = world.publish_with_id(&created(7)).await;
    let told = handled(&mut follower, |event| event["event_id"] == *id).await;
    let figures = [
        &told["aggregate_id"],
        &told["version"],
        &told["sequence"],
        &told["outcome"],
        &told["deliveries"],
    ];
    assert_eq!(
        figures,
        [
            &json!("7"),
            &json!(1),
            &json!(1),
            &json!("applied"),
            &json!(1)
        ]
    );
    let time = |name: &str| told[name].as_str().expect("a time").to_owned();
    assert!(time("delivered_at") <= time("applied_at"));
    assert!(time("published_at").ends_with('Z'));
    assert_eq!(record(&service, &id).await, told);
    let floor = status(&mut follower, |status| status["ack_floor"] == 1).await;
    assert_eq!(
        (&floor["unacknowledged"], &floor["redelivered"]),
        (&json!(0), &json!(0))
    );

    let unknown = service
        .get(&format!("/consumer/events/{}", Uuid::now_v7()))
        .await;
    assert_eq!(unknown.status(), 404);
    let unknown: Value = unknown.json().await.expect("JSON");
    assert!(
        unknown["detail"]
            .as_str()
            .is_some_and(|it| it.contains("10,000")),
        "{unknown}"
    );
    assert_eq!(service.get("/consumer/events/7").await.status(), 400);
    service.stop().await;
    assert!(
        follower.next_if_any().await.is_none(),
        "the feed has an end"
    );
}

#[tokio::test]
async fn events_that_come_together_supersede_each_other_and_a_repeat_is_stale() {
    let world = World::new().await;
    let config = stream::Config {
        name: world.topic.stream.clone(),
        subjects: vec![world.topic.subject.clone()],
        ..Default::default()
    };
    let stream = world
        .jetstream
        .create_stream(config)
        .await
        .expect("a stream");
    // Published before the service runs, so that those of most users come in one batch.
    let mut published = Vec::new();
    for id in 1..=20 {
        let older = world.publish_with_id(&created(id)).await;
        let newer = world.publish_with_id(&updated(id, 2)).await;
        published.push((older, newer));
    }
    let service = world.serve().await;
    world.settled().await;
    let mut outcomes = Vec::new();
    for (older, newer) in &published {
        let (older, newer) = (
            record(&service, older).await["outcome"].clone(),
            record(&service, newer).await["outcome"].clone(),
        );
        outcomes.push((older, newer));
    }
    let together = (json!("superseded"), json!("applied"));
    assert!(outcomes.contains(&together), "{outcomes:?}");

    // Everything is delivered again.
    let (_, newer) = &published[0];
    stream
        .delete_consumer(&world.consumer)
        .await
        .expect("deleted");
    eventually("the repeat", async || {
        let repeat = record(&service, newer).await;
        (repeat["outcome"] == "stale").then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn what_mongodb_does_not_take_is_told_as_retried_and_then_as_applied() {
    let world = World::new().await;
    let (proxy, service) = serve_behind_proxy(&world).await;
    let mut follower = Follower::of(&service, STREAM).await;
    status(&mut follower, |status| status["mongodb"] == "ok").await;
    proxy.cut();
    let id = world.publish_with_id(&created(1)).await;
    let is_it = |event: &Value| event["event_id"] == *id;
    let retried = handled(&mut follower, is_it).await;
    assert_eq!(
        (&retried["outcome"], &retried["deliveries"]),
        (&json!("retried"), &json!(1))
    );
    status(&mut follower, |status| {
        status["mongodb"] == "unavailable" && status["nats"] == "ok" && status["lag_ms"] != 0
    })
    .await;

    proxy.pass();
    let applied = handled(&mut follower, |event| {
        is_it(event) && event["outcome"] == "applied"
    })
    .await;
    assert!(applied["deliveries"].as_u64() > Some(1), "{applied}");
    status(&mut follower, |status| {
        status["mongodb"] == "ok" && status["lag_ms"] == 0
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn a_rejected_event_is_told_as_retried_until_its_dead_letter_is_stored() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut follower = Follower::of(&service, STREAM).await;
    bound(&world, 1).await;
    for (sequence, outcome) in [(1, "dead_lettered"), (2, "retried")] {
        world.publish_raw(HeaderMap::new(), b"poison").await;
        // Storing a dead letter may take another try even if there is room.
        let may_be_retried = outcome == "retried";
        let told = handled(&mut follower, |event| {
            event["sequence"] == sequence && (may_be_retried || event["outcome"] != "retried")
        })
        .await;
        assert_eq!(told["outcome"], outcome, "{told}");
    }
    bound(&world, -1).await;
    let told = handled(&mut follower, |event| {
        event["sequence"] == 2 && event["outcome"] != "retried"
    })
    .await;
    assert_eq!(told["outcome"], "dead_lettered");
    service.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_told_and_can_be_published_again_or_discarded() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut follower = Follower::of(&service, STREAM).await;
    let mut headers = HeaderMap::new();
    let id = Uuid::now_v7().to_string();
    headers.insert("Nats-Msg-Id", id.as_str());
    world.publish_raw(headers, b"poison").await;
    let told = handled(&mut follower, |event| event["outcome"] == "dead_lettered").await;
    assert_eq!(
        (&told["event_id"], &told["aggregate_id"]),
        (&json!(id), &Value::Null)
    );
    status(&mut follower, |status| status["dead_letters"] == 1).await;

    let retried = request(&service, Method::POST, "/dead-letters/1/retry").await;
    assert_eq!(retried.status(), 200);
    let retried: Value = retried.json().await.expect("JSON");
    assert_eq!(retried, json!({ "stream_sequence": 2 }));
    let again = handled(&mut follower, |event| {
        event["sequence"] == 2 && event["outcome"] != "retried"
    })
    .await;
    assert_eq!(
        (&again["event_id"], &again["outcome"]),
        (&json!(id), &json!("dead_lettered"))
    );
    world.settled().await;
    assert_eq!(world.dead_letter_count().await, 1);

    let discarded = request(&service, Method::DELETE, "/dead-letters/2").await;
    assert_eq!(discarded.status(), 204);
    assert_eq!(world.dead_letter_count().await, 0);
    for (method, path, status) in [
        (Method::DELETE, "/dead-letters/2", 404),
        (Method::POST, "/dead-letters/2/retry", 404),
        (Method::POST, "/dead-letters/0/retry", 400),
        (Method::DELETE, "/dead-letters/x", 400),
    ] {
        let response = request(&service, method.clone(), path).await;
        assert_eq!(response.status(), status, "{method} {path}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_client_has_as_many_feeds_as_it_may_and_they_count_by_themselves() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.max_followers_per_client = 1;
    let service = world.serve_with(config).await;
    let follower = Follower::of(&service, STREAM).await;
    assert_eq!(service.get(STREAM).await.status(), 429);
    let other = service.get_from(2, STREAM).await;
    assert_eq!(other.status(), 200);
    assert_eq!(service.get("/notifications/stream").await.status(), 200);
    drop(follower);
    eventually("the place to be free", async || {
        (service.get(STREAM).await.status() == 200).then_some(())
    })
    .await;
    service.stop().await;
}
