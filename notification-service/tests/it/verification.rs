//! The verification in the background.

mod differing;
mod processes;

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use chrono::{DateTime, Utc};
use mongodb::bson::{DateTime as BsonDateTime, Document, doc};
use notification_service::config::ServeConfig;
use serde_json::Value;
use shared_events::UserState;
use testkit::eventually;

use crate::{
    events::{created, deleted, state, updated},
    holes,
    support::{Service, World},
    users_api::UsersApi,
};

const LAST_ID: i64 = i64::MAX / 2;
/// No second pass within a test.
const ONCE: Duration = Duration::from_hours(1);

fn config(world: &World, users: &str, every: Duration, settle: Duration) -> ServeConfig {
    let mut config = world.config();
    config.verification.verify_users = Some(users.to_owned());
    config.verification.verify_every = every;
    config.verification.verify_settle = settle;
    config
}

/// Puts copies of these users into MongoDB as the projector would.
async fn copy(world: &World, users: impl IntoIterator<Item = UserState>) {
    let documents = users.into_iter().map(|user| document(&user));
    let documents: Vec<_> = documents.collect();
    let copied = world.collection().insert_many(documents).await;
    copied.expect("a write");
}

fn document(user: &UserState) -> Document {
    doc! {
        "_id": user.id, "user_id": user.id, "name": &user.name, "email": &user.email,
        "updated_at": BsonDateTime::from_millis(user.updated_at.timestamp_millis()),
        "version": user.version,
    }
}

async fn verification(service: &Service) -> Value {
    let response = service.answered("/verification").await;
    response.json().await.expect("JSON")
}

/// Waits for the end of the first pass.
async fn last_pass(service: &Service) -> Value {
    eventually("a pass that has ended", async || {
        let last_pass = verification(service).await["last_pass"].take();
        last_pass.is_object().then_some(last_pass)
    })
    .await
}

async fn last_error(service: &Service) -> String {
    eventually("an error", async || {
        let error = verification(service).await["last_error"]["error"].take();
        error.as_str().map(str::to_owned)
    })
    .await
}

/// Of each difference that a pass has left, the user and the kind.
fn differences(pass: &Value) -> Vec<(i64, String)> {
    let differences = pass["differences"].as_array().expect("differences").iter();
    let read = |it: &Value| {
        let kind = it["difference"].as_str()?.to_owned();
        Some((it["user_id"].as_i64()?, kind))
    };
    differences
        .map(|it| read(it).expect("a difference"))
        .collect()
}

#[tokio::test]
async fn agreement_is_found_by_digests_of_large_ranges_alone_and_told_until_when() {
    let world = World::new().await;
    let users = || (1..=40_000).map(|id| state(id, 1));
    copy(&world, users()).await;
    let (api, url) = UsersApi::serve(users()).await;
    let before = Utc::now();
    let service = world
        .serve_with(config(&world, &url, ONCE, Duration::ZERO))
        .await;
    world.publish(&deleted(40_001, 2)).await;

    let pass = last_pass(&service).await;
    assert_eq!(
        (&pass["users"], &pass["copies"]),
        (&40_000.into(), &40_000.into())
    );
    assert_eq!((&pass["found"], &pass["remaining"]), (&0.into(), &0.into()));
    let asked = api.asked(16_384);
    assert!(
        asked.iter().all(|it| it.first == 1),
        "all at once: {asked:?}"
    );
    assert_eq!(api.asked(128), []);
    assert_eq!(api.pages.load(Ordering::Relaxed), 0);
    let shown = verification(&service).await;
    assert_eq!(shown["pass"], Value::Null);
    assert_eq!(shown["last_error"], Value::Null);
    let equal = &shown["equal"][0];
    assert_eq!(
        (&equal["first"], &equal["last"]),
        (&1.into(), &LAST_ID.into())
    );
    let until: DateTime<Utc> =
        serde_json::from_value(equal["equal_until"].clone()).expect("a time");
    assert!(before <= until && until <= Utc::now());
    service.stop().await;
}

