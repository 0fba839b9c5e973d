//! Dead letters belong to the service that rejected the message, and so do their replays.

use async_nats::{
    HeaderMap,
    jetstream::{
        consumer::{FromConsumer, pull},
        stream::Config,
    },
};
use futures::StreamExt;
use mongodb::bson::{Document, doc};
use serde_json::Value;
use testkit::{eventually, nats};

use crate::{
    events::{created, named, updated},
    holes::{holes, kept},
    support::{Service, World},
};

/// Has MongoDB refuse users of the name `refused`.
pub(crate) async fn refuse(world: &World) {
    validate(world, doc! { "name": { "$ne": "refused" } }).await;
}

pub(crate) async fn accept(world: &World) {
    validate(world, doc! {}).await;
}

async fn validate(world: &World, validator: Document) {
    let change = doc! { "collMod": "user_notifications", "validator": validator };
    let changed = world.database.database.run_command(change).await;
    changed.expect("the collection");
}

/// The sequences of the letters that `GET /dead-letters` shows.
pub(crate) async fn listed(service: &Service) -> Vec<u64> {
    let letters = service.get("/dead-letters").await.json::<Vec<Value>>();
    let letters = letters.await.expect("an array");
    let sequence = |letter: &Value| letter["sequence"].as_u64().expect("a sequence");
    letters.iter().map(sequence).collect()
}

pub(crate) fn replay_subject(world: &World) -> String {
    format!("replay.{}.{}", world.topic.subject, world.consumer)
}

pub(crate) fn written_at(time: chrono::DateTime<chrono::Utc>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("ce-time", time.to_rfc3339());
    headers
}

async fn set_subjects(world: &World, subjects: Vec<String>) {
    let mut config = world.stream().await.cached_info().config.clone();
    config.subjects = subjects;
    let updated = world.jetstream.update_stream(config).await;
    updated.expect("updated");
}

#[tokio::test]
async fn services_that_reject_the_same_message_have_a_dead_letter_each() {
    let first = World::new().await;
    let second = first.with_another_consumer().await;
    let services = [first.serve().await, second.serve().await];

    first.publish_raw(HeaderMap::new(), b"poison").await;
    first.settled().await;
    second.settled().await;

    assert_eq!(first.dead_letter_count().await, 2);
    let stream = first.dead_letters().await;
    let mut ids = Vec::new();
    for (world, service) in [&first, &second].into_iter().zip(&services) {
        let [sequence] = listed(service).await[..] else {
            panic!("one letter each");
        };
        let letter = stream.get_raw_message(sequence).await.expect("a letter");
        let subject = format!("dead-letters.{}.{}", world.topic.subject, world.consumer);
        assert_eq!(letter.subject.as_str(), subject);
        let header = |name: &str| letter.headers.get(name).expect("a header").to_string();
        assert_eq!(header("Dead-Letter-Consumer"), world.consumer);
        ids.push(header("Nats-Msg-Id"));

        let (_, output) = world.run(&["dead-letters", "list"]).await;
        let letters = output.lines().filter(|line| line.contains(" bytes  "));
        let letters: Vec<_> = letters.collect();
        assert_eq!(letters.len(), 1, "{output}");
        assert!(letters[0].starts_with(&format!("{sequence}  ")), "{output}");
    }
    assert_ne!(ids[0], ids[1]);

    let letter = listed(&services[1]).await[0].to_string();
    for command in [
        &["show", &letter][..],
        &["replay", &letter],
        &["discard", &letter, "--yes"],
    ] {
        let (found, output) = first.run(&[&["dead-letters"], command].concat()).await;
        assert!(!found && output.contains("no dead letter"), "{output}");
    }
    let (discarded, output) = second
        .run(&["dead-letters", "discard", &letter, "--yes"])
        .await;
    assert!(discarded, "{output}");
    assert_eq!(listed(&services[0]).await.len(), 1);
    assert_eq!(listed(&services[1]).await.len(), 0);
    for service in services {
        service.stop().await;
    }
}

