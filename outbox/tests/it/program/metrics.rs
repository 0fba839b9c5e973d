//! What the program tells Prometheus of the outbox and of its relay.

use async_nats::{HeaderMap, jetstream};
use testkit::{Proxy, Service, eventually, nats::Server};

use super::support::World;

/// The value of a series now; `None` if it has none.
async fn value(relay: &Service, series: &str) -> Option<f64> {
    let answer = reqwest::get(format!("{}/metrics", relay.url().await)).await;
    let text = answer.ok()?.text().await.ok()?;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    value.parse().ok()
}

async fn becomes(relay: &Service, series: &str, is_wanted: impl Fn(f64) -> bool) -> f64 {
    eventually(&format!("{series} to be as wanted"), async || {
        value(relay, series).await.filter(|it| is_wanted(*it))
    })
    .await
}

async fn is(relay: &Service, series: &str, wanted: u32) {
    becomes(relay, series, |it| (it - f64::from(wanted)).abs() < 0.5).await;
}

impl World {
    /// A series of the world's stream.
    fn of_stream(&self, name: &str) -> String {
        format!("{name}{{stream=\"{}\"}}", self.stream)
    }

    async fn append(&self, aggregate_type: &str, events: u32) {
        self.execute(&format!(
            "select outbox.append('{aggregate_type}', n::text, 'changed', '{{}}')
             from generate_series(1, {events}) as n"
        ))
        .await;
    }
}

#[tokio::test]
async fn what_is_pending_and_its_age_grow_while_nats_is_away_and_are_0_after() {
    let mut server = Server::start().await;
    let mut world = World::new().await;
    world.settings = vec![("NATS_URL", server.url())];
    let relay = world.relay(&[]);
    world.append("order", 1).await;
    let pending = world.of_stream("outbox_pending_events");
    let age = world.of_stream("outbox_oldest_pending_age_seconds");
    is(&relay, &world.of_stream("outbox_stream_sequence"), 1).await;
    is(&relay, &pending, 0).await;
    is(&relay, &age, 0).await;

    server.kill();
    world.append("order", 3).await;
    is(&relay, &pending, 3).await;
    let first = becomes(&relay, &age, |it| it > 0.0).await;
    becomes(&relay, &age, |it| it > first).await;
    is(&relay, "outbox_relay_active", 1).await;

    server.restart().await;
    is(&relay, &pending, 0).await;
    is(&relay, &age, 0).await;
    is(&relay, &world.of_stream("outbox_stream_sequence"), 4).await;
    let published = world.of_stream("outbox_published_total");
    becomes(&relay, &published, |it| it >= 4.0).await;
}

#[tokio::test]
async fn when_the_active_relay_is_killed_the_gauges_of_both_swap() {
    let world = World::new().await;
    let mut first = world.relay(&[]);
    is(&first, "outbox_relay_active", 1).await;
    world.append("order", 2).await;
    let second = world.relay(&[]);
    is(&second, "outbox_relay_active", 0).await;
    is(&second, "outbox_lease_held", 1).await;
    // It tells of the outbox as well, and nothing that only the active one knows.
    is(&second, &world.of_stream("outbox_stream_sequence"), 2).await;
    let gap_age = world.of_stream("outbox_oldest_gap_age_seconds");
    assert!(value(&second, &gap_age).await.expect("a gauge").is_nan());
    is(&first, &gap_age, 0).await;
    let epoch = becomes(&second, "outbox_lease_epoch", |it| it > 0.0).await;

    first.process.kill();
    is(&second, "outbox_relay_active", 1).await;
    is(&second, "outbox_lease_held", 1).await;
    becomes(&second, "outbox_lease_epoch", |it| it > epoch).await;
    is(&second, &gap_age, 0).await;
}

#[tokio::test]
async fn what_postgres_does_not_tell_is_not_a_number() {
    let mut world = World::new().await;
    let address = world.database.url.split(['@', '/']).nth(3).expect("a host");
    let proxy = Proxy::start(address.to_owned()).await;
    let url = world
        .database
        .url
        .replace(address, &proxy.address().to_string());
    world.settings = vec![("DATABASE_URL", url)];
    let relay = world.relay(&[]);
    world.append("order", 1).await;
    let pending = world.of_stream("outbox_pending_events");
    is(&relay, &pending, 0).await;
    is(&relay, "outbox_lease_held", 1).await;
    proxy.cut();
    for series in [&pending, "outbox_lease_held", "outbox_parked_events"] {
        becomes(&relay, series, f64::is_nan).await;
    }
    is(&relay, "outbox_relay_active", 0).await;
    proxy.pass();
    is(&relay, &pending, 0).await;
    is(&relay, "outbox_lease_held", 1).await;
}

