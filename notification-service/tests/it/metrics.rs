//! What Prometheus is told.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::HeaderMap;
use testkit::{Service as Process, eventually};

use crate::{
    consumer::status,
    dead_letters::publish_bytes,
    events::{created, state, updated},
    live::Follower,
    outages::serve_behind_proxy,
    support::{Service, World},
    users_api::UsersApi,
};

/// One answer of `/metrics`.
pub(crate) struct Scrape(String);

impl Scrape {
    pub(crate) async fn of(url: &str) -> Self {
        let response = reqwest::get(format!("{url}/metrics")).await;
        let response = response.expect("a response");
        assert_eq!(response.status(), 200);
        Self(response.text().await.expect("a body"))
    }

    /// The value of a series, named with its labels as Prometheus writes them.
    pub(crate) fn value(&self, series: &str) -> f64 {
        let lines = self.0.lines();
        let value = lines.filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let mut values = value.map(|value| value.parse().expect("a number"));
        let value = values.next();
        value.unwrap_or_else(|| panic!("no {series} in {}", self.0))
    }
}

/// Of the consumer of a world.
struct Consumer<'a>(&'a World);

impl Consumer<'_> {
    fn value(&self, scrape: &Scrape, metric: &str) -> f64 {
        scrape.value(&format!("{metric}{{consumer=\"{}\"}}", self.0.consumer))
    }

    fn messages(&self, scrape: &Scrape, verdict: &str) -> f64 {
        let consumer = &self.0.consumer;
        scrape.value(&format!(
            "consumer_messages_total{{consumer=\"{consumer}\",verdict=\"{verdict}\"}}"
        ))
    }
}

async fn scrape(service: &Service) -> Scrape {
    Scrape::of(&service.url()).await
}

fn events(scrape: &Scrape, outcome: &str) -> f64 {
    scrape.value(&format!("projection_events_total{{outcome=\"{outcome}\"}}"))
}

#[tokio::test]
async fn while_mongodb_is_away_the_lag_and_the_backlog_grow_and_the_checks_fail() {
    let world = World::new().await;
    let consumer = Consumer(&world);
    let (proxy, service) = serve_behind_proxy(&world).await;
    world.publish(&created(1)).await;
    world.settled().await;
    eventually("nothing to wait for, and a check that passes", async || {
        let scrape = scrape(&service).await;
        let floor = consumer.value(&scrape, "consumer_ack_floor_sequence");
        let lag = consumer.value(&scrape, "consumer_lag_seconds");
        let is_ready = scrape.value("readiness_check{check=\"mongodb\"}");
        (floor == 1.0 && lag == 0.0 && is_ready == 1.0).then_some(())
    })
    .await;
    let before = scrape(&service).await;
    assert_eq!(consumer.messages(&before, "acknowledged"), 1.0);
    assert_eq!(consumer.messages(&before, "retried"), 0.0);

    proxy.cut();
    world
        .publish_all(&[updated(1, 2), created(2), created(3)])
        .await;
    let away = eventually("a lag, a backlog and checks that fail", async || {
        let scrape = scrape(&service).await;
        let waiting = consumer.value(&scrape, "consumer_pending_messages")
            + consumer.value(&scrape, "consumer_unacknowledged_messages");
        let is_ready = |check| scrape.value(&format!("readiness_check{{check=\"{check}\"}}"));
        let lag = consumer.value(&scrape, "consumer_lag_seconds");
        let fails = is_ready("mongodb") + is_ready("projector") == 0.0;
        (lag > 0.5 && waiting == 3.0 && fails).then_some(scrape)
    })
    .await;
    let lag = consumer.value(&away, "consumer_lag_seconds");
    eventually("more of it", async || {
        let scrape = scrape(&service).await;
        let has_grown = consumer.value(&scrape, "consumer_lag_seconds") > lag + 1.0;
        (has_grown && consumer.messages(&scrape, "retried") >= 3.0).then_some(())
    })
    .await;

    proxy.pass();
    world.settled().await;
    let after = eventually("the backlog to be gone", async || {
        let scrape = scrape(&service).await;
        let unacknowledged = consumer.value(&scrape, "consumer_unacknowledged_messages");
        let lag = consumer.value(&scrape, "consumer_lag_seconds");
        (unacknowledged == 0.0 && lag == 0.0).then_some(scrape)
    })
    .await;
    assert_eq!(consumer.messages(&after, "acknowledged"), 4.0);
    assert!(consumer.value(&after, "consumer_redelivered_total") >= 3.0);
    let count = consumer.value(&after, "consumer_published_to_handled_seconds_count");
    assert_eq!(count, 4.0);
    assert_eq!(
        events(&after, "applied") + events(&after, "superseded"),
        4.0
    );
    service.stop().await;
}