#[tokio::test]
async fn a_replay_reaches_only_the_service_that_rejected_the_message() {
    let first = World::new().await;
    let second = first.with_another_consumer().await;
    let services = [first.serve().await, second.serve().await];
    refuse(&first).await;
    refuse(&second).await;
    first.publish(&named(1, 1, "refused")).await;
    first.settled().await;
    second.settled().await;
    accept(&first).await;
    accept(&second).await;
    let client = first.jetstream.client();
    let subscribed = client.subscribe(first.topic.subject.clone()).await;
    let mut subscribed = subscribed.expect("a subscription");
    client.flush().await.expect("subscribed");

    let letter = listed(&services[0]).await[0].to_string();
    let (replayed, output) = first.run(&["dead-letters", "replay", &letter]).await;
    assert!(replayed, "{output}");
    first.publish(&created(2)).await;
    first.settled().await;
    second.settled().await;

    assert_eq!(first.version(1).await, Some(1));
    assert_eq!(second.version(1).await, None);
    assert_eq!(second.version(2).await, Some(1));
    assert_eq!(listed(&services[0]).await.len(), 0);
    assert_eq!(listed(&services[1]).await.len(), 1);
    let next = subscribed.next().await.expect("the next event");
    let next = String::from_utf8_lossy(&next.payload).into_owned();
    assert!(next.contains("\"id\":2"), "{next}");
    for service in services {
        service.stop().await;
    }
}

/// Their subject named no consumer, and neither did their headers.
#[tokio::test]
async fn dead_letters_of_earlier_releases_can_be_seen_and_replayed() {
    let world = World::new().await;
    let old_subject = format!("dead-letters.{}", world.topic.subject);
    let stream = Config {
        name: format!("{}_DEAD_LETTERS", world.topic.stream),
        subjects: vec![old_subject.clone()],
        ..Config::default()
    };
    let created_stream = world.jetstream.create_stream(&stream).await;
    created_stream.expect("the dead-letter stream");
    for id in [1, 2] {
        let mut headers = HeaderMap::new();
        headers.insert("Dead-Letter-Reason", "of an earlier release");
        headers.insert("Dead-Letter-Stream", world.topic.stream.as_str());
        let body = serde_json::to_vec(&created(id)).expect("JSON").into();
        let jetstream = &world.jetstream;
        let publish = jetstream.publish_with_headers(old_subject.clone(), headers, body);
        publish.await.expect("sent").await.expect("stored");
    }
    let service = world.serve().await;
    world.publish_raw(HeaderMap::new(), b"poison").await;
    world.settled().await;
    assert_eq!(listed(&service).await, [1, 2, 3]);

    // An earlier release takes the stream back; both go on.
    world
        .jetstream
        .update_stream(&stream)
        .await
        .expect("updated");
    world.publish_raw(HeaderMap::new(), b"more poison").await;
    world.settled().await;
    assert_eq!(listed(&service).await, [1, 2, 3, 4]);

    let (replayed, output) = world.run(&["dead-letters", "replay", "1"]).await;
    assert!(replayed, "{output}");
    let discard = ["dead-letters", "discard", "2", "--yes"];
    assert!(world.run(&discard).await.0);
    world.settled().await;
    assert_eq!(world.version(1).await, Some(1));
    assert_eq!(world.version(2).await, None);
    assert_eq!(listed(&service).await, [3, 4]);
    service.stop().await;
}

#[tokio::test]
async fn a_consumer_that_comes_first_creates_a_stream_that_takes_replays() {
    let world = World::new().await;
    let service = world.serve().await;
    let subject = &world.topic.subject;
    let subjects = world.stream().await.cached_info().config.subjects.clone();
    assert_eq!(subjects, [subject.clone(), format!("replay.{subject}.*")]);
    service.stop().await;
}

/// An earlier release of the relay, started again, sets them so.
#[tokio::test]
async fn a_replay_that_the_stream_does_not_take_stays_among_the_dead_letters() {
    let world = World::new().await;
    let service = world.serve().await;
    refuse(&world).await;
    world.publish(&named(1, 1, "refused")).await;
    world.settled().await;
    accept(&world).await;
    let [letter] = listed(&service).await[..] else {
        panic!("one letter");
    };
    let letter = letter.to_string();
    let replay = ["dead-letters", "replay", &letter];

    let subjects = world.stream().await.cached_info().config.subjects.clone();
    set_subjects(&world, vec![world.topic.subject.clone()]).await;
    let (replayed, output) = world.run(&replay).await;
    assert!(!replayed, "{output}");
    assert!(output.contains("does not take replays"), "{output}");
    assert_eq!(world.dead_letter_count().await, 1);

    set_subjects(&world, subjects).await;
    let (replayed, output) = world.run(&replay).await;
    assert!(replayed, "{output}");
    world.settled().await;
    assert_eq!(world.version(1).await, Some(1));
    service.stop().await;
}

