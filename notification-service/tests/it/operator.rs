//! What an operator does about dead letters.

use async_nats::HeaderMap;
use mongodb::bson::doc;
use serde_json::Value;

use crate::{
    events::{created, named},
    support::World,
};

#[tokio::test]
async fn dead_letters_are_listed_shown_and_discarded() {
    let world = World::new().await;
    let (listed, output) = world.run(&["dead-letters", "list"]).await;
    assert!(listed && output.contains("no dead letters"), "{output}");

    let service = world.serve().await;
    for body in ["first", "second", "third"] {
        let mut headers = HeaderMap::new();
        headers.insert("ce-type", body);
        world.publish_raw(headers, body.as_bytes()).await;
        world.settled().await;
    }

    let (_, output) = world.run(&["dead-letters", "list", "--limit", "2"]).await;
    assert!(
        output.contains("not JSON") && output.contains("--after 2"),
        "{output}"
    );
    let (_, output) = world.run(&["dead-letters", "show", "2"]).await;
    assert!(output.contains("payload    second"), "{output}");
    assert!(output.contains("header     ce-type: second"), "{output}");
    assert!(output.contains("reason     not JSON"), "{output}");

    let (discarded, output) = world.run(&["dead-letters", "discard", "1"]).await;
    assert!(!discarded && output.contains("--yes"), "{output}");
    assert_eq!(world.dead_letter_count().await, 3);
    let (discarded, output) = world
        .run(&["dead-letters", "discard", "1", "2", "--yes"])
        .await;
    assert!(discarded, "{output}");
    assert_eq!(world.dead_letter_count().await, 1);
    for command in [
        &["show", "1"][..],
        &["replay", "1"],
        &["discard", "1", "--yes"],
    ] {
        let (found, output) = world.run(&[&["dead-letters"], command].concat()).await;
        assert!(!found && output.contains("no dead letter 1"), "{output}");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_replayed_dead_letter_is_applied_and_gone() {
    let world = World::new().await;
    let validator = doc! { "name": { "$ne": "refused" } };
    let create = world
        .database
        .database
        .create_collection("user_notifications");
    create.validator(validator).await.expect("created");
    let service = world.serve().await;
    let event = named(1, 1, "refused");
    let body = serde_json::to_vec(&event).expect("JSON");
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "the first id");
    headers.insert("ce-type", "user_updated");
    headers.insert("ce-time", chrono::Utc::now().to_rfc3339());
    world.publish_raw(headers, &body).await;
    world.settled().await;
    assert_eq!(world.dead_letter_count().await, 1);

    // Still refused: it comes back as another letter.
    let (replayed, output) = world.run(&["dead-letters", "replay", "1"]).await;
    assert!(replayed, "{output}");
    world.settled().await;
    assert_eq!(world.dead_letter_count().await, 1);

    let lift = doc! { "collMod": "user_notifications", "validator": {} };
    let lifted = world.database.database.run_command(lift).await;
    lifted.expect("no validator");
    let (replayed, output) = world.run(&["dead-letters", "replay", "2"]).await;
    assert!(replayed, "{output}");
    world.settled().await;

    assert_eq!(world.dead_letter_count().await, 0);
    let stored = world.document(1).await.expect("the user");
    assert_eq!(stored.get_str("name").ok(), Some("refused"));
    let last = world.stream().await.get_raw_message(3).await;
    let last = last.expect("the replayed event");
    assert_eq!(last.payload, body);
    let header = |name: &str| last.headers.get(name).map(ToString::to_string);
    assert_eq!(header("ce-type"), Some("user_updated".to_owned()));
    assert_ne!(header("Nats-Msg-Id"), Some("the first id".to_owned()));
    assert_eq!(header("Replay-Of"), Some("the first id".to_owned()));
    assert_eq!(header("Dead-Letter-Reason"), None);
    service.stop().await;
}

/// What a crash between the two steps of a replay leaves, and a second try after it.
#[tokio::test]
async fn a_replay_that_breaks_off_before_the_letter_is_gone_neither_loses_nor_undoes_anything() {
    let world = World::new().await;
    let validator = doc! { "name": { "$ne": "refused" } };
    let database = &world.database.database;
    let create = database.create_collection("user_notifications");
    create.validator(validator).await.expect("created");
    let service = world.serve().await;
    world.publish(&named(1, 1, "refused")).await;
    world.settled().await;
    let lift = doc! { "collMod": "user_notifications", "validator": {} };
    database.run_command(lift).await.expect("no validator");

    let mut config = world.dead_letters().await.cached_info().config.clone();
    config.deny_delete = true;
    world
        .jetstream
        .update_stream(config)
        .await
        .expect("updated");
    for _ in 0..2 {
        let (replayed, output) = world.run(&["dead-letters", "replay", "1"]).await;
        assert!(!replayed, "{output}");
        assert!(output.contains("still among the dead letters"), "{output}");
        world.settled().await;
        assert_eq!(world.dead_letter_count().await, 1);
        assert_eq!(world.version(1).await, Some(1));
    }
    assert_eq!(world.count(doc! {}).await, 1);
    service.stop().await;
}

#[tokio::test]
async fn dead_letters_are_served_by_the_page_and_without_their_bytes() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    for _ in 0..3 {
        world
            .publish_raw(HeaderMap::new(), b"ada@example.com")
            .await;
    }
    world.settled().await;

    let page = service.get("/dead-letters?limit=2").await;
    let link = page.headers()["link"].to_str().expect("text").to_owned();
    let text = page.text().await.expect("a body");
    assert!(!text.contains("ada@example.com"), "{text}");
    let letters: Vec<Value> = serde_json::from_str(&text).expect("an array");
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0]["sequence"], 1);
    assert_eq!(letters[0]["stream"], world.topic.stream);
    assert_eq!(letters[0]["bytes"], 15);
    assert_eq!(letters[0]["reason"], "not_json");

    let next = link.strip_prefix('<').and_then(|it| it.split_once('>'));
    let rest = service.get(next.expect("a link").0).await;
    let rest: Vec<Value> = rest.json().await.expect("an array");
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["sequence"], 3);
    service.stop().await;
}

#[tokio::test]
async fn a_page_of_large_dead_letters_is_cut_and_leads_on() {
    let world = World::new().await;
    let service = world.serve().await;
    for _ in 0..6 {
        world
            .publish_raw(HeaderMap::new(), &vec![b'x'; 1_000_000])
            .await;
    }
    world.settled().await;

    let page = service.get("/dead-letters").await;
    let link = page.headers()["link"].to_str().expect("text").to_owned();
    let first: Vec<Value> = page.json().await.expect("an array");
    assert_eq!(first.len(), 5);
    assert_eq!(first[0]["bytes"], 1_000_000);
    let next = link.strip_prefix('<').and_then(|it| it.split_once('>'));
    let rest = service.get(next.expect("a link").0).await;
    assert_eq!(rest.headers().get("link"), None);
    let rest: Vec<Value> = rest.json().await.expect("an array");
    assert_eq!(rest.len(), 1);
    service.stop().await;
}
