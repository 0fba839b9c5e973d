//! Whatever the order, the copy ends the same.

use std::time::Duration;

use futures::TryStreamExt;
use mongodb::bson::doc;
use shared_events::UserEvent;
use testkit::eventually;

use crate::{
    events::{created, deleted, named, state, time_of, updated},
    support::{Service, World},
};

#[tokio::test]
async fn the_same_event_ten_times_is_one_document() {
    let world = World::new().await;
    let service = world.serve().await;

    world.publish(&created(1)).await;
    world.settled().await;
    let once = world.document(1).await.expect("the user");
    for _ in 0..9 {
        world.publish(&created(1)).await;
    }
    world.settled().await;

    let UserEvent::UserCreated(ada) = created(1) else {
        unreachable!("it is created")
    };
    let time = mongodb::bson::DateTime::from_millis(ada.updated_at.timestamp_millis());
    let expected = doc! {
        "_id": 1_i64, "user_id": 1_i64, "name": ada.name, "email": ada.email,
        "updated_at": time, "version": 1_i64,
    };
    assert_eq!(once, expected);
    assert_eq!(world.document(1).await, Some(expected));
    service.stop().await;
}

#[tokio::test]
async fn every_order_of_a_users_events_ends_in_the_same_tombstone() {
    let world = World::new().await;
    let service = world.serve().await;
    let orders = permutations(&[0, 1, 2, 3]);
    let life = |id| [created(id), updated(id, 2), updated(id, 3), deleted(id, 4)];

    // Users 1 to 24: each event in a batch of its own, so that the guard in MongoDB decides.
    for step in 0..4 {
        let events: Vec<_> = (1..)
            .zip(&orders)
            .map(|(id, order)| life(id)[order[step]].clone())
            .collect();
        world.publish_all(&events).await;
        world.settled().await;
    }
    // Users 25 to 48: all events at once, so that the fold decides.
    let events: Vec<_> = (25..)
        .zip(&orders)
        .flat_map(|(id, order)| order.iter().map(move |step| life(id)[*step].clone()))
        .collect();
    world.publish_all(&events).await;
    world.settled().await;

    let deleted_at = mongodb::bson::DateTime::from_millis(time_of(4).timestamp_millis());
    for id in 1..=48_i64 {
        let tombstone =
            doc! { "_id": id, "user_id": id, "version": 4_i64, "deleted_at": deleted_at };
        assert_eq!(world.document(id).await, Some(tombstone));
    }
    service.stop().await;
}

#[tokio::test]
async fn a_late_update_does_not_bring_a_deleted_user_back() {
    let world = World::new().await;
    let service = world.serve().await;

    world.publish_all(&[created(1), deleted(1, 3)]).await;
    world.settled().await;
    world.publish(&updated(1, 2)).await;
    world.settled().await;

    assert_eq!(service.get("/notifications/user/1").await.status(), 410);
    let listed = service.get("/notifications").await.text().await;
    assert_eq!(listed.expect("a body"), "[]");
    service.stop().await;
}

#[tokio::test]
async fn a_name_that_looks_like_an_expression_stays_a_name() {
    let world = World::new().await;
    let service = world.serve().await;
    let names = [
        "$email",
        "$$ROOT",
        "a.b.$[]",
        "{\"$set\": 1}",
        "",
        "☃\u{0}\n",
    ];

    let events: Vec<_> = (1..)
        .zip(names)
        .flat_map(|(id, name)| [named(id, 1, "before"), named(id, 2, name)])
        .collect();
    world.publish_all(&events).await;
    world.settled().await;

    for (id, name) in (1..).zip(names) {
        let body = service.get(&format!("/notifications/user/{id}")).await;
        let user: serde_json::Value = body.json().await.expect("JSON");
        let expected = state(id, 2);
        assert_eq!(
            user,
            serde_json::json!({
                "user_id": id, "name": name, "email": expected.email,
                "updated_at": expected.updated_at, "version": 2,
            })
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn services_that_share_the_consumer_share_the_work() {
    let world = World::new().await;
    let (one, two) = (world.serve().await, world.serve().await);

    let events: Vec<_> = (1..=20)
        .flat_map(|version| (1..=200).map(move |id| updated(id, version)))
        .collect();
    world.publish_all(&events).await;
    world.settled().await;

    assert_eq!(world.count(doc! { "version": { "$ne": 20 } }).await, 0);
    assert_eq!(world.count(doc! {}).await, 200);
    assert_eq!(world.dead_letter_count().await, 0);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn the_age_of_tombstones_follows_the_setting() {
    let world = World::new().await;
    world.serve().await.stop().await;
    assert_eq!(tombstone_age(&world).await, 30 * 24 * 3600);

    let mut config = world.config();
    config.mongo.tombstone_ttl = Duration::from_hours(24 * 60);
    let service = Service::start(config).await;
    eventually("the index has the new age", async || {
        (tombstone_age(&world).await == 60 * 24 * 3600).then_some(())
    })
    .await;
    service.stop().await;
}

async fn tombstone_age(world: &World) -> i64 {
    let indexes = world.collection().list_indexes().await.expect("indexes");
    let indexes: Vec<_> = indexes.try_collect().await.expect("indexes");
    let age = indexes.into_iter().find_map(|index| {
        let options = index.options?;
        assert!(index.keys == doc! { "_id": 1 } || index.keys == doc! { "deleted_at": 1 });
        Some(options.expire_after?.as_secs())
    });
    i64::try_from(age.expect("a TTL index")).expect("small")
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with_head = |place: usize| {
        let rest = [&items[..place], &items[place + 1..]].concat();
        let tails = permutations(&rest).into_iter();
        tails.map(move |tail| [vec![items[place]], tail].concat())
    };
    (0..items.len()).flat_map(with_head).collect()
}
