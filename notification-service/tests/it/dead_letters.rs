//! What can never be applied is set aside and stops nobody.

use async_nats::HeaderMap;
use mongodb::bson::doc;

use crate::{
    events::{created, named},
    support::{Scene, eventually},
};

#[tokio::test]
async fn poison_is_set_aside_with_its_reason_and_the_next_event_is_applied() {
    let scene = Scene::new().await;
    let service = scene.serve().await;
    let poison: [(&[u8], &str); 4] = [
        (b"\xff not JSON", "not JSON: "),
        (b"", "not JSON: "),
        (
            br#"{"type":"user_merged","payload":{}}"#,
            "unknown event type \"user_merged\"",
        ),
        (
            br#"{"type":"user_created","payload":{"id":0}}"#,
            "not shaped like an event: ",
        ),
    ];

    for (body, _) in poison {
        scene.publish_raw(HeaderMap::new(), body).await;
    }
    scene.publish(&created(1)).await;
    scene.settled().await;

    assert_eq!(service.get("/notifications/user/1").await.status(), 200);
    let dead = scene.dead_letters().await;
    assert_eq!(dead.cached_info().state.messages, 4);
    let mut seen = Vec::new();
    for sequence in 1..=4 {
        let letter = dead.get_raw_message(sequence).await.expect("a dead letter");
        let header = |name: &str| letter.headers.get(name).expect("a header").to_string();
        assert_eq!(letter.subject.as_str(), scene.topic.dead_letters().subject);
        assert_eq!(header("Dead-Letter-Stream"), scene.topic.stream);
        let time = chrono::DateTime::parse_from_rfc3339(&header("Dead-Letter-Time"));
        time.expect("RFC 3339");
        let place: usize = header("Dead-Letter-Stream-Sequence")
            .parse()
            .expect("a number");
        let (body, reason) = poison[place - 1];
        assert_eq!(letter.payload, body);
        assert!(
            header("Dead-Letter-Reason").starts_with(reason),
            "{:?}",
            letter.headers
        );
        seen.push(place);
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4]);
    service.stop().await;
    scene.clear().await;
}

#[tokio::test]
async fn the_headers_of_a_dead_letter_are_kept_but_not_obeyed() {
    let scene = Scene::new().await;
    let service = scene.serve().await;

    for id in ["first", "second"] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        headers.insert("Nats-Expected-Stream", scene.topic.stream.as_str());
        headers.insert("ce-type", "user_created");
        scene.publish_raw(headers, b"not an event").await;
    }
    scene.settled().await;

    let dead = scene.dead_letters().await;
    assert_eq!(dead.cached_info().state.messages, 2);
    let letter = dead.get_raw_message(1).await.expect("a dead letter");
    let kept = |name: &str| letter.headers.get(name).map(ToString::to_string);
    let id = kept("Dead-Letter-Original-Nats-Msg-Id").expect("the original id");
    assert!(["first", "second"].contains(&id.as_str()), "{id}");
    let stream = kept("Dead-Letter-Original-Nats-Expected-Stream");
    assert_eq!(stream, Some(scene.topic.stream.clone()));
    assert_eq!(kept("Nats-Expected-Stream"), None);
    assert_eq!(kept("ce-type"), Some("user_created".to_owned()));
    service.stop().await;
    scene.clear().await;
}

#[tokio::test]
async fn a_repeat_of_poison_is_one_dead_letter() {
    let scene = Scene::new().await;
    let service = scene.serve().await;
    scene.publish_raw(HeaderMap::new(), b"not an event").await;
    scene.settled().await;

    // As after a crash before the original was ended: it is delivered once more.
    let stream = scene.stream().await;
    stream
        .delete_consumer(&scene.consumer)
        .await
        .expect("deleted");
    eventually("the consumer is back", async || {
        stream.consumer_info(&scene.consumer).await.ok()
    })
    .await;
    scene.settled().await;

    assert_eq!(scene.dead_letters().await.cached_info().state.messages, 1);
    service.stop().await;
    scene.clear().await;
}

#[tokio::test]
async fn an_event_that_mongodb_refuses_leaves_the_users_other_events_untouched() {
    let scene = Scene::new().await;
    let validator = doc! { "name": { "$ne": "refused" } };
    let create = scene.database.create_collection("user_notifications");
    create.validator(validator).await.expect("created");
    // Published before the service runs, so that they come in one batch.
    scene
        .jetstream
        .get_or_create_stream(async_nats::jetstream::stream::Config {
            name: scene.topic.stream.clone(),
            subjects: vec![scene.topic.subject.clone()],
            ..Default::default()
        })
        .await
        .expect("the stream");
    let events = [
        named(1, 1, "fine"),
        named(1, 2, "refused"),
        named(2, 1, "refused"),
        created(3),
    ];
    scene.publish_all(&events).await;

    let service = scene.serve().await;
    scene.settled().await;

    let stored = scene.document(1).await.expect("the user");
    assert_eq!(stored.get_str("name").ok(), Some("fine"));
    assert_eq!(scene.document(2).await, None);
    assert!(scene.document(3).await.is_some());
    let dead = scene.dead_letters().await;
    assert_eq!(dead.cached_info().state.messages, 2);
    let letter = dead.get_raw_message(1).await.expect("a dead letter");
    let reason = letter.headers.get("Dead-Letter-Reason").expect("a reason");
    assert!(
        reason
            .as_str()
            .starts_with("refused by MongoDB with code 121"),
        "{reason}"
    );

    scene.publish(&named(1, 3, "fine again")).await;
    scene.settled().await;
    let stored = scene.document(1).await.expect("the user");
    assert_eq!(stored.get_i64("version").ok(), Some(3));
    service.stop().await;
    scene.clear().await;
}
