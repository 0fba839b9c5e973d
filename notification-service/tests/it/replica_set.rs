//! Elections, rollbacks and members that are behind.

use std::{collections::BTreeMap, time::Duration};

use mongodb::{
    Collection,
    bson::{DateTime, Document, doc},
    options::{Acknowledgment, WriteConcern},
};
use serde_json::Value;
use testkit::{
    eventually,
    mongodb::{Database, ReplicaSet},
};

use crate::{
    events::{created, updated},
    live::{Follower, listening},
    support::{Service, World},
};

/// What weakens reads and writes that say nothing themselves.
const WEAK: &str = "&w=1&journal=false&readConcernLevel=local";

async fn world(set: &ReplicaSet) -> World {
    let mut world = World::new().await;
    world.database = Database::create_at(set.uri()).await;
    world
}

/// Reads where nothing else is said go to this member.
async fn serve_preferring(world: &World, member: usize) -> Service {
    let mut config = world.config();
    let tags = format!("&readPreference=secondary&readPreferenceTags=member:{member}");
    let uri = format!("{}{WEAK}{tags}", world.database.uri);
    config.mongo.mongodb_uri = uri.parse().expect("a URI");
    world.serve_with(config).await
}

async fn version(service: &Service, path: &str) -> Option<i64> {
    let response = service.get(path).await;
    let body: Value = response.json().await.ok()?;
    body["version"].as_i64()
}

async fn is_ready(service: &Service) -> bool {
    service.get("/readyz").await.status() == 200
}

#[tokio::test]
async fn a_version_is_found_though_the_member_that_the_uri_prefers_is_behind() {
    let set = ReplicaSet::start().await;
    let world = world(&set).await;
    let behind = set.secondaries().await[0];
    let service = serve_preferring(&world, behind).await;
    world.publish(&created(1)).await;
    eventually("the user on the member", async || {
        (version(&service, "/notifications/user/1").await == Some(1)).then_some(())
    })
    .await;
    let admin = set.admin(set.primary().await).await;
    let reads_before = reads(&admin).await;

    set.stop_replication(behind).await;
    let path = "/notifications/user/1?min_version=2&wait=5s";
    // Who has waited in vain asks again: a majority without this member may take its time.
    let waiting = eventually("the version", async || version(&service, path).await);
    let (waited, ()) = tokio::join!(waiting, async {
        listening(&world).await;
        world.publish(&updated(1, 2)).await;
    });
    assert_eq!(waited, 2);
    world.settled().await;
    let named = version(&service, "/notifications/user/1?min_version=2").await;
    assert_eq!(named, Some(2));
    let preferred = version(&service, "/notifications/user/1").await;
    assert_eq!(preferred, Some(1), "the member is behind");
    let latest = service.get_with("/notifications", "cache-control", "no-cache");
    let latest: Value = latest.await.json().await.expect("JSON");
    assert_eq!(latest[0]["version"], 2);
    // The position of the consumer is read as well, once a second.
    let reads = reads(&admin).await - reads_before;
    assert!(reads < 100, "{reads} reads");

    set.resume_replication(behind).await;
    service.stop().await;
}

/// How often anything was searched for since the server began.
async fn reads(admin: &mongodb::Database) -> i64 {
    let status = admin.run_command(doc! { "serverStatus": 1 }).await;
    let status = status.expect("a status");
    let counters = status.get_document("opcounters").expect("counters");
    let reads = counters.get("query").expect("a counter");
    reads
        .as_i64()
        .or(reads.as_i32().map(i64::from))
        .expect("a number")
}

#[tokio::test]
async fn nothing_is_shown_that_an_election_rolls_back() {
    let mut set = ReplicaSet::start().await;
    let world = world(&set).await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;
    let mut follower = Follower::open(&service).await;

    let (former, secondaries) = (set.primary().await, set.secondaries().await);
    // For ten seconds the primary does not give up.
    for member in &secondaries {
        set.kill(*member);
    }
    let unconfirmed = of_one_member(&world.collection());
    let user = |id: i64, version: i64| {
        doc! {
            "_id": id, "user_id": id, "name": "Eve", "email": format!("eve{id}@example.com"),
            "updated_at": DateTime::now(), "version": version,
        }
    };
    let inserted = unconfirmed.insert_one(user(7, 1)).await;
    inserted.expect("a write to the primary");
    let replaced = unconfirmed.replace_one(doc! { "_id": 1_i64 }, user(1, 9));
    replaced.await.expect("a write to the primary");
    for no_cache in ["", "no-cache"] {
        let get = async |path| service.get_with(path, "cache-control", no_cache).await;
        assert_eq!(get("/notifications/user/7").await.status(), 404);
        let one: Value = get("/notifications/user/1")
            .await
            .json()
            .await
            .expect("JSON");
        assert_eq!(one["version"], 1);
        let listed: Value = get("/notifications").await.json().await.expect("JSON");
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    }
    let waited = service.get("/notifications/user/7?wait=100ms").await;
    assert_eq!(waited.status(), 503);

    set.kill(former);
    for member in &secondaries {
        set.restart(*member);
    }
    set.primary().await;
    set.restart(former);
    set.healthy().await;
    eventually("a service that is ready", async || {
        is_ready(&service).await.then_some(())
    })
    .await;
    world.publish(&updated(1, 2)).await;
    let told = follower.next().await;
    assert_eq!(told.data["version"], 2, "{}", told.data);
    world.settled().await;
    assert_eq!(version(&service, "/notifications/user/1").await, Some(2));
    assert_eq!(service.get("/notifications/user/7").await.status(), 404);
    service.stop().await;
}