/// An earlier release of the service, started beside it, sets its filter so: it would pass over
/// the replay.
#[tokio::test]
async fn a_replay_that_its_consumer_would_pass_over_stays_among_the_dead_letters() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish_raw(HeaderMap::new(), b"poison").await;
    world.settled().await;

    let stream = world.stream().await;
    let durable = stream.get_consumer::<pull::Config>(&world.consumer).await;
    let mut config = durable.expect("its consumer").cached_info().config.clone();
    config.filter_subject = world.topic.subject.clone();
    config.filter_subjects = Vec::new();
    let config = pull::Config::try_from_consumer_config(config).expect("a pull consumer");
    stream.create_consumer(config).await.expect("updated");

    let (replayed, output) = world.run(&["dead-letters", "replay", "1"]).await;
    assert!(!replayed, "{output}");
    assert!(output.contains("earlier release"), "{output}");
    assert_eq!(world.dead_letter_count().await, 1);
    service.stop().await;

    let service = world.serve().await;
    let (replayed, output) = world.run(&["dead-letters", "replay", "1"]).await;
    assert!(replayed, "{output}");
    service.stop().await;
}

#[tokio::test]
async fn a_rebuild_reads_replays_too() {
    let world = World::new().await;
    let service = world.serve().await;
    refuse(&world).await;
    let body = serde_json::to_vec(&named(1, 1, "refused")).expect("JSON");
    // Not before the stream begins.
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    world.publish_raw(written_at(soon), &body).await;
    world.publish(&created(2)).await;
    world.settled().await;
    accept(&world).await;
    let letter = listed(&service).await[0].to_string();
    let (replayed, output) = world.run(&["dead-letters", "replay", &letter]).await;
    assert!(replayed, "{output}");
    world.settled().await;
    world.complete_from(2).await;
    // The original has expired, and the replay is the last message.
    world
        .stream()
        .await
        .purge()
        .sequence(2)
        .await
        .expect("purged");

    let arguments = [
        "rebuild",
        "--mongodb-uri",
        &world.database.uri,
        "--mongodb-database",
        &world.database.name,
    ];
    let (rebuilt, output) = world.run(&arguments).await;
    assert!(rebuilt, "{output}");
    assert!(output.contains("rebuilt from 2 events"), "{output}");
    assert_eq!(world.version(1).await, Some(1));
    service.stop().await;
}

#[tokio::test]
async fn replays_for_another_service_are_neither_missing_nor_behind_nor_unreadable() {
    let world = World::new().await;
    let mut config = world.config();
    config.projector.ack_wait = std::time::Duration::from_secs(1);
    let service = world.serve_with(config).await;
    let other = format!("replay.{}.another", world.topic.subject);
    world.publish(&created(1)).await;
    for _ in 0..2 {
        let publish = world.jetstream.publish(other.clone(), "replayed".into());
        publish.await.expect("sent").await.expect("stored");
    }
    world.settled().await;
    // They leave the stream unread, and that is no hole.
    kept(&world, 3).await;
    world.stream().await.purge().await.expect("purged");

    // Unreadable headers end the connection, and the messages around are looked at.
    let unreadable = b"NATS/1.0\r\nX: \xff\r\n\r\n";
    nats::publish_bytes(&world.nats_url, &world.topic.subject, unreadable, b"poison").await;
    nats::publish_bytes(&world.nats_url, &other, unreadable, b"for another").await;
    world.publish(&updated(1, 2)).await;
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));
    assert_eq!(world.dead_letter_count().await, 1);
    assert_eq!(holes(&service).await, []);
    eventually("no lag", async || {
        let response = service.get("/notifications").await;
        let lag = response.headers().get("x-projection-lag-ms")?;
        (lag == "0").then_some(())
    })
    .await;

    let own = serde_json::to_vec(&created(2)).expect("JSON");
    let replays = replay_subject(&world);
    let publish =
        world
            .jetstream
            .publish_with_headers(replays, written_at(chrono::Utc::now()), own.into());
    publish.await.expect("sent").await.expect("stored");
    world.settled().await;
    assert_eq!(world.version(2).await, Some(1));
    service.stop().await;
}
