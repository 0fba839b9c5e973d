//! Events that can never be recorded stop nobody, and belong to the audit log alone.

use std::collections::HashSet;

use async_nats::HeaderMap;
use testkit::{Service, eventually, mongodb};

use crate::support::{Event, World, ready};

/// The categories of this service's dead letters, in order.
async fn categories(world: &World) -> Vec<String> {
    let stream = format!("{}_DEAD_LETTERS", world.topic.stream);
    let stream = world.jetstream.get_stream(stream).await;
    let mut stream = stream.expect("the dead letters");
    let state = stream.info().await.expect("its state").state.clone();
    let own = format!("dead-letters.{}.{}", world.topic.subject, world.consumer);
    let mut categories = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let Ok(letter) = stream.get_raw_message(sequence).await else {
            continue;
        };
        if letter.subject.as_str() == own {
            let category = letter.headers.get("Dead-Letter-Category");
            categories.push(category.expect("a category").to_string());
        }
    }
    categories.sort_unstable();
    categories
}

#[tokio::test]
async fn what_can_not_be_recorded_is_rejected_and_the_events_beside_it_are_recorded() {
    let world = World::new().await;
    let mut service = world.serve().await;
    world
        .execute("alter table audit_entry add constraint no_13 check (version <> 13)")
        .await;
    // So that all of them come in one batch.
    service.process.stop().await;
    let good: Vec<_> = (1..=20).map(|id| Event::new(id, 1)).collect();
    world.publish_all(&good[..10]).await;
    world.publish(&Event::new(1, 13)).await;
    let nested = format!(
        r#"{{"type":"user_deleted","payload":{{"id":1,"name":"Ada","email":"ada@example.com","updated_at":"2026-01-02T03:04:05.678Z","version":2}},"later":{}{}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let mut headers = HeaderMap::new();
    headers.insert("Replay-Of", uuid::Uuid::now_v7().to_string());
    let bodies: [(HeaderMap, &[u8]); 4] = [
        (headers.clone(), nested.as_bytes()),
        (headers, b"not JSON"),
        (HeaderMap::new(), &good[0].body),
        (HeaderMap::new(), b"{\"type\":\"user_merged\"}"),
    ];
    for (headers, body) in bodies {
        world.send(headers, body).await.await.expect("stored");
    }
    world.publish_all(&good[10..]).await;

    let _service = world.serve().await;
    world.recorded_once(good.len()).await;
    let expected = [
        "no_event_id",
        "not_json",
        "refused_by_postgres",
        "refused_by_postgres",
        "unknown_type",
    ];
    assert_eq!(categories(&world).await, expected);
}

#[tokio::test]
async fn without_its_table_nothing_is_rejected() {
    let world = World::new().await;
    let service = world.serve().await;
    world
        .execute("alter table audit_entry rename to moved")
        .await;
    world.publish(&Event::new(1, 1)).await;
    eventually("the failure to be logged", async || {
        let output = service.process.output();
        let is_logged = output.iter().any(|line| line.contains("held up"));
        is_logged.then_some(())
    })
    .await;
    world
        .execute("alter table moved rename to audit_entry")
        .await;
    world.recorded_once(1).await;
    assert_eq!(categories(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_replay_records_the_event_and_the_notification_service_does_not_see_it() {
    let world = World::new().await;
    let _service = world.serve().await;
    let copy = mongodb::Database::create().await;
    let other = testkit::unique("notifications");
    let own = [
        ("NATS_CONSUMER", other.clone()),
        ("MONGODB_URI", copy.uri.clone()),
        ("MONGODB_DATABASE", copy.name.clone()),
    ];
    let settings = [world.stream_settings(), own.to_vec()].concat();
    let notifications = Service::start("notification-service", &["serve"], &settings);
    ready(&notifications).await;
    let delivered_to_other = async || {
        let stream = world.stream().await;
        let last = stream.cached_info().state.last_sequence;
        eventually("the notification service to have all", async || {
            let consumer = stream.consumer_info(&other).await.ok()?;
            let is_idle = consumer.num_pending == 0 && consumer.num_ack_pending == 0;
            let has_all = consumer.delivered.stream_sequence == last;
            (is_idle && has_all).then_some(consumer.delivered.consumer_sequence)
        })
        .await
    };

    world
        .execute("alter table audit_entry add constraint no_13 check (version <> 13)")
        .await;
    let refused = Event::new(1, 13);
    world.publish(&refused).await;
    world
        .send(HeaderMap::new(), b"poison")
        .await
        .await
        .expect("stored");
    world.settled().await;
    assert_eq!(delivered_to_other().await, 2);
    // Both services have rejected the poison, and each has its own dead letter.
    assert_eq!(
        categories(&world).await,
        ["not_json", "refused_by_postgres"]
    );
    let (_, output) = world.run(&["dead-letters", "list"]).await;
    let letters = output.lines().filter(|line| line.contains(" bytes  "));
    assert_eq!(letters.count(), 2, "{output}");
    let letter = output.lines().find(|line| line.contains("no_13"));
    let letter = letter.and_then(|line| line.split_whitespace().next());
    let letter = letter.expect("the refused event").to_owned();

    world
        .execute("alter table audit_entry drop constraint no_13")
        .await;
    let (replayed, output) = world.run(&["dead-letters", "replay", &letter]).await;
    assert!(replayed, "{output}");
    let later = Event::new(2, 1);
    world.publish(&later).await;
    world.recorded_once(2).await;
    // Of two users, in any order.
    let recorded = HashSet::from_iter(world.recorded().await);
    assert_eq!(recorded, HashSet::from([refused.id, later.id]));
    assert_eq!(delivered_to_other().await, 3, "the replay reached it");
    assert_eq!(categories(&world).await, ["not_json"]);

    // A crash before the letter was forgotten would leave it: the repeat has no second effect.
    world.publish_again(&[refused]).await;
    world.recorded_once(2).await;
}
