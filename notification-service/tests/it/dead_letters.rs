//! What can never be applied is set aside and stops nobody.

use std::time::Duration;

use async_nats::HeaderMap;
use mongodb::bson::doc;
use serde_json::Value;
use testkit::{eventually, nats};

use crate::{
    events::{created, named},
    support::World,
};

#[tokio::test]
async fn poison_is_set_aside_with_its_reason_and_the_next_event_is_applied() {
    let world = World::new().await;
    let service = world.serve().await;
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
        world.publish_raw(HeaderMap::new(), body).await;
    }
    world.publish(&created(1)).await;
    world.settled().await;

    assert_eq!(service.get("/notifications/user/1").await.status(), 200);
    let dead = world.dead_letters().await;
    assert_eq!(world.dead_letter_count().await, 4);
    let mut seen = Vec::new();
    for sequence in 1..=4 {
        let letter = dead.get_raw_message(sequence).await.expect("a dead letter");
        let header = |name: &str| letter.headers.get(name).expect("a header").to_string();
        let subject = format!("dead-letters.{}.{}", world.topic.subject, world.consumer);
        assert_eq!(letter.subject.as_str(), subject);
        assert_eq!(header("Dead-Letter-Stream"), world.topic.stream);
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
}

#[tokio::test]
async fn the_headers_of_a_dead_letter_are_kept_but_not_obeyed() {
    let world = World::new().await;
    let service = world.serve().await;

    for id in ["first", "second"] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        headers.insert("Nats-Expected-Stream", world.topic.stream.as_str());
        headers.insert("ce-type", "user_created");
        world.publish_raw(headers, b"not an event").await;
    }
    world.settled().await;

    let dead = world.dead_letters().await;
    assert_eq!(world.dead_letter_count().await, 2);
    let letter = dead.get_raw_message(1).await.expect("a dead letter");
    let kept = |name: &str| letter.headers.get(name).map(ToString::to_string);
    let id = kept("Dead-Letter-Original-Nats-Msg-Id").expect("the original id");
    assert!(["first", "second"].contains(&id.as_str()), "{id}");
    let stream = kept("Dead-Letter-Original-Nats-Expected-Stream");
    assert_eq!(stream, Some(world.topic.stream.clone()));
    let own = world.topic.dead_letters().stream;
    assert_eq!(kept("Nats-Expected-Stream"), Some(own));
    assert_eq!(kept("ce-type"), Some("user_created".to_owned()));
    service.stop().await;
}

#[tokio::test]
async fn a_repeat_of_poison_is_one_dead_letter() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish_raw(HeaderMap::new(), b"not an event").await;
    world.settled().await;

    // As after a crash before the original was ended: it is delivered once more.
    let stream = world.stream().await;
    stream
        .delete_consumer(&world.consumer)
        .await
        .expect("deleted");
    eventually("the consumer is back", async || {
        stream.consumer_info(&world.consumer).await.ok()
    })
    .await;
    world.settled().await;

    assert_eq!(world.dead_letter_count().await, 1);
    service.stop().await;
}

#[tokio::test]
async fn a_dead_letter_stream_that_was_deleted_comes_back() {
    let world = World::new().await;
    let service = world.serve().await;
    let stream = world.topic.dead_letters().stream;
    world
        .jetstream
        .delete_stream(stream)
        .await
        .expect("deleted");

    world.publish_raw(HeaderMap::new(), b"poison").await;
    world.publish(&created(1)).await;
    world.settled().await;

    assert_eq!(world.dead_letter_count().await, 1);
    assert_eq!(world.version(1).await, Some(1));
    service.stop().await;
}