/// Each kind of difference, and in the third of three large ranges.
#[tokio::test]
async fn differences_are_found_by_looking_more_closely_only_where_they_are() {
    let world = World::new().await;
    let at = 40_000;
    let users = (1..=at + 10).filter(|id| *id != at + 5);
    let (api, url) = UsersApi::serve(users.clone().map(|id| state(id, 2))).await;
    let copies = users.filter(|id| *id != at + 1).map(|id| match id - at {
        2 => state(id, 1),
        3 => state(id, 3),
        4 => UserState {
            name: "other content".to_owned(),
            ..state(id, 2)
        },
        _ => state(id, 2),
    });
    copy(&world, copies.chain([state(at + 5, 1), state(at + 500, 1)])).await;
    let damaged = world.collection();
    let damage = doc! { "$set": { "name": 1 } };
    let damaged = damaged.update_one(doc! { "_id": at + 6 }, damage).await;
    assert_eq!(damaged.expect("a write").modified_count, 1);

    let service = world
        .serve_with(config(&world, &url, ONCE, Duration::ZERO))
        .await;
    let pass = last_pass(&service).await;
    let expected = [
        (at + 1, "missing"),
        (at + 2, "stale"),
        (at + 3, "ahead"),
        (at + 4, "conflict"),
        (at + 5, "extra"),
        (at + 6, "damaged"),
        (at + 500, "extra"),
    ];
    let expected = expected.map(|(id, kind)| (id, kind.to_owned()));
    assert_eq!(differences(&pass), expected);
    assert_eq!((&pass["found"], &pass["remaining"]), (&7.into(), &7.into()));
    let is_third = |first: i64| first >= 2 * 16_384;
    assert!(
        api.asked(128).iter().all(|it| is_third(it.first)),
        "{:?}",
        api.asked(128)
    );
    // One that was not answered in time is asked again.
    let looked_at: BTreeSet<_> = api.asked(1).iter().map(|it| (it.first, it.last)).collect();
    let looked_at: i64 = looked_at.iter().map(|(first, last)| last - first + 1).sum();
    assert!(looked_at <= 2 * 128, "{looked_at} users");
    assert!(
        verification(&service).await["equal"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    service.stop().await;
}

#[tokio::test]
async fn users_who_change_or_are_created_meanwhile_are_no_differences() {
    let world = World::new().await;
    let users = || (1..=300).map(|id| state(id, 1));
    copy(&world, users()).await;
    let (api, url) = UsersApi::serve(users()).await;
    let every = Duration::from_secs(1);
    let settle = Duration::from_secs(30);
    let service = world.serve_with(config(&world, &url, every, settle)).await;

    // The copy is always behind; now and then a user comes or goes at the end.
    let mut version = 1;
    let mut passes = BTreeSet::new();
    eventually("several passes", async || {
        version += 1;
        let behind: Vec<_> = (1..=20).map(|id| updated(id, version)).collect();
        for event in &behind {
            let changed = event.state().clone();
            api.users().insert(changed.id, changed);
        }
        let last = 300 + version;
        api.users().insert(last, state(last, 1));
        let gone = last - 10;
        if gone > 300 {
            api.users().remove(&gone);
        }
        let shown = verification(&service).await;
        world.publish_all(&behind).await;
        world.publish(&created(last)).await;
        if gone > 300 {
            world.publish(&deleted(gone, 2)).await;
        }
        if let Some(began) = shown["last_pass"]["began_at"].as_str() {
            assert_eq!(shown["last_pass"]["found"], 0, "{shown}");
            passes.insert(began.to_owned());
        }
        let has_looked_closely = !api.asked(1).is_empty();
        (passes.len() >= 3 && has_looked_closely).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn a_users_api_that_refuses_or_is_down_is_told_and_makes_nobody_unready() {
    let world = World::new().await;
    copy(&world, [state(1, 1)]).await;
    let (api, url) = UsersApi::serve([state(1, 1)]).await;
    api.accept_only("right");
    let mut wrong = config(&world, &url, ONCE, Duration::ZERO);
    wrong.verification.verify_users_token = Some("wrong".to_owned().into());
    let service = world.serve_with(wrong.clone()).await;
    let refused = "the user service refuses the token";
    assert_eq!(last_error(&service).await, refused);
    let shown = verification(&service).await.to_string();
    assert!(!shown.contains("127.0.0.1"), "{shown}");
    service.ready().await;
    assert_eq!(verification(&service).await["last_pass"], Value::Null);
    service.stop().await;

    let mut right = wrong;
    right.verification.verify_users_token = Some("right".to_owned().into());
    api.is_down.store(true, Ordering::Relaxed);
    let service = world.serve_with(right).await;
    eventually("another error", async || {
        let error = last_error(&service).await;
        (error == "the user service is overloaded or not available").then_some(())
    })
    .await;
    service.ready().await;
    api.is_down.store(false, Ordering::Relaxed);
    last_pass(&service).await;
    assert_eq!(verification(&service).await["last_error"], Value::Null);
    service.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for_without_end() {
    let world = World::new().await;
    copy(&world, [state(1, 1)]).await;
    let (api, url) = UsersApi::serve([state(1, 1)]).await;
    api.permits.forget_permits(1_000_000);
    let service = world
        .serve_with(config(&world, &url, ONCE, Duration::ZERO))
        .await;
    assert_eq!(
        last_error(&service).await,
        "the user service can't be reached, or does not answer in time"
    );
    service.ready().await;
    api.permits.add_permits(1_000_000);
    last_pass(&service).await;
    service.stop().await;
}

#[tokio::test]
async fn agreement_makes_up_for_events_that_were_missed_when_the_pass_began() {
    let world = World::new().await;
    let service = holes::missed_second(&world).await;
    service.stop().await;

    let (api, url) = UsersApi::serve([state(1, 1), state(2, 1)]).await;
    let every = Duration::from_secs(1);
    let service = Service::start(config(&world, &url, every, Duration::ZERO)).await;
    let pass = last_pass(&service).await;
    assert_eq!(differences(&pass), [(2, "missing".to_owned())]);
    assert_eq!(holes::holes(&service).await, [(2, 2)]);
    api.users().remove(&2);
    eventually("the holes to be forgotten", async || {
        holes::holes(&service).await.is_empty().then_some(())
    })
    .await;
    service.stop().await;
}