#[tokio::test]
async fn poison_counts_as_dead_lettered_and_waits_until_it_is_discarded() {
    let world = World::new().await;
    let consumer = Consumer(&world);
    let mut config = world.config();
    config.projector.ack_wait = Duration::from_secs(10);
    let service = world.serve_with(config).await;
    let first = scrape(&service).await;
    assert_eq!(consumer.messages(&first, "dead_lettered"), 0.0);
    world.publish_raw(HeaderMap::new(), b"poison").await;
    publish_bytes(&world, b"NATS/1.0\r\nX: \xff\r\n\r\n", b"poison").await;
    world.settled().await;
    let dead_letters = async |count: f64| {
        eventually("the dead letters", async || {
            let scrape = scrape(&service).await;
            let waiting = consumer.value(&scrape, "consumer_dead_letters");
            (waiting == count).then_some(scrape)
        })
        .await
    };
    let scrape = dead_letters(2.0).await;
    assert_eq!(consumer.messages(&scrape, "dead_lettered"), 2.0);
    for letter in ["1", "2"] {
        let discard = ["dead-letters", "discard", letter, "--yes"];
        assert!(world.run(&discard).await.0);
    }
    let scrape = dead_letters(0.0).await;
    assert_eq!(consumer.messages(&scrape, "dead_lettered"), 2.0);
    service.stop().await;
}

/// The consumer's position is lost, so that all is delivered again.
#[tokio::test]
async fn a_replay_of_the_stream_counts_as_stale() {
    let world = World::new().await;
    let service = world.serve().await;
    for version in 1..=3 {
        world.publish(&updated(1, version)).await;
        world.settled().await;
    }
    world.publish_all(&[created(2), created(3)]).await;
    world.settled().await;
    let before = scrape(&service).await;
    assert_eq!(
        events(&before, "applied") + events(&before, "superseded"),
        5.0
    );
    assert_eq!(events(&before, "stale"), 0.0);

    let stream = world.stream().await;
    stream
        .delete_consumer(&world.consumer)
        .await
        .expect("deleted");
    eventually("all of them, once more", async || {
        let scrape = scrape(&service).await;
        let again = events(&scrape, "stale") + events(&scrape, "superseded");
        (again - events(&before, "superseded") == 5.0).then_some(())
    })
    .await;
    let after = scrape(&service).await;
    assert_eq!(events(&after, "applied"), events(&before, "applied"));
    service.stop().await;
}