/// Neither its reason nor its headers would fit beside it.
#[tokio::test]
async fn poison_as_large_as_nats_takes_is_set_aside_by_reference() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut headers = HeaderMap::new();
    headers.insert("ce-type", "user_created");
    let wire = "NATS/1.0\r\nce-type: user_created\r\n\r\n".len();
    let largest = vec![b'x'; world.jetstream.client().max_payload() - wire];

    world.publish_raw(headers, &largest).await;
    world.publish(&created(1)).await;
    world.settled().await;

    assert_eq!(world.version(1).await, Some(1));
    assert_eq!(world.dead_letter_count().await, 1);
    let listed = service.get("/dead-letters").await.json::<Value>().await;
    assert_eq!(listed.expect("JSON")[0]["bytes"], largest.len());
    let (shown, output) = world.run(&["dead-letters", "show", "1"]).await;
    assert!(shown && output.contains("payload    xxx"), "not shown");
    assert!(output.contains("header     ce-type: user_created"));

    // Its event comes back as another letter, and one whose original is gone can't.
    let (replayed, output) = world.run(&["dead-letters", "replay", "1"]).await;
    assert!(replayed, "{output}");
    world.settled().await;
    assert_eq!(world.dead_letter_count().await, 1);
    world.stream().await.purge().await.expect("purged");
    let (_, output) = world.run(&["dead-letters", "show", "2"]).await;
    assert!(output.contains("no longer on the stream"), "{output}");
    let (replayed, output) = world.run(&["dead-letters", "replay", "2"]).await;
    assert!(!replayed, "{output}");
    assert!(output.contains("no longer on the stream"), "{output}");
    let discard = ["dead-letters", "discard", "2", "--yes"];
    assert!(world.run(&discard).await.0);
    service.stop().await;
}

#[tokio::test]
async fn headers_that_leave_no_room_for_those_of_a_dead_letter_go_into_its_body() {
    let world = World::new().await;
    let mut config = world.config();
    config.projector.ack_wait = Duration::from_secs(1);
    let service = world.serve_with(config).await;

    let mut headers = HeaderMap::new();
    headers.insert("ce-type", "user_created");
    headers.insert("long", "x".repeat(65_000));
    world.publish_raw(headers, b"readable").await;
    let unreadable = format!("NATS/1.0\r\nlong: {}\rx\r\n\r\n", "x".repeat(65_000));
    publish_bytes(&world, unreadable.as_bytes(), b"unreadable").await;
    world.publish(&created(1)).await;
    world.settled().await;

    assert_eq!(world.version(1).await, Some(1));
    assert_eq!(world.dead_letter_count().await, 2);
    let mut payloads = Vec::new();
    for letter in ["1", "2"] {
        let (_, output) = world.run(&["dead-letters", "show", letter]).await;
        let payload = output.lines().find(|line| line.starts_with("payload"));
        let payload = payload.expect("a payload").to_owned();
        let is_readable = payload.ends_with(" readable");
        let has_header = output.contains("header     ce-type: user_created");
        assert_eq!(is_readable, has_header, "{payload}");
        payloads.push(payload);
        let (replayed, output) = world.run(&["dead-letters", "replay", letter]).await;
        assert!(replayed, "{output}");
    }
    payloads.sort_unstable();
    assert_eq!(payloads, ["payload    readable", "payload    unreadable"]);
    service.stop().await;
}

#[tokio::test]
async fn a_dead_letter_stream_that_is_full_holds_up_nothing_but_its_letters() {
    let world = World::new().await;
    let service = world.serve().await;
    bound(&world, 1).await;
    for _ in 0..3 {
        world.publish_raw(HeaderMap::new(), b"poison").await;
    }
    pending(&world, 2).await;
    assert_eq!(world.dead_letter_count().await, 1);

    bound(&world, -1).await;
    world.settled().await;
    assert_eq!(world.dead_letter_count().await, 3);
    service.stop().await;
}

/// So many letters find room; with -1 all do.
pub(crate) async fn bound(world: &World, letters: i64) {
    let mut config = world.dead_letters().await.cached_info().config.clone();
    config.max_messages = letters;
    let update = world.jetstream.update_stream(&config);
    update.await.expect("updated");
}

/// Unreadable headers end the connection as well.
#[tokio::test]
async fn without_permission_for_dead_letters_events_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("nats.conf");
    let permissions = "permissions: { publish: { deny: [\"dead-letters.>\"] } }";
    let users = format!("users: [{{ user: anybody, password: pw, {permissions} }}]");
    let config = format!("authorization: {{ {users} }}\nno_auth_user: anybody");
    std::fs::write(&file, config).expect("written");
    let path = file.to_str().expect("a path in UTF-8");
    let nats = nats::Server::start_with(&["-c", path]).await;
    let world = World::with_nats(nats.url()).await;
    let mut config = world.config();
    config.projector.ack_wait = Duration::from_secs(1);
    let service = world.serve_with(config).await;

    world.publish_raw(HeaderMap::new(), b"poison").await;
    let headers = b"NATS/1.0\r\nX: \xff\r\n\r\n";
    publish_bytes(&world, headers, b"poison").await;
    pending(&world, 2).await;
    service.stop().await;
}

