//! Two databases whose relays have the same stream.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, ConnectOptions, postgres::PgConnectOptions};
use testkit::{eventually, postgres::Database, unique};

use crate::{
    accounts::REGISTER,
    support::{RunningRelay, Target, World},
};

fn start(world: &World, accounts: &Target) -> RunningRelay {
    world.relay(&[accounts.route("account")], &[])
}

/// Waits until the world's relay has renewed its lease for as long as a relay needs to publish.
async fn has_tried(world: &World) {
    let mut renewals = HashSet::new();
    eventually("a lease that is renewed", async || {
        let expires_at: String = sqlx::query_scalar("select expires_at::text from outbox.lease")
            .fetch_one(&world.database.pool)
            .await
            .ok()?;
        renewals.insert(expires_at);
        (renewals.len() > 6).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_ledger_is_refused_until_it_adopts_the_stream() {
    let (first, second) = (World::with_accounts().await, World::with_accounts().await);
    let accounts = Target::new("account");
    let owner = start(&first, &accounts);
    first.change("a", "first").await;
    first.holds(&accounts, 1).await;
    first.drained(&accounts).await;
    second.execute(REGISTER).await;
    second.change("b", "second").await;
    let intruder = start(&second, &accounts);
    has_tried(&second).await;
    first.holds(&accounts, 1).await;
    // Also while the owner is away.
    owner.stop().await;
    has_tried(&second).await;
    first.holds(&accounts, 1).await;

    second
        .execute("update outbox.cursor set adopts = true")
        .await;
    second.converges(&accounts).await;
    assert_eq!(second.copy(&accounts).await["a"], (2, None));
    let owner = start(&first, &accounts);
    first.change("a", "too late").await;
    has_tried(&first).await;
    second.holds(&accounts, 3).await;
    owner.stop().await;
    intruder.stop().await;
}

/// A database that has published an event, and a copy of it.
async fn original_and_copy() -> (World, World, Target) {
    let original = World::with_accounts().await;
    let accounts = Target::new("account");
    original.execute(REGISTER).await;
    let relay = start(&original, &accounts);
    original.change("a", "both").await;
    original.drained(&accounts).await;
    relay.stop().await;
    let copy = copy_of(&original).await;
    let original = World::at(Database::at(original.database.url.clone())).await;
    (original, copy, accounts)
}

/// A copy of this one, in another database of the server. Nobody may be connected meanwhile.
async fn copy_of(world: &World) -> World {
    let options: PgConnectOptions = world.database.url.parse().expect("a URL");
    let name = options.get_database().expect("a name").to_owned();
    let copy = unique("copy");
    let server = options.clone().database("postgres");
    let admin = Database::at(server.to_url_lossy().to_string());
    world.database.pool.close().await;
    eventually("a copy of the database", async || {
        let disconnect =
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        let disconnected = sqlx::query(disconnect).bind(&name).execute(&admin.pool);
        disconnected.await.ok()?;
        let create = format!("create database {copy} template {name}");
        let created = sqlx::raw_sql(AssertSqlSafe(create)).execute(&admin.pool);
        created.await.ok()
    })
    .await;
    let copy = options.database(&copy).to_url_lossy().to_string();
    World::at(Database::at(copy)).await
}

#[tokio::test]
async fn a_copy_of_the_database_is_refused_while_the_original_is_active_and_takes_over_after_it() {
    let (original, copy, accounts) = original_and_copy().await;
    let relay = start(&original, &accounts);
    original.change("a", "original").await;
    original.change("b", "original").await;
    original.holds(&accounts, 3).await;
    let other = start(&copy, &accounts);
    copy.change("c", "copy").await;
    has_tried(&copy).await;
    original.holds(&accounts, 3).await;
    original.drained(&accounts).await;
    relay.stop().await;

    // It lacks what the original has written since.
    copy.converges(&accounts).await;
    copy.assert_versions_increase(&accounts).await;
    let messages = copy.messages(&accounts).await.len();
    let relay = start(&original, &accounts);
    original.change("a", "too late").await;
    has_tried(&original).await;
    assert_eq!(copy.messages(&accounts).await.len(), messages);
    relay.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_copy_does_not_take_over_while_the_relay_of_the_original_is_started_again() {
    let (original, copy, accounts) = original_and_copy().await;
    let relay = start(&original, &accounts);
    original.change("a", "original").await;
    original.holds(&accounts, 2).await;

    let other = start(&copy, &accounts);
    copy.change("c", "copy").await;
    has_tried(&copy).await;
    relay.stop().await;
    has_tried(&copy).await;
    let relay = start(&original, &accounts);
    original.change("b", "original").await;
    original.holds(&accounts, 3).await;
    original.drained(&accounts).await;
    relay.stop().await;
    other.stop().await;
}

/// With the stream its metadata are gone, which named the original.
#[tokio::test]
async fn a_copy_does_not_take_over_a_stream_that_was_lost_while_the_original_is_started_again() {
    let (original, copy, accounts) = original_and_copy().await;
    let relay = start(&original, &accounts);
    original.change("a", "original").await;
    original.holds(&accounts, 2).await;
    original.drained(&accounts).await;

    relay.stop().await;
    let deleted = original.jetstream.delete_stream(&accounts.stream).await;
    deleted.expect("no stream");
    let other = start(&copy, &accounts);
    copy.change("c", "copy").await;
    has_tried(&copy).await;
    let relay = start(&original, &accounts);
    original.change("b", "original").await;
    original.holds(&accounts, 3).await;
    original.drained(&accounts).await;
    original.has_all(&accounts).await;
    relay.stop().await;
    other.stop().await;
}