#[tokio::test]
async fn nothing_is_pending_for_a_stream_that_has_lost_its_route_or_was_forgotten() {
    let world = World::new().await;
    let relay = world.relay(&[]);
    let sequence = world.of_stream("outbox_stream_sequence");
    world.append("order", 1).await;
    is(&relay, &sequence, 1).await;
    // Of an earlier relay: this one publishes its events to another stream.
    world
        .execute(
            "insert into outbox.cursor (stream, aggregate_types, epoch, last_id)
             values ('FORMER', array['order'], 0, 0)",
        )
        .await;
    let of_former = |name: &str| format!("outbox_{name}{{stream=\"FORMER\"}}");
    let (pending, age) = (
        of_former("pending_events"),
        of_former("oldest_pending_age_seconds"),
    );
    is(&relay, &pending, 0).await;
    is(&relay, &age, 0).await;

    world
        .execute("delete from outbox.cursor where stream = 'FORMER'")
        .await;
    world.append("order", 1).await;
    is(&relay, &sequence, 2).await;
    is(&relay, &pending, 0).await;
    is(&relay, &age, 0).await;
}

#[tokio::test]
async fn duplicates_and_what_is_parked_lost_filled_or_an_orphan_is_counted() {
    let world = World::new().await;
    let mut relay = world.relay(&[]);
    world.append("cart", 2).await;
    world.append("order", 3).await;
    is(&relay, &world.of_stream("outbox_published_total"), 3).await;
    is(&relay, &world.of_stream("outbox_parked_total"), 2).await;
    is(&relay, "outbox_parked_events", 2).await;
    is(
        &relay,
        &world.of_stream("outbox_written_to_published_seconds_count"),
        3,
    )
    .await;
    for nothing in [
        "duplicates",
        "lost",
        "refilled",
        "unrecoverable",
        "orphans_found",
    ] {
        let series = world.of_stream(&format!("outbox_{nothing}_total"));
        is(&relay, &series, 0).await;
    }
    relay.process.stop().await;

    // As after a crash before the cursor was saved.
    world
        .execute("update outbox.cursor set last_id = 0, last_event_id = null")
        .await;
    let relay = world.relay(&[]);
    is(&relay, &world.of_stream("outbox_duplicates_total"), 3).await;
    is(&relay, &world.of_stream("outbox_published_total"), 3).await;

    let client = async_nats::connect(testkit::nats::shared_url()).await;
    let jetstream = jetstream::new(client.expect("NATS"));
    let stream = jetstream.get_stream(&world.stream).await.expect("a stream");
    stream.delete_message(2).await.expect("gone");
    is(&relay, &world.of_stream("outbox_stream_losses_total"), 1).await;
    is(&relay, &world.of_stream("outbox_lost_total"), 1).await;
    is(&relay, &world.of_stream("outbox_refilled_total"), 1).await;
    is(&relay, &world.of_stream("outbox_unrecoverable_total"), 0).await;

    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-id", "00000000-0000-7000-8000-000000000001"),
        ("ce-subject", "7"),
        ("ce-aggregatetype", "order"),
        ("ce-outboxid", "99"),
        ("ce-aggregateversion", "1"),
    ] {
        headers.insert(name, value);
    }
    let subject = world.subject.clone();
    let published = jetstream.publish_with_headers(subject, headers, "{}".into());
    published.await.expect("sent").await.expect("stored");
    is(&relay, &world.of_stream("outbox_orphans_found_total"), 1).await;
    is(&relay, &world.of_stream("outbox_orphans"), 1).await;
    is(&relay, &world.of_stream("outbox_unreconciled"), 0).await;
}

#[tokio::test]
async fn what_had_expired_before_the_stream_lost_its_end_is_not_counted_as_lost() {
    let world = World::new().await;
    let mut relay = world.relay(&[]);
    world.append("order", 5).await;
    is(&relay, &world.of_stream("outbox_stream_sequence"), 5).await;
    relay.process.stop().await;
    world
        .execute(
            "update outbox.cursor set stream_first_sequence = 4;
             delete from outbox.checkpoint",
        )
        .await;
    let client = async_nats::connect(testkit::nats::shared_url()).await;
    let jetstream = jetstream::new(client.expect("NATS"));
    let deleted = jetstream.delete_stream(&world.stream).await;
    deleted.expect("gone");
    let relay = world.relay(&[]);
    is(&relay, &world.of_stream("outbox_stream_losses_total"), 1).await;
    is(&relay, &world.of_stream("outbox_lost_total"), 2).await;
    is(&relay, &world.of_stream("outbox_stream_sequence"), 5).await;
}

/// The metadata of a stream name a hundred ranges at most.
#[tokio::test]
async fn ranges_that_readers_are_not_told_of_any_more_are_counted() {
    let world = World::new().await;
    let relay = world.relay(&[]);
    world.append("order", 210).await;
    is(&relay, &world.of_stream("outbox_stream_sequence"), 210).await;
    is(&relay, &world.of_stream("outbox_pending_events"), 0).await;
    let client = async_nats::connect(testkit::nats::shared_url()).await;
    let jetstream = jetstream::new(client.expect("NATS"));
    let stream = jetstream.get_stream(&world.stream).await.expect("a stream");
    for sequence in (1..=206).step_by(2) {
        stream.delete_message(sequence).await.expect("gone");
    }
    is(&relay, &world.of_stream("outbox_refilled_total"), 103).await;
    is(
        &relay,
        &world.of_stream("outbox_refills_forgotten_total"),
        3,
    )
    .await;
}
