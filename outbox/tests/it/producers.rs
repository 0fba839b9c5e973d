use std::time::Instant;

use futures::StreamExt;

use crate::support::{Target, World};

#[tokio::test]
async fn an_event_that_is_appended_in_plain_sql_is_published_with_its_headers() {
    let world = World::new().await;
    let accounts = Target::new("account");
    let relay = world.relay(&[accounts.route("account")], &["--event-source", "/bank"]);
    world
        .execute(
            r#"select outbox.append('account', 'a-7', 'account_debited', '{"amount":  10}', 3,
                                    '{"traceparent": "00-1-2-01", "tenant": "t"}')"#,
        )
        .await;
    world.holds(&accounts, 1).await;
    let message = world.stream(&accounts).await.get_raw_message(1).await;
    let message = message.expect("a message");
    assert_eq!(message.subject.as_str(), accounts.subject);
    let body = r#"{"type":"account_debited","payload":{"amount":  10}}"#;
    assert_eq!(message.payload, body.as_bytes());
    let header = |name: &str| message.headers.get(name).map(ToString::to_string);
    for (name, value) in [
        ("ce-source", "/bank"),
        ("ce-type", "account_debited"),
        ("ce-subject", "a-7"),
        ("ce-outboxid", "1"),
        ("ce-aggregatetype", "account"),
        ("ce-aggregateversion", "3"),
        ("traceparent", "00-1-2-01"),
        ("tenant", "t"),
    ] {
        assert_eq!(header(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(header("ce-id"), header("Nats-Msg-Id"));
    relay.stop().await;
}

/// The relay polls once a minute at most here: only waiting within Postgres can be in time.
#[tokio::test]
async fn a_producer_that_only_commits_wakes_the_relay() {
    let world = World::new().await;
    let accounts = Target::new("account");
    let orders = Target::new("order");
    let routes = [accounts.route("account"), orders.route("order")];
    let relay = world.relay(&routes, &["--poll-interval", "1m"]);
    for round in 1..=10 {
        let started = Instant::now();
        world.append("account", "1").await;
        world.holds(&accounts, round).await;
        world.append("order", "1").await;
        world.holds(&orders, round).await;
        assert!(started.elapsed().as_secs() < 50, "found by polling");
    }
    relay.stop().await;
}

/// An id that is missing is looked for as well, without polling.
#[tokio::test]
async fn a_transaction_that_commits_late_wakes_the_relay() {
    let world = World::new().await;
    let accounts = Target::new("account");
    let relay = world.relay(&[accounts.route("account")], &["--poll-interval", "1m"]);
    world.append("account", "1").await;
    world.holds(&accounts, 1).await;
    let mut heard = world.listen(&accounts).await;
    let mut late = world.database.pool.begin().await.expect("a transaction");
    sqlx::query("select outbox.append('account', '2', 'late', '{}')")
        .execute(&mut *late)
        .await
        .expect("an event");
    world.append("account", "1").await;
    heard.next().await.expect("the event behind the gap");
    let started = Instant::now();
    late.commit().await.expect("a commit");
    heard.next().await.expect("the late event");
    assert!(started.elapsed().as_secs() < 50, "found by polling");
    relay.stop().await;
}
