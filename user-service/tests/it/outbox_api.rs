//! What operators see of the outbox over HTTP, and decide.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{eventually, nats};

use crate::{
    api::assert_problem,
    operator::{park_all, three_parked},
    support::{Api, World},
};

/// The journey of the event with this place in the ledger, once it is in this state.
async fn journey(world: &World, api: &Api, id: i64, state: &str) -> Value {
    let event_id: String =
        sqlx::query_scalar("select event_id::text from outbox.event where id = $1")
            .bind(id)
            .fetch_one(&world.database.pool)
            .await
            .expect("an event");
    let journey = eventually(state, async || {
        let answer = api.get(&format!("/outbox/events/{event_id}")).await;
        let journey: Value = answer.json().await.expect("JSON");
        (journey["state"] == state).then_some(journey)
    })
    .await;
    assert_eq!(journey["event_id"], event_id.as_str());
    assert_eq!(journey["outbox_id"], id);
    journey
}

#[tokio::test]
async fn an_event_is_found_pending_and_then_at_its_place_on_the_stream() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    for _ in 0..3 {
        api.create().await;
    }
    let pending = journey(&world, &api, 2, "pending").await;
    assert_eq!(pending["aggregate_type"], "user");
    assert_eq!(pending["event_type"], "user_created");
    assert_eq!(pending["version"], 1);
    for field in ["stream", "sequence", "published_at", "parked"] {
        assert_eq!(pending[field], Value::Null, "{field}");
    }
    let _relay = world.start(&["relay"]).await;
    world.published(3).await;
    world.drained().await;
    let published = journey(&world, &api, 2, "published").await;
    assert_eq!(published["stream"], world.topic.stream.as_str());
    assert_eq!(published["sequence"], 2);
    assert!(published["published_at"].is_string());
}

#[tokio::test]
async fn ids_that_producers_give_and_that_tell_no_time_are_found_too() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    world
        .execute(
            "select outbox.append('order', n::text, 'placed', '{}', event_id => gen_random_uuid())
             from generate_series(1, 3000) as n;
             select outbox.append('order', '1', 'paid', '{}',
                                  event_id => '01890000-0000-7000-8000-000000000000')",
        )
        .await;
    for id in [1, 3000, 3001] {
        journey(&world, &api, id, "pending").await;
    }
    let unknown = api
        .get("/outbox/events/01890000-0000-7000-8000-000000000001")
        .await;
    assert_problem(unknown, StatusCode::NOT_FOUND, "").await;
    let odd = api.get("/outbox/events/7").await;
    assert_eq!(odd.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_became_of_an_event_that_is_not_seen_on_its_stream_is_unknown() {
    let mut server = nats::Server::start().await;
    let world = World::with_nats(server.url()).await;
    let api = world.serve(&[]).await;
    api.create().await;
    api.create().await;
    world.published(2).await;
    world.drained().await;
    let deleted = world.stream().await.delete_message(1).await;
    assert!(deleted.expect("JetStream"));
    journey(&world, &api, 1, "unknown").await;
    let seen = journey(&world, &api, 2, "published").await;
    assert_eq!(seen["sequence"], 2);
    server.kill();
    let unseen = journey(&world, &api, 2, "unknown").await;
    assert_eq!(unseen["sequence"], Value::Null);
}

#[tokio::test]
async fn an_event_that_was_published_before_its_aggregate_was_restated_was_not_superseded() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    api.create().await;
    world.published(1).await;
    world.drained().await;
    world
        .execute(
            "insert into outbox.orphan (stream, aggregate_type, aggregate_id, version,
                                        stream_sequence, restated_at, superseded_through)
             select stream, aggregate_type, aggregate_id, 7, 1, now(), 1
             from outbox.cursor, outbox.event",
        )
        .await;
    journey(&world, &api, 1, "published").await;
}

#[tokio::test]
async fn an_event_that_was_parked_and_retried_much_later_is_pending_again() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    api.create().await;
    let relay = world.start(&["relay"]).await;
    world.published(1).await;
    world.drained().await;
    drop(relay);
    api.create().await;
    world
        .execute(
            "insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type,
                                        version, payload, created_at, reason, attempts)
             select id, event_id, aggregate_type, aggregate_id, event_type, version, payload,
                    created_at, 'too large', 3
             from outbox.event where id = 2;
             select outbox.append('order', n::text, 'placed', '{}')
             from generate_series(1, 1500) as n",
        )
        .await;
    let retry = api.post_to("/outbox/parked/2/retry", &json!({})).await;
    assert_eq!(retry.status(), StatusCode::OK);
    world
        .execute("update outbox.cursor set last_id = 1502")
        .await;
    journey(&world, &api, 1503, "pending").await;
}

