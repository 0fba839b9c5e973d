//! Whatever the order, the copy ends the same.

use std::time::Duration;

use futures::TryStreamExt;
use mongodb::bson::{Bson, doc};
use serde_json::json;
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
        Some(options.expire_after?.as_secs())
    });
    i64::try_from(age.expect("a TTL index")).expect("small")
}

#[tokio::test]
async fn a_document_with_a_damaged_version_takes_any_valid_event() {
    let world = World::new().await;
    let service = world.serve().await;
    let damages = [
        Bson::String("9".to_owned()),
        Bson::Double(9.0),
        Bson::Double(f64::NAN),
        Bson::Double(1e300),
        Bson::Int64(i64::MAX),
        Bson::Int64(-1),
        Bson::Null,
        Bson::Boolean(true),
        Bson::Array(vec![Bson::Int64(9)]),
        Bson::Document(doc! { "$numberLong": "9" }),
        Bson::MinKey,
        Bson::MaxKey,
    ];
    let mut documents: Vec<_> = (1..)
        .zip(&damages)
        .map(|(id, version)| doc! { "_id": id, "user_id": id, "version": version })
        .collect();
    // And one without.
    documents.push(doc! { "_id": 13, "name": "Eve" });
    documents.extend((documents.clone().into_iter()).map(|mut document| {
        let id = document.get_i32("_id").expect("an id") + 100;
        document.insert("_id", id);
        document
    }));
    let inserted = world.collection().insert_many(documents).await;
    inserted.expect("a write");

    // A first version is written in another way than all later ones.
    let events = (1..=13).flat_map(|id| [created(id), updated(id + 100, 2)]);
    let events: Vec<_> = events.collect();
    world.publish_all(&events).await;
    world.settled().await;
    for id in 1..=13 {
        assert_eq!(world.version(id).await, Some(1), "{id}");
        assert_eq!(world.version(id + 100).await, Some(2), "{id}");
        let (one, two) = (format!("/notifications/user/{id}"), id + 100);
        assert_eq!(service.get(&one).await.status(), 200, "{id}");
        let two = format!("/notifications/user/{two}");
        assert_eq!(service.get(&two).await.status(), 200, "{id}");
    }
    assert_eq!(world.dead_letter_count().await, 0);
    service.stop().await;
}

#[tokio::test]
async fn numbers_that_no_user_can_have_are_set_aside() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    for (id, version) in [
        (json!(1), json!(i64::MAX)),
        (json!(1), json!(-3)),
        (json!(1), json!(2.0)),
        (json!(1), json!(1e300)),
        (json!(i64::MAX), json!(1)),
    ] {
        let event = json!({ "type": "user_updated", "payload": {
            "id": id, "name": "Eve", "email": "eve@example.com",
            "updated_at": "2026-01-02T03:04:05.678Z", "version": version,
        }});
        let event = event.to_string();
        world
            .publish_raw(async_nats::HeaderMap::new(), event.as_bytes())
            .await;
    }
    world.settled().await;
    assert_eq!(world.dead_letter_count().await, 5);
    assert_eq!(world.count(doc! {}).await, 1);
    world.publish(&updated(1, 2)).await;
    world.settled().await;
    assert_eq!(world.version(1).await, Some(2));
    service.stop().await;
}

#[tokio::test]
async fn of_one_version_the_highest_revision_stays_in_whatever_order_they_come() {
    let world = World::new().await;
    let service = world.serve().await;
    let revised = |id: i64, version: i64, revision: i32| {
        let mut state = state(id, version);
        state.revision = revision;
        let phone = format!("{id}-{version}-{revision}");
        let details = json!({ "prefix": 44, "kinds": ["home", null, 1.5] });
        state.later_fields.insert("phone".to_owned(), json!(phone));
        state.later_fields.insert("details".to_owned(), details);
        if revision == 1 {
            state.later_fields.clear();
        }
        match version {
            1 => UserEvent::UserCreated(state),
            _ => UserEvent::UserUpdated(state),
        }
    };
    let orders = permutations(&[0, 1, 2, 3]);
    let life = |id| {
        [
            revised(id, 1, 1),
            revised(id, 1, 3),
            revised(id, 1, 2),
            revised(id, 2, 1),
        ]
    };
    for step in 0..3 {
        let events = (1..).zip(&orders).map(|(id, order)| {
            // The first three of the life only: a version above them would win.
            let order: Vec<_> = order.iter().filter(|place| **place < 3).collect();
            life(id)[*order[step]].clone()
        });
        let events: Vec<_> = events.collect();
        world.publish_all(&events).await;
        world.settled().await;
    }
    for id in 1..=24 {
        let document = world.document(id).await.expect("a user");
        let phone = format!("{id}-1-3");
        assert_eq!(document.get_str("phone").ok(), Some(phone.as_str()));
        assert_eq!(document.get_i32("revision").ok(), Some(3));
        let details = document.get_document("details").expect("details");
        assert_eq!(details.get_i64("prefix").ok(), Some(44));
        assert_eq!(details.get_array("kinds").map(Vec::len).ok(), Some(3));
    }

    // A later version wins even if it comes from an older release; all at once, so that the
    // batch decides.
    let events: Vec<_> = (25..)
        .zip(&orders)
        .flat_map(|(id, order)| order.iter().map(move |step| life(id)[*step].clone()))
        .collect();
    world.publish_all(&events).await;
    world.settled().await;
    for id in 25..=48 {
        assert_eq!(world.version(id).await, Some(2), "{id}");
        let document = world.document(id).await.expect("a user");
        assert!(!document.contains_key("phone"), "{id}");
    }
    let one = service.get("/notifications/user/1").await;
    let one: serde_json::Value = one.json().await.expect("JSON");
    let fields: Vec<_> = one.as_object().expect("an object").keys().collect();
    assert_eq!(
        fields,
        ["email", "name", "updated_at", "user_id", "version"]
    );
    service.stop().await;
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