#[tokio::test]
async fn what_processes_that_share_a_consumer_count_adds_up() {
    const EVENTS: i64 = 3_000;
    let world = World::new().await;
    let consumer = Consumer(&world);
    // None is to be delivered twice because a process was held up.
    let patient = [("ACK_WAIT", "1m".to_owned())];
    let environment = [&world.environment()[..], &patient].concat();
    let start = || Process::start("notification-service", &["serve"], &environment);
    let processes = [start(), start()];
    let urls = [processes[0].url().await, processes[1].url().await];
    for url in &urls {
        eventually("a process that is ready", async || {
            let ready = reqwest::get(format!("{url}/readyz")).await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
    }
    let users: Vec<_> = (1..=EVENTS).map(created).collect();
    for users in users.chunks(500) {
        world.publish_all(users).await;
    }
    world.settled().await;

    let sum = async |metric: &dyn Fn(&Scrape) -> f64| {
        metric(&Scrape::of(&urls[0]).await) + metric(&Scrape::of(&urls[1]).await)
    };
    let durations = "consumer_published_to_handled_seconds_count";
    let all_counted = async |what: &str, metric: &dyn Fn(&Scrape) -> f64| {
        eventually(what, async || {
            (sum(metric).await == EVENTS as f64).then_some(())
        })
        .await;
    };
    let acknowledged = |scrape: &Scrape| consumer.messages(scrape, "acknowledged");
    all_counted("all as acknowledged", &acknowledged).await;
    all_counted("all as applied", &|scrape| events(scrape, "applied")).await;
    let measured = |scrape: &Scrape| consumer.value(scrape, durations);
    all_counted("all as measured", &measured).await;
    let redelivered = sum(&|scrape| consumer.value(scrape, "consumer_redelivered_total")).await;
    assert_eq!(redelivered, 0.0);
    for url in &urls {
        eventually("the floor", async || {
            let floor = "consumer_ack_floor_sequence";
            let floor = consumer.value(&Scrape::of(url).await, floor);
            (floor == EVENTS as f64).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_verification_tells_its_age_its_differences_and_its_failures() {
    let world = World::new().await;
    let without = world.serve().await;
    let nothing = scrape(&without).await;
    assert!(nothing.value("verification_age_seconds").is_nan());
    assert!(nothing.value("verification_differences").is_nan());
    without.stop().await;

    let (api, url) = UsersApi::serve([state(1, 1), state(2, 1)]).await;
    api.is_down.store(true, Ordering::Relaxed);
    let mut config = world.config();
    config.verification.verify_users = Some(url);
    config.verification.verify_every = Duration::from_secs(1);
    let service = world.serve_with(config).await;
    eventually("a failure, and an age without a pass", async || {
        let scrape = scrape(&service).await;
        let failures = scrape.value("verification_failures_total");
        (failures > 0.0 && scrape.value("verification_age_seconds") > 0.0).then_some(())
    })
    .await;
    api.is_down.store(false, Ordering::Relaxed);
    let differing = eventually("the differences", async || {
        let scrape = scrape(&service).await;
        (scrape.value("verification_differences") == 2.0).then_some(scrape)
    })
    .await;
    assert!(differing.value("verification_age_seconds") < 3_600.0);
    let mut follower = Follower::of(&service, "/consumer/stream").await;
    let told = status(&mut follower, |status| status["differences"] == 2).await;
    assert!(told["last_verified_at"].is_string(), "{told}");
    world.publish_all(&[created(1), created(2)]).await;
    eventually("agreement", async || {
        let scrape = scrape(&service).await;
        (scrape.value("verification_differences") == 0.0).then_some(())
    })
    .await;
    service.stop().await;
}

#[tokio::test]
async fn followers_are_counted_for_as_long_as_they_follow() {
    let world = World::new().await;
    let service = world.serve().await;
    let followers = async |count: f64| {
        eventually("the followers", async || {
            (scrape(&service).await.value("live_followers") == count).then_some(())
        })
        .await;
    };
    followers(0.0).await;
    let follower = Follower::open(&service).await;
    followers(1.0).await;
    drop(follower);
    followers(0.0).await;
    service.stop().await;
}

#[tokio::test]
async fn what_is_not_known_is_no_number() {
    let world = World::new().await;
    let consumer = Consumer(&world);
    let mut config = world.config();
    config.projector.nats.connection.url = "nats://127.0.0.1:9".parse().expect("a URL");
    let service = Service::start(config).await;
    let metrics = [
        "consumer_lag_seconds",
        "consumer_pending_messages",
        "consumer_dead_letters",
        "consumer_holes",
    ];
    eventually("the gauges", async || {
        let scrape = scrape(&service).await;
        let unknown = metrics.map(|metric| consumer.value(&scrape, metric).is_nan());
        (unknown == [true; 4]).then_some(())
    })
    .await;
    service.stop().await;
}