#[tokio::test]
async fn parked_events_are_listed_retried_and_forgotten() {
    let world = World::new().await;
    let (api, users) = three_parked(&world).await;

    let first = api.get("/outbox/parked?limit=2").await;
    let link = first.headers()["link"].to_str().expect("text").to_owned();
    let first: Vec<Value> = first.json().await.expect("JSON");
    let ids: Vec<_> = first.iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(first[0]["reason"], "too large");
    assert_eq!(first[0]["attempts"], 3);
    assert_eq!(first[0]["aggregate_id"], users[0].to_string());
    assert!(!first[0].to_string().contains('@'), "{}", first[0]);
    let next = link.split(['<', '>']).nth(1).expect("a link");
    let second: Vec<Value> = api.get(next).await.json().await.expect("JSON");
    assert_eq!(second.len(), 1);

    let event_id = first[0]["event_id"].as_str().expect("an id");
    let answer = api.get(&format!("/outbox/events/{event_id}")).await;
    let parked: Value = answer.json().await.expect("JSON");
    assert_eq!(parked["state"], "parked");
    assert_eq!(parked["parked"]["reason"], "too large");

    let retry = async |id: i64| {
        let path = format!("/outbox/parked/{id}/retry");
        api.post_to(&path, &json!({})).await
    };
    let retried: Value = retry(1).await.json().await.expect("JSON");
    assert_eq!(retried, json!({"outcome": "requeued"}));
    world.published(4).await;
    api.rename(users[1], "Ada L.").await;
    let retried: Value = retry(2).await.json().await.expect("JSON");
    assert_eq!(retried, json!({"outcome": "superseded"}));
    assert_problem(retry(2).await, StatusCode::NOT_FOUND, "").await;

    let forget = async || {
        let request = api.client().delete(api.to("/outbox/parked/3"));
        request.send().await.expect("an answer")
    };
    assert_eq!(forget().await.status(), StatusCode::NO_CONTENT);
    assert_problem(forget().await, StatusCode::NOT_FOUND, "").await;
    let left: Vec<Value> = api.get("/outbox/parked").await.json().await.expect("JSON");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_parked_event_is_not_retried_after_later_ones_of_its_aggregate() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    world
        .execute("select outbox.append('order', '1', 'placed', '{}')")
        .await;
    park_all(&world).await;
    world
        .execute("select outbox.append('order', '1', 'paid', '{}')")
        .await;
    let refused = api.post_to("/outbox/parked/1/retry", &json!({})).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let problem: Value = refused.json().await.expect("a problem");
    assert_eq!(problem["type"], "/problems/later-events");
}

#[tokio::test]
async fn operators_need_a_token_of_their_own_scope_and_readers_see_everything() {
    let world = World::new().await;
    let (reader, writer, repairer) = (
        "reader-reader-reader",
        "writer-writer-writer",
        "repairer-repairer",
    );
    let tokens = format!("--tokens=read {reader},write {writer},repair {repairer}");
    let api = world.serve(&["--no-relay", &tokens]).await;
    let status = async |method: Method, path: &str, token: &str| {
        let request = api.client().request(method, api.to(path));
        let response = request.bearer_auth(token).send().await;
        response.expect("an answer").status()
    };
    let retry = "/outbox/parked/1/retry";
    for (method, path) in [(Method::POST, retry), (Method::DELETE, "/outbox/parked/1")] {
        for token in [reader, writer] {
            let forbidden = status(method.clone(), path, token).await;
            assert_eq!(forbidden, StatusCode::FORBIDDEN, "{path}");
        }
        assert_eq!(status(method, path, repairer).await, StatusCode::NOT_FOUND);
    }
    for path in ["/outbox/parked", "/outbox/stream"] {
        assert_eq!(status(Method::GET, path, reader).await, StatusCode::OK);
        let anonymous = api.get(path).await.status();
        assert_eq!(anonymous, StatusCode::UNAUTHORIZED, "{path}");
    }
}
