//! Messages that somebody else publishes while the relay runs.

use async_nats::HeaderMap;
use testkit::nats::publish_bytes;

use crate::{
    accounts::REGISTER,
    support::{RunningRelay, Target, World},
};

async fn running() -> (World, Target, RunningRelay) {
    let world = World::with_accounts().await;
    let accounts = Target::new("account");
    world.execute(REGISTER).await;
    let relay = world.relay(&[accounts.route("account")], &[]);
    world.change("a", "ours").await;
    world.drained(&accounts).await;
    (world, accounts, relay)
}

fn of_account<'a>(id: &'a str, version: &'a str) -> [(&'static str, &'a str); 5] {
    [
        ("ce-id", "00000000-0000-7000-8000-000000000001"),
        ("ce-subject", id),
        ("ce-aggregatetype", "account"),
        ("ce-outboxid", "5"),
        ("ce-aggregateversion", version),
    ]
}

#[tokio::test]
async fn what_another_relay_publishes_between_two_events_is_found() {
    let (world, accounts, relay) = running().await;
    world
        .publish_by_hand(&accounts, &of_account("a", "5"))
        .await;
    world.change("b", "ours").await;
    world.converges(&accounts).await;
    assert_eq!(
        world.copy(&accounts).await["a"],
        (6, Some("ours".to_owned()))
    );
    world.change("a", "still ours").await;
    world.converges(&accounts).await;
    relay.stop().await;
}

/// Nothing is acknowledged that would show it.
#[tokio::test]
async fn what_another_relay_publishes_is_found_while_there_is_nothing_to_publish() {
    let (world, accounts, relay) = running().await;
    world
        .publish_by_hand(&accounts, &of_account("a", "5"))
        .await;
    world.converges(&accounts).await;
    relay.stop().await;
}

#[tokio::test]
async fn what_is_no_event_of_the_outbox_is_passed_and_stops_nothing() {
    let (world, accounts, relay) = running().await;
    world.publish_by_hand(&accounts, &[]).await;
    world
        .publish_by_hand(&accounts, &[("ce-id", "no id"), ("ce-subject", "a")])
        .await;
    let huge = i64::MAX.to_string();
    world
        .publish_by_hand(&accounts, &of_account("a", &huge))
        .await;
    let mut far_ahead = of_account("a", "7");
    far_ahead[3].1 = &huge;
    world.publish_by_hand(&accounts, &far_ahead).await;
    world.change("b", "ours").await;
    world.holds(&accounts, 6).await;
    world.drained(&accounts).await;
    assert_eq!(world.count("outbox.orphan").await, 0);
    relay.stop().await;
}

/// As any program could that speaks the protocol: clients refuse to send such headers, and lose their
/// connection when they are sent some.
async fn publish_with_unreadable_headers(world: &World, to: &Target) {
    let headers = b"NATS/1.0\r\n\xff\r\n\r\n";
    publish_bytes(&world.nats_url, &to.subject, headers, b"{}").await;
}

#[tokio::test]
async fn headers_that_no_client_can_read_stop_nothing() {
    let (world, accounts, relay) = running().await;
    publish_with_unreadable_headers(&world, &accounts).await;
    world
        .publish_by_hand(&accounts, &of_account("a", "5"))
        .await;
    world.change("b", "ours").await;
    world.holds(&accounts, 5).await;
    world.converges(&accounts).await;
    relay.stop().await;
    // Nor does it stop one that finds it at its start.
    publish_with_unreadable_headers(&world, &accounts).await;
    let relay = world.relay(&[accounts.route("account")], &[]);
    world.change("b", "ours too").await;
    world.converges(&accounts).await;
    world.drained(&accounts).await;
    relay.stop().await;
}

#[tokio::test]
async fn junk_that_is_repeated_is_not_asked_for_again() {
    let (world, accounts, relay) = running().await;
    world
        .execute(
            "create sequence asked;
             create function refuse(text[], bigint[]) returns setof text language plpgsql as $$
             begin
                 perform nextval('asked');
                 raise exception using errcode = 'data_exception', message = 'no such account';
             end $$;
             update outbox.aggregate set restate = 'public.refuse'",
        )
        .await;
    world
        .publish_by_hand(&accounts, &of_account("junk", "5"))
        .await;
    let failed = "outbox.orphan where error like 'no such account%' and retry_at is null";
    world.has(1, failed).await;
    world
        .publish_by_hand(&accounts, &of_account("junk", "5"))
        .await;
    world.change("b", "ours").await;
    world.holds(&accounts, 4).await;
    world.drained(&accounts).await;
    world.has(1, "outbox.orphan where messages = 2").await;
    relay.stop().await;
    assert_eq!(world.count("asked where last_value = 1").await, 1);
    assert_eq!(world.count(failed).await, 1);
}

/// They are on the same stream under another subject.
#[tokio::test]
async fn replays_are_no_orphans() {
    let (world, accounts, relay) = running().await;
    let replays = Target {
        stream: accounts.stream.clone(),
        subject: format!("replay.{}.consumer", accounts.subject),
    };
    world.publish_by_hand(&replays, &of_account("a", "5")).await;
    world.change("b", "ours").await;
    world.holds(&accounts, 3).await;
    world.drained(&accounts).await;
    assert_eq!(world.count("outbox.orphan").await, 0);
    relay.stop().await;
}

/// Releases before this said neither the type nor the place nor the version.
#[tokio::test]
async fn messages_of_earlier_releases_are_looked_up_by_their_event_ids() {
    let (world, accounts, relay) = running().await;
    relay.stop().await;
    world.change("a", "ours too").await;
    let event_id: String =
        sqlx::query_scalar("select event_id::text from outbox.event order by id desc limit 1")
            .fetch_one(&world.database.pool)
            .await
            .expect("an event");
    world
        .publish_by_hand(&accounts, &[("ce-id", &event_id), ("ce-subject", "a")])
        .await;
    publish_old(
        &world,
        &accounts,
        2,
        "c",
        r#"{"name":"theirs","version":9}"#,
    )
    .await;
    let relay = world.relay(&[accounts.route("account")], &[]);
    world
        .has(
            1,
            "outbox.orphan where aggregate_id = 'c' and restated_at is not null",
        )
        .await;
    world.drained(&accounts).await;
    assert_eq!(world.count("outbox.orphan").await, 1);
    // Above the version that the body names.
    assert_eq!(world.copy(&accounts).await["c"], (10, None));
    let unreconciled = "outbox.cursor where unreconciled_since is not null";
    assert_eq!(world.count(unreconciled).await, 0);
    // Nobody knows what copies have of this one.
    publish_old(&world, &accounts, 3, "d", r#"{"name":"theirs"}"#).await;
    world.has(1, unreconciled).await;
    relay.stop().await;
}

async fn publish_old(world: &World, to: &Target, event: u8, id: &str, payload: &str) {
    let mut map = HeaderMap::new();
    map.insert(
        "ce-id",
        format!("00000000-0000-7000-8000-00000000000{event}"),
    );
    map.insert("ce-subject", id);
    let body = format!(r#"{{"type":"account_changed","payload":{payload}}}"#);
    let published = (world.jetstream)
        .publish_with_headers(to.subject.clone(), map, body.into())
        .await;
    published.expect("published").await.expect("stored");
}