#[tokio::test]
async fn without_a_dead_letter_stream_events_go_on() {
    let world = World::new().await;
    let mut obstacle = async_nats::jetstream::stream::Config {
        name: format!("{}_OBSTACLE", world.topic.stream),
        subjects: vec![format!("{}.*", world.topic.dead_letters().subject)],
        ..Default::default()
    };
    let jetstream = &world.jetstream;
    jetstream
        .create_stream(&obstacle)
        .await
        .expect("the subject is taken");
    let service = world.serve().await;
    world.publish_raw(HeaderMap::new(), b"poison").await;
    pending(&world, 1).await;

    obstacle.subjects = vec![testkit::unique("elsewhere")];
    jetstream
        .update_stream(&obstacle)
        .await
        .expect("the subject is free");
    world.settled().await;
    assert_eq!(world.dead_letter_count().await, 1);
    service.stop().await;
}

/// Publishes events, and waits until all but so many messages are settled.
async fn pending(world: &World, messages: usize) {
    for id in 1..=3 {
        world.publish(&created(id)).await;
        eventually("the next event", async || world.version(id).await).await;
    }
    let stream = world.stream().await;
    // The events are acknowledged after they can be seen.
    eventually("the others' acknowledgements", async || {
        let consumer = stream.consumer_info(&world.consumer).await.ok()?;
        (consumer.num_ack_pending == messages && consumer.num_pending == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_that_mongodb_refuses_leaves_the_users_other_events_untouched() {
    let world = World::new().await;
    let validator = doc! { "name": { "$ne": "refused" } };
    let create = world
        .database
        .database
        .create_collection("user_notifications");
    create.validator(validator).await.expect("created");
    // Published before the service runs, so that they come in one batch.
    world
        .jetstream
        .get_or_create_stream(async_nats::jetstream::stream::Config {
            name: world.topic.stream.clone(),
            subjects: vec![world.topic.subject.clone()],
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
    world.publish_all(&events).await;

    let service = world.serve().await;
    world.settled().await;

    let stored = world.document(1).await.expect("the user");
    assert_eq!(stored.get_str("name").ok(), Some("fine"));
    assert_eq!(world.document(2).await, None);
    assert!(world.document(3).await.is_some());
    let dead = world.dead_letters().await;
    assert_eq!(world.dead_letter_count().await, 2);
    let letter = dead.get_raw_message(1).await.expect("a dead letter");
    let reason = letter.headers.get("Dead-Letter-Reason").expect("a reason");
    assert!(
        reason
            .as_str()
            .starts_with("refused by MongoDB with code 121"),
        "{reason}"
    );

    world.publish(&named(1, 3, "fine again")).await;
    world.settled().await;
    assert_eq!(world.version(1).await, Some(3));
    service.stop().await;
}

/// The client gives up its connection over the first, and panics over the second.
#[tokio::test]
async fn headers_that_the_client_cannot_read_are_set_aside_too() {
    let world = World::new().await;
    let mut config = world.config();
    // What came along with such a message is lost to the service until then.
    config.projector.ack_wait = Duration::from_secs(1);
    let service = world.serve_with(config).await;

    world.publish(&created(1)).await;
    publish_bytes(&world, b"NATS/1.0\r\nX: \xff\r\n\r\n", b"poison").await;
    world.publish(&created(2)).await;
    publish_bytes(&world, b"NATS/1.0\r\nX: a\rb\r\n\r\n", b"poison").await;
    world.publish(&created(3)).await;
    world.settled().await;

    assert_eq!(world.count(doc! {}).await, 3);
    let dead = world.dead_letters().await;
    assert_eq!(world.dead_letter_count().await, 2);
    let mut originals = Vec::new();
    for sequence in 1..=2 {
        let letter = dead.get_raw_message(sequence).await.expect("a dead letter");
        assert_eq!(letter.payload, b"poison"[..]);
        let header = |name: &str| letter.headers.get(name).expect("a header").to_string();
        let reason = header("Dead-Letter-Reason");
        assert_eq!(reason, "headers that the client can't read");
        originals.push(header("Dead-Letter-Original-Headers"));
    }
    originals.sort_unstable();
    let expected = ["TkFUUy8xLjANClg6IGENYg0KDQo=", "TkFUUy8xLjANClg6IP8NCg0K"];
    assert_eq!(originals, expected);
    service.stop().await;
}

pub(crate) async fn publish_bytes(world: &World, headers: &[u8], payload: &[u8]) {
    nats::publish_bytes(&world.nats_url, &world.topic.subject, headers, payload).await;
}
