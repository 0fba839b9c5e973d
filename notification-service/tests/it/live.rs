//! Following every change.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use testkit::{eventually, unique};

use crate::{
    events::{created, deleted, named, state, updated},
    fail_points::{self, Silence},
    support::{Service, World},
};

pub(crate) const STREAM: &str = "/notifications/stream";

impl World {
    /// A service that applies nothing: its events are others.
    pub(crate) async fn serve_nothing_but_reads(&self) -> Service {
        let mut config = self.config();
        config.projector.nats.stream = unique("OTHERS");
        config.projector.nats.subject = unique("others");
        self.serve_with(config).await
    }
}

/// Waits until a service has a change stream open, as it has once somebody listens.
pub(crate) async fn listening(world: &World) {
    let collection = world.collection();
    let namespace = collection.namespace().to_string();
    let admin = collection.client().database("admin");
    eventually("an open change stream", async || {
        let filter = doc! { "currentOp": 1, "ns": &namespace, "op": "getmore" };
        let operations = admin.run_command(filter).await.ok()?;
        let operations = operations.get_array("inprog").ok()?;
        (!operations.is_empty()).then_some(())
    })
    .await;
}

pub(crate) struct Event {
    id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// What a browser's `EventSource` does.
pub(crate) struct Follower {
    response: reqwest::Response,
    buffer: String,
}

impl Follower {
    pub(crate) async fn open(service: &Service) -> Self {
        let mut follower = Self::of(service, STREAM).await;
        assert_eq!(follower.next().await.event, "ready");
        follower
    }

    /// Of any feed, with nothing read yet.
    pub(crate) async fn of(service: &Service, path: &str) -> Self {
        Self::new(service.answered(path).await)
    }

    async fn resume(service: &Service, last: &str) -> Self {
        eventually("a turn", async || {
            let response = service.get_with(STREAM, "last-event-id", last).await;
            (response.status() == 200).then(|| Self::new(response))
        })
        .await
    }

    pub(crate) fn new(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            buffer: String::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Event {
        self.next_if_any().await.expect("the stream goes on")
    }

    /// `None` at the end of the stream.
    pub(crate) async fn next_if_any(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.buffer = rest;
                if event.starts_with(':') {
                    continue;
                }
                return Some(parse(&event));
            }
            let chunk = self.response.chunk();
            let chunk = tokio::time::timeout(Duration::from_secs(60), chunk).await;
            let chunk = chunk.expect("an event in time").expect("a whole body")?;
            self.buffer.push_str(str::from_utf8(&chunk).expect("UTF-8"));
        }
    }
}

fn parse(event: &str) -> Event {
    let field = |name: &str| {
        let values = event.lines().find_map(|line| line.strip_prefix(name));
        values.map(|value| value.trim_start_matches(": ").to_owned())
    };
    Event {
        id: field("id").unwrap_or_default(),
        event: field("event").expect("a name"),
        data: serde_json::from_str(&field("data").expect("data")).expect("JSON"),
    }
}

#[tokio::test]
async fn every_change_is_told_whichever_service_applied_it() {
    let world = World::new().await;
    let applying = world.serve().await;
    let reading = world.serve_nothing_but_reads().await;
    let mut follower = Follower::open(&reading).await;

    for event in [created(1), updated(1, 2), deleted(1, 3)] {
        world.publish(&event).await;
        world.settled().await;
    }

    let (first, second, third) = (
        follower.next().await,
        follower.next().await,
        follower.next().await,
    );
    let ada = state(1, 2);
    assert_eq!(
        (first.event.as_str(), &first.data["user_id"]),
        ("changed", &json!(1))
    );
    assert_eq!(third.event, "deleted");
    assert_eq!(third.data, json!({ "user_id": 1, "version": 3 }));
    assert!(first.id < second.id && second.id < third.id);
    // The document is looked up, so that it may be newer than the change.
    if second.event == "changed" {
        assert_eq!(second.data["name"], ada.name);
        assert_eq!(second.data["email"], ada.email);
    }
    applying.stop().await;
    reading.stop().await;
}

