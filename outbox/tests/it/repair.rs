//! A sequence that gives out again ids that all streams have passed.

use std::collections::HashSet;

use testkit::eventually;

use crate::support::{Target, World};

#[tokio::test]
async fn events_that_take_ids_again_reach_each_of_several_streams() {
    let world = World::new().await;
    let (accounts, orders) = (Target::new("account"), Target::new("order"));
    let relay = world.relay(&[accounts.route("account"), orders.route("order")], &[]);
    for _ in 0..10 {
        world.append_many("account", 1).await;
        world.append_many("order", 1).await;
    }
    world.drained(&accounts).await;
    world.drained(&orders).await;
    world
        .execute("delete from outbox.event where id > 4; select setval('outbox.event_id_seq', 4);")
        .await;
    for _ in 0..3 {
        world.append_many("account", 1).await;
        world.append_many("order", 1).await;
    }
    world.holds(&accounts, 13).await;
    world.holds(&orders, 13).await;
    world.drained(&accounts).await;
    world.drained(&orders).await;
    relay.stop().await;
}

#[tokio::test]
async fn events_go_on_although_the_last_one_that_was_published_has_been_dropped() {
    let world = World::new().await;
    let accounts = Target::new("account");
    let relay = world.relay(&[accounts.route("account")], &[]);
    world.append_many("account", 5).await;
    world.holds(&accounts, 5).await;
    world.drained(&accounts).await;
    relay.stop().await;
    world.execute("delete from outbox.event").await;

    let relay = world.relay(&[accounts.route("account")], &[]);
    world.append("account", "1").await;
    world.holds(&accounts, 6).await;
    relay.stop().await;
}

#[tokio::test]
async fn nothing_is_published_while_the_sequence_has_a_cache() {
    let world = World::new().await;
    let accounts = Target::new("account");
    world
        .execute("alter sequence outbox.event_id_seq cache 20")
        .await;
    world.append("account", "1").await;
    let relay = world.relay(&[accounts.route("account")], &[]);
    // Each renewal takes far longer than publishing one event does.
    let mut renewals = HashSet::new();
    eventually("a lease that is renewed", async || {
        let expires_at: String = sqlx::query_scalar("select expires_at::text from outbox.lease")
            .fetch_one(&world.database.pool)
            .await
            .ok()?;
        renewals.insert(expires_at);
        (renewals.len() > 5).then_some(())
    })
    .await;
    let found = world.jetstream.get_stream(&accounts.stream).await;
    assert!(found.is_err(), "no session has begun");
    world
        .execute("alter sequence outbox.event_id_seq cache 1")
        .await;
    world.holds(&accounts, 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_cache_that_the_sequence_gets_later_stops_the_relay_until_it_has_none() {
    let world = World::new().await;
    let accounts = Target::new("account");
    let relay = world.relay(&[accounts.route("account")], &[]);
    world.append("account", "1").await;
    world.holds(&accounts, 1).await;
    let before = lease_epoch(&world).await;
    world
        .execute("alter sequence outbox.event_id_seq cache 20")
        .await;
    eventually("the end of all sessions", async || {
        (lease_epoch(&world).await > before).then_some(())
    })
    .await;
    world
        .execute("alter sequence outbox.event_id_seq cache 1")
        .await;
    world.append("account", "2").await;
    world.holds(&accounts, 2).await;
    relay.stop().await;
}

async fn lease_epoch(world: &World) -> i64 {
    let epoch = "select epoch from outbox.lease";
    let epoch = sqlx::query_scalar(epoch).fetch_one(&world.database.pool);
    epoch.await.expect("a lease")
}