fn of_one_member(collection: &Collection<Document>) -> Collection<Document> {
    let options = mongodb::options::CollectionOptions::builder()
        .write_concern(WriteConcern::builder().w(Acknowledgment::Nodes(1)).build())
        .build();
    let database = collection.client().database(&collection.namespace().db);
    database.collection_with_options(collection.name(), options)
}

#[tokio::test]
async fn elections_under_load_lose_no_event_and_followers_miss_none() {
    const USERS: i64 = 20;
    const VERSIONS: i64 = 60;
    let mut set = ReplicaSet::start().await;
    let world = world(&set).await;
    let mut config = world.config();
    let weak = format!(
        "{}{WEAK}&readPreference=secondaryPreferred",
        world.database.uri
    );
    config.mongo.mongodb_uri = weak.parse().expect("a URI");
    config.projector.ack_wait = Duration::from_secs(2);
    let service = world.serve_with(config).await;
    let mut follower = Follower::open(&service).await;

    let writing = async {
        for version in 1..=VERSIONS {
            let events: Vec<_> = (1..=USERS).map(|id| updated(id, version)).collect();
            world.publish_all(&events).await;
            let waited = format!("/notifications/user/1?min_version={version}&wait=5s");
            eventually("the version", async || {
                (service.get(&waited).await.status() == 200).then_some(())
            })
            .await;
        }
    };
    let electing = async {
        for _ in 0..2 {
            set.step_down().await;
            set.healthy().await;
        }
        let primary = set.primary().await;
        set.kill(primary);
        set.primary().await;
        set.restart(primary);
        set.healthy().await;
    };
    let following = async {
        let mut last = BTreeMap::new();
        while last.len() < usize::try_from(USERS).expect("a small number")
            || last.values().any(|version| *version < VERSIONS)
        {
            let told = follower.next().await;
            assert_eq!(told.event, "changed");
            let number = |name| told.data[name].as_i64().expect("a number");
            let before = last.insert(number("user_id"), number("version"));
            assert!(before <= Some(number("version")), "a user went back");
        }
    };
    tokio::join!(writing, electing, following);
    world.settled().await;
    let complete = world.count(doc! { "version": VERSIONS }).await;
    assert_eq!(i64::try_from(complete), Ok(USERS));
    eventually("a service that is ready", async || {
        is_ready(&service).await.then_some(())
    })
    .await;
    service.stop().await;
}

/// The change stream stays with its member when another is elected.
#[tokio::test]
async fn a_member_that_is_followed_and_falls_behind_is_left() {
    let set = ReplicaSet::start().await;
    let world = world(&set).await;
    let service = world.serve().await;
    let mut follower = Follower::open(&service).await;
    world.publish(&created(1)).await;
    assert_eq!(follower.next().await.data["user_id"], 1);
    let former = set.primary().await;
    set.step_down().await;
    set.healthy().await;
    world.publish(&created(2)).await;
    assert_eq!(follower.next().await.data["user_id"], 2);
    set.stop_replication(former).await;
    world.publish(&created(3)).await;
    assert_eq!(follower.next().await.data["user_id"], 3);
    set.resume_replication(former).await;
    service.stop().await;
}

#[tokio::test]
async fn without_a_primary_it_is_not_ready_and_recovers() {
    let mut set = ReplicaSet::start().await;
    let world = world(&set).await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;
    let secondaries = set.secondaries().await;
    for member in &secondaries {
        set.kill(*member);
    }
    eventually("a service that says so", async || {
        let ready: Value = service.get("/readyz").await.json().await.ok()?;
        // The last primary answers until it has noticed.
        let read = service.get("/notifications/user/1?min_version=1").await;
        (ready["checks"]["mongodb"] == "failed" && read.status() == 503).then_some(())
    })
    .await;
    world.publish(&updated(1, 2)).await;
    for member in secondaries {
        set.restart(member);
    }
    set.healthy().await;
    world.settled().await;
    eventually("a service that is ready", async || {
        is_ready(&service).await.then_some(())
    })
    .await;
    assert_eq!(version(&service, "/notifications/user/1").await, Some(2));
    service.stop().await;
}

/// It compares collections and keeps a lease, neither of which a member that is behind can do.
#[tokio::test]
async fn a_rebuild_is_right_though_the_member_that_the_uri_prefers_is_behind() {
    let set = ReplicaSet::start().await;
    let world = world(&set).await;
    let service = world.serve().await;
    world.publish_all(&[created(1), created(2)]).await;
    world.settled().await;
    world.complete_from(1).await;
    let behind = set.secondaries().await[0];
    set.stop_replication(behind).await;
    world.publish(&updated(1, 2)).await;
    world.settled().await;
    let lost = world.collection().delete_one(doc! { "_id": 2_i64 }).await;
    assert_eq!(lost.expect("a deletion").deleted_count, 1);

    let tags = format!("&readPreference=secondary&readPreferenceTags=member:{behind}");
    let uri = format!("{}{WEAK}{tags}", world.database.uri);
    let arguments = [
        "--mongodb-uri",
        &uri,
        "--mongodb-database",
        &world.database.name,
    ];
    let (done, output) = world.run(&[&["rebuild"], &arguments[..]].concat()).await;
    assert!(done, "{output}");
    assert_eq!(world.version(1).await, Some(2));
    assert_eq!(world.version(2).await, Some(1));
    set.resume_replication(behind).await;
    service.stop().await;
}