#[tokio::test]
async fn a_follower_resumes_without_gap_and_without_repeat_while_writes_go_on() {
    const USERS: i64 = 3_000;
    let world = World::new().await;
    let service = world.serve().await;
    let opened = Follower::of(&service, STREAM).await.next().await;

    let writing = async {
        for id in 1..=USERS {
            world.publish(&created(id)).await;
        }
    };
    let following = async {
        let (mut last, mut seen) = (opened.id, Vec::new());
        // Each connection is given up after another number of events.
        for length in (1..).map(|round| round * 37) {
            let mut follower = Follower::resume(&service, &last).await;
            assert_eq!(follower.next().await.event, "ready");
            for _ in 0..length {
                let event = follower.next().await;
                assert_eq!(event.event, "changed");
                seen.push(event.data["user_id"].as_i64().expect("an id"));
                last = event.id;
                if seen.len() == 3_000 {
                    return seen;
                }
            }
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, following);
    let distinct: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len(), "no repeat");
    assert_eq!(distinct, (1..=USERS).collect());
    service.stop().await;
}

#[tokio::test]
async fn a_follower_that_comes_back_late_catches_up_and_goes_on() {
    let world = World::new().await;
    let service = world.serve().await;
    let opened = Follower::of(&service, STREAM).await.next().await;
    world.publish_all(&[created(1), created(2)]).await;
    world.settled().await;

    let mut follower = Follower::resume(&service, &opened.id).await;
    assert_eq!(follower.next().await.event, "ready");
    let mut missed = BTreeSet::new();
    for _ in 1..=2 {
        missed.insert(follower.next().await.data["user_id"].as_i64());
    }
    assert_eq!(missed, BTreeSet::from([Some(1), Some(2)]));
    for id in 3..=20 {
        world.publish(&created(id)).await;
        assert_eq!(follower.next().await.data["user_id"], id);
    }
    service.stop().await;
}

/// More at once than take turns in catching up, and MongoDB leaves many of their questions unanswered.
#[tokio::test]
async fn followers_that_return_at_once_hold_up_no_reads() {
    const FOLLOWERS: usize = 40;
    const UNANSWERED: i32 = 20;
    let (_mongodb, world) = fail_points::world().await;
    let mut config = world.config();
    config.limits.max_followers_per_client = 256;
    let service = world.serve_with(config).await;
    let opened = Follower::of(&service, STREAM).await.next().await;
    world.publish_all(&[created(1), created(2)]).await;
    world.settled().await;
    let silence = Silence::begin(&world, "aggregate", UNANSWERED, None).await;

    let returning = (0..FOLLOWERS).map(async |_| {
        eventually("what was missed, or a reset", async || {
            let response = service.get_with(STREAM, "last-event-id", &opened.id).await;
            let mut follower = (response.status() == 200).then(|| Follower::new(response))?;
            let mut missed = BTreeSet::from([Some(1), Some(2)]);
            while !missed.is_empty() {
                // At the end of the stream it comes again.
                let Event { event, data, .. } = follower.next_if_any().await?;
                match event.as_str() {
                    "ready" => {}
                    "reset" => break,
                    _ => assert!(missed.remove(&data["user_id"].as_i64()), "{data}"),
                }
            }
            Some(follower)
        })
        .await
    });
    let returned = futures::future::join_all(returning);
    let reading = async {
        loop {
            service.ready().await;
            for path in ["/notifications", "/notifications/user/1"] {
                assert_eq!(service.get(path).await.status(), 200, "{path}");
            }
        }
    };
    let (mut followers, ()) = tokio::select! {
        both = futures::future::join(returned, silence.has_met(UNANSWERED)) => both,
        () = reading => unreachable!("it goes on"),
    };
    world.publish(&created(3)).await;
    for follower in &mut followers {
        while follower.next().await.data["user_id"] != 3 {}
    }
    service.stop().await;
}

