//! Following the outbox, whatever is away meanwhile.

mod follower;

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use testkit::{Proxy, Service, eventually, nats, postgres};

use self::follower::{Follower, Message, STREAM};
use crate::support::{World, user};

/// The ids of the events in the ledger.
async fn ids(world: &World) -> Vec<i64> {
    sqlx::query_scalar("select id from outbox.event order by id")
        .fetch_all(&world.database.pool)
        .await
        .expect("ids")
}

impl World {
    /// Waits until the stream is read for those who follow: what is published then is told.
    async fn is_read(&self) {
        eventually("a consumer of the stream", async || {
            let state = self.stream().await.cached_info().state.clone();
            (state.consumer_count == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_written_is_told_and_then_that_it_is_published() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let mut follower = Follower::open(&api).await;
    world.is_read().await;
    let id = api.create().await;
    // Which is told first depends on who looked first.
    let [written, published] = follower.first_of(["written", "published"]).await;
    assert_eq!(written["aggregate_type"], "user");
    assert_eq!(written["aggregate_id"], id.to_string());
    assert_eq!(written["event_type"], "user_created");
    assert_eq!(written["version"], 1);
    for field in [
        "event_id",
        "outbox_id",
        "aggregate_type",
        "aggregate_id",
        "version",
    ] {
        assert_eq!(written[field], published[field], "{field}");
    }
    assert_eq!(published["stream"], world.topic.stream.as_str());
    assert_eq!(published["sequence"], 1);
    assert!(published["published_at"].as_str() >= published["written_at"].as_str());
    for event in [written, published] {
        let text = event.to_string();
        assert!(!text.contains("Ada") && !text.contains('@'), "{text}");
    }
    follower
        .until("nothing pending", |it| {
            let stream = &it.status["streams"][0];
            let is_saved = stream["pending"] == 0 && stream["sequence"] == 1;
            let is_well = it.status["postgres"] == "ok" && it.status["nats"] == "ok";
            let is_active = it.status["relay"]["active"] == true;
            is_saved && stream["last_sequence"] == 1 && is_well && is_active
        })
        .await;
    assert_eq!(follower.status["parked"], 0);
}

#[tokio::test]
async fn a_late_commit_with_a_lower_id_is_told() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let mut follower = Follower::open(&api).await;
    let mut open = world.database.pool.begin().await.expect("a transaction");
    let late: i64 = sqlx::query_scalar("select outbox.append('order', '1', 'placed', '{}')")
        .fetch_one(&mut *open)
        .await
        .expect("an id");
    api.create().await;
    follower.written([late + 1]).await;
    open.commit().await.expect("a commit");
    follower.written([late]).await;
}

#[tokio::test]
async fn with_the_relay_in_another_process_nothing_is_different_even_if_it_is_killed() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let mut follower = Follower::open(&api).await;
    api.create().await;
    follower.written([1]).await;
    follower
        .until("no relay", |it| it.status["relay"]["active"] == false)
        .await;
    assert_eq!(follower.status["streams"], Value::Array(vec![]));

    let mut relay = Service::start("user-service", &["relay"], &world.environment());
    // A stream that nobody knew of is read from its beginning.
    follower.published([1]).await;
    relay.process.kill();
    api.create().await;
    follower.written([2]).await;
    let _relay = Service::start("user-service", &["relay"], &world.environment());
    follower.published([2]).await;
    follower
        .until("an active relay", |it| it.status["relay"]["active"] == true)
        .await;
}

#[tokio::test]
async fn what_is_written_while_nats_is_away_is_told_and_published_once_it_is_back() {
    let mut server = nats::Server::start().await;
    let world = World::with_nats(server.url()).await;
    let api = world.serve(&[]).await;
    let mut follower = Follower::open(&api).await;
    world.is_read().await;
    // One that does not read holds up nobody.
    let _idle = api.get(STREAM).await;
    api.create().await;
    follower.published([1]).await;

    server.kill();
    follower.says("nats", "unavailable").await;
    for _ in 0..3 {
        api.create().await;
    }
    follower.written([2, 3, 4]).await;
    assert_eq!(follower.status["streams"][0]["last_sequence"], Value::Null);
    assert_eq!(follower.published, [1].into());

    server.restart().await;
    follower.published([2, 3, 4]).await;
    follower.says("nats", "ok").await;
}

#[tokio::test]
async fn a_silent_connection_to_nats_is_noticed_and_replaced() {
    let (world, proxy) = World::with_proxy_to_nats().await;
    let api = world.serve(&[]).await;
    let mut follower = Follower::open(&api).await;
    world.is_read().await;
    api.create().await;
    follower.published([1]).await;
    proxy.black_hole();
    api.create().await;
    follower.published([2]).await;
}

#[tokio::test]
async fn a_message_that_costs_the_client_its_connection_costs_the_feed_only_itself() {
    let server = nats::Server::start().await;
    let world = World::with_nats(server.url()).await;
    let api = world.serve(&[]).await;
    let mut follower = Follower::open(&api).await;
    world.is_read().await;
    api.create().await;
    follower.published([1]).await;
    let junk = b"NATS/1.0\r\nX: \xff\r\n\r\n";
    nats::publish_bytes(&server.url(), &world.topic.subject, junk, b"{}").await;
    // The first ones may be leapt over together with the junk.
    for _ in 0..40 {
        api.create().await;
        let last = ids(&world).await.into_iter().next_back();
        let last = last.expect("an event");
        let told = tokio::time::timeout(Duration::from_secs(3), follower.published([last])).await;
        if told.is_ok() {
            return;
        }
    }
    panic!("nothing is told any more");
}

#[tokio::test]
async fn the_feed_stays_open_without_postgres_and_goes_on_once_it_is_back() {
    let server = postgres::Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let mut world = World::new().await;
    world.database =
        postgres::Database::at(format!("postgres://postgres@{}/postgres", proxy.address()));
    let api = world.serve(&[]).await;
    let mut follower = Follower::open(&api).await;
    world.is_read().await;
    api.create().await;
    follower.published([1]).await;
    let has_sequence = |it: &Follower| it.status["streams"][0]["sequence"] == 1;
    follower.until("the cursor to be saved", has_sequence).await;
    proxy.cut();
    follower.says("postgres", "unavailable").await;
    assert_eq!(
        follower.status["streams"][0]["sequence"], 1,
        "the last known"
    );
    proxy.pass();
    follower.says("postgres", "ok").await;
    eventually("a user to be created again", async || {
        (api.post(&user("Ada")).await.status() == StatusCode::CREATED).then_some(())
    })
    .await;
    let last = ids(&world).await.into_iter().next_back();
    let last = last.expect("an event");
    follower.written([last]).await;
    follower.published([last]).await;
}

#[tokio::test]
async fn the_feed_opens_while_everything_is_away_and_says_so() {
    let (mut world, to_nats) = World::with_proxy_to_nats().await;
    let to_postgres = world.proxy_to_postgres().await;
    let api = world.serve(&["--no-relay"]).await;
    to_nats.cut();
    to_postgres.cut();
    let mut follower = Follower::open(&api).await;
    assert_eq!(follower.status["postgres"], "unavailable");
    assert_eq!(follower.status["nats"], "unavailable");
    assert_eq!(follower.status["relay"], Value::Null);
    to_postgres.pass();
    follower.says("postgres", "ok").await;
    assert_eq!(follower.status["nats"], "unavailable");
    to_nats.pass();
    follower.says("nats", "ok").await;
    while follower.written.is_empty() {
        api.create().await;
        let written = follower.until("an event", |it| !it.written.is_empty());
        // The ledger may not have been read yet when the first of them was written.
        let _ = tokio::time::timeout(Duration::from_secs(5), written).await;
    }
}

#[tokio::test]
async fn what_was_published_before_postgres_came_back_is_no_news() {
    let mut world = World::new().await;
    let to_postgres = world.proxy_to_postgres().await;
    let api = world.serve(&[]).await;
    for _ in 0..5 {
        api.create().await;
    }
    world.published(5).await;
    let old = ids(&world).await;
    to_postgres.cut();
    let mut follower = Follower::open(&api).await;
    assert_eq!(follower.status["postgres"], "unavailable");
    to_postgres.pass();
    follower.says("postgres", "ok").await;
    let is_told = |it: &Follower| !it.written.is_empty() && !it.published.is_empty();
    while !is_told(&follower) {
        api.create().await;
        // Neither may have been read yet when the first of them was written.
        let told = follower.until("an event", is_told);
        let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
    }
    assert!(follower.published.iter().all(|id| !old.contains(id)));
}

#[tokio::test]
async fn of_many_events_at_once_the_newest_are_told_and_the_others_counted() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let mut follower = Follower::open(&api).await;
    world.is_read().await;
    world
        .execute(
            "select outbox.append('user', n::text, 'user_created', '{}')
             from generate_series(1, 3000) as n",
        )
        .await;
    let last = *ids(&world).await.last().expect("an event");
    let mut seen = [(0, 0, false), (0, 0, false)];
    while !seen.iter().all(|(_, _, is_last)| *is_last) {
        let Message { event, data } = follower.next().await;
        let seen = match event.as_str() {
            "written" => &mut seen[0],
            "published" => &mut seen[1],
            _ => continue,
        };
        let events = data["events"].as_array().expect("events");
        assert!(events.len() <= 100, "{}", events.len());
        seen.0 += events.len() as u64;
        seen.1 += data["skipped"].as_u64().expect("a number");
        seen.2 |= events.iter().any(|it| it["outbox_id"] == last);
    }
    for (told, skipped, _) in seen {
        assert_eq!(told + skipped, 3000, "{told} told, {skipped} skipped");
    }
}

#[tokio::test]
async fn followers_are_limited_and_end_at_shutdown() {
    let world = World::new().await;
    let limits = ["--no-relay", "--max-outbox-followers-per-client", "2"];
    let mut api = world.serve(&limits).await;
    let mut followers = vec![Follower::open(&api).await, Follower::open(&api).await];
    let refused = api.get(STREAM).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(followers.pop());
    let mut other = eventually("a place", async || {
        let response = api.get(STREAM).await;
        (response.status() == StatusCode::OK).then_some(response)
    })
    .await;
    assert!(api.service.process.stop().await.success());
    let ended = async { while let Ok(Some(_)) = other.chunk().await {} };
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    ended.expect("the end of the feed");
}

#[tokio::test]
async fn nobody_who_listens_costs_nothing() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    api.create().await;
    world.published(1).await;
    let consumers = world.stream().await.cached_info().state.consumer_count;
    assert_eq!(consumers, 0);
    let mut follower = Follower::open(&api).await;
    world.is_read().await;
    api.create().await;
    follower.published([2]).await;
}