/// It takes several turns, and does not keep others from theirs while it does not read.
#[tokio::test]
async fn followers_that_do_not_read_what_they_missed_keep_nobody_from_catching_up() {
    const USERS: i64 = 600;
    let world = World::new().await;
    let service = world.serve().await;
    let opened = Follower::of(&service, STREAM).await.next().await;
    let long = "x".repeat(20_000);
    let events: Vec<_> = (1..=USERS).map(|id| named(id, 1, &long)).collect();
    world.publish_all(&events).await;
    world.settled().await;

    let mut idle = Vec::new();
    for _ in 0..20 {
        let follower = eventually("a turn", async || {
            let response = service.get_with(STREAM, "last-event-id", &opened.id).await;
            (response.status() == 200).then_some(response)
        });
        idle.push(follower.await);
    }
    let mut follower = Follower::resume(&service, &opened.id).await;
    assert_eq!(follower.next().await.event, "ready");
    for _ in 1..=USERS {
        assert_eq!(follower.next().await.event, "changed");
    }
    drop(idle);
    service.stop().await;
}

#[tokio::test]
async fn a_place_that_is_not_known_is_a_reset() {
    let world = World::new().await;
    let service = world.serve().await;
    let known = Follower::of(&service, STREAM).await.next().await.id;
    let lower_case = known.to_lowercase();
    // Of a server that is ahead of this one, or was before it was restored.
    let future = format!("82F{}", &known[3..]);
    // As of years ago, never one, and not even like one.
    let old = "82500000000000000129295A1004";
    let places = [old, "00", "junk", &lower_case, &future];
    for (id, last) in (1..).zip(places) {
        let mut follower = Follower::resume(&service, last).await;
        assert_eq!(follower.next().await.event, "reset", "{last}");
        world.publish(&created(id)).await;
        assert_eq!(follower.next().await.data["user_id"], id);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_slow_follower_is_told_that_it_missed_something() {
    let world = World::new().await;
    let mut config = world.config();
    // It is to be slow for as long as the events take, without being cut for it.
    config.http.connections.write_timeout = Duration::from_hours(1);
    let service = world.serve_with(config).await;
    let mut slow = Follower::open(&service).await;

    // More than what fits into the sockets' buffers and the queue.
    let long = "x".repeat(20_000);
    let events: Vec<_> = (1..=2_500).map(|id| named(id, 1, &long)).collect();
    for events in events.chunks(250) {
        world.publish_all(events).await;
        world.settled().await;
    }
    passed_on(&world, &service).await;

    while slow.next().await.event != "reset" {}
    world.publish(&created(4_000)).await;
    loop {
        let event = slow.next().await;
        if event.data["user_id"] == 4_000 {
            break;
        }
    }
    service.stop().await;
}

/// Waits until followers have been sent all that was applied before.
async fn passed_on(world: &World, service: &Service) {
    const MARKER: i64 = 3_000;
    let mut follower = Follower::open(service).await;
    let mut version = 1;
    world.publish(&updated(MARKER, version)).await;
    loop {
        let event = follower.next().await;
        if event.event == "reset" {
            // The marker may have been among what it missed.
            version += 1;
            world.publish(&updated(MARKER, version)).await;
        } else if event.data["user_id"] == MARKER {
            return;
        }
    }
}

#[tokio::test]
async fn a_broken_change_stream_is_resumed_where_it_was() {
    let world = World::new().await;
    let applying = world.serve().await;
    let (proxy, reading) = crate::outages::serve_behind_proxy(&world).await;
    let mut follower = Follower::open(&reading).await;
    world.publish(&created(1)).await;
    assert_eq!(follower.next().await.data["user_id"], 1);

    proxy.cut();
    world.publish_all(&[created(2), created(3)]).await;
    eventually("both", async || {
        Some((world.version(2).await?, world.version(3).await?))
    })
    .await;
    proxy.pass();
    // One batch may apply them in any order.
    let mut seen = BTreeSet::new();
    for _ in 2..=3 {
        let event = follower.next().await;
        assert_eq!(event.event, "changed");
        seen.insert(event.data["user_id"].as_i64());
    }
    assert_eq!(seen, BTreeSet::from([Some(2), Some(3)]));
    applying.stop().await;
    reading.stop().await;
}

/// As on a server with a long oplog, of which the follower has missed most.
#[tokio::test]
async fn a_place_that_mongodb_does_not_reach_in_time_is_a_reset() {
    let (_mongodb, world) = fail_points::world().await;
    let service = world.serve().await;
    let place = Follower::of(&service, STREAM).await.next().await.id;
    let mut other = Follower::open(&service).await;
    world.publish(&created(1)).await;
    assert_eq!(other.next().await.data["user_id"], 1);

    Silence::begin(&world, "aggregate", 1, None).await;
    let mut follower = Follower::resume(&service, &place).await;
    assert_eq!(follower.next().await.event, "reset");
    world.publish(&created(2)).await;
    assert_eq!(follower.next().await.data["user_id"], 2);
    service.stop().await;
}

/// Heartbeats go on: only the connection of the change stream is silent.
#[tokio::test]
async fn a_change_stream_that_gets_no_answer_is_opened_again_where_it_was() {
    let (_mongodb, world) = fail_points::world().await;
    let service = world.serve().await;
    let mut follower = Follower::open(&service).await;
    world.publish(&created(1)).await;
    assert_eq!(follower.next().await.data["user_id"], 1);

    let silence = Silence::begin(&world, "getMore", 1, None).await;
    silence.has_met(1).await;
    world.publish(&created(2)).await;
    assert_eq!(follower.next().await.data["user_id"], 2);
    service.stop().await;
}

#[tokio::test]
async fn a_copy_that_was_replaced_is_a_reset() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut follower = Follower::open(&service).await;
    world.publish(&created(1)).await;
    assert_eq!(follower.next().await.event, "changed");
    let dropped = world.database.collection("user_notifications").drop().await;
    dropped.expect("dropped");
    assert_eq!(follower.next().await.event, "reset");
    let inserted: Document = doc! { "_id": 7_i64, "user_id": 7_i64, "version": 1_i64,
    "name": "Ada", "email": "ada@example.com", "updated_at": mongodb::bson::DateTime::now() };
    world
        .collection()
        .insert_one(inserted)
        .await
        .expect("inserted");
    assert_eq!(follower.next().await.data["user_id"], 7);
    service.stop().await;
}

#[tokio::test]
async fn followers_do_not_hold_up_the_end() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut follower = Follower::open(&service).await;
    let started = Instant::now();
    service.stop().await;
    assert!(started.elapsed() < Duration::from_secs(15));
    assert!(follower.next_if_any().await.is_none());
}

/// A proxy would take a silent connection for dead.
#[tokio::test]
async fn a_follower_hears_something_even_if_nothing_changes() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut follower = Follower::open(&service).await;
    follower.buffer.clear();
    let heard = tokio::time::timeout(Duration::from_secs(60), follower.response.chunk()).await;
    let heard = heard.expect("a sign of life").expect("a whole body");
    assert_eq!(heard.as_deref(), Some(&b":\n\n"[..]));
    service.stop().await;
}

#[tokio::test]
async fn followers_are_bounded_and_one_that_leaves_makes_room() {
    const MAX_FOLLOWERS: usize = 256;
    let world = World::new().await;
    let service = world.serve().await;
    let mut followers = Vec::new();
    for _ in 0..MAX_FOLLOWERS {
        followers.push(Follower::open(&service).await);
    }
    let refused = service.get(STREAM).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    service.answered("/notifications").await;

    followers.pop();
    eventually("room for another", async || {
        let response = service.get(STREAM).await;
        (response.status() == 200).then_some(())
    })
    .await;
    world.publish(&created(1)).await;
    for follower in &mut followers {
        assert_eq!(follower.next().await.event, "changed");
    }
    service.stop().await;
}

#[tokio::test]
async fn followers_of_one_client_leave_room_for_others() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.max_followers = 3;
    config.limits.max_followers_per_client = 2;
    let service = world.serve_with(config).await;
    let mut followers = Vec::new();
    for _ in 0..2 {
        followers.push(Follower::open(&service).await);
    }
    assert_eq!(service.get(STREAM).await.status(), 429);
    let mut other = eventually("a place for another client", async || {
        let response = service.get_from(2, STREAM).await;
        (response.status() == 200).then(|| Follower::new(response))
    })
    .await;
    assert_eq!(other.next().await.event, "ready");
    assert_eq!(service.get_from(3, STREAM).await.status(), 503);
    service.stop().await;
}
