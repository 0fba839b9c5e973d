//! Events that have no route.

use outbox::parked::{self, Decision, Retried};

use crate::support::{Target, World};

#[tokio::test]
async fn events_without_a_route_are_parked_and_come_by_themselves_once_they_have_a_new_stream() {
    let world = World::new().await;
    let (accounts, orders) = (Target::new("account"), Target::new("order"));
    let relay = world.relay(&[accounts.route("account")], &[]);
    let order = world.append("order", "1").await;
    world.append("account", "1").await;
    world.holds(&accounts, 1).await;
    world.drained(&accounts).await;
    let expected = (order, "no route for the aggregate type".to_owned(), 0);
    assert_eq!(world.parked().await, [expected]);
    relay.stop().await;

    let relay = world.relay(&[accounts.route("account"), orders.route("order")], &[]);
    world.append("order", "1").await;
    world.holds(&orders, 2).await;
    assert_eq!(world.parked().await, []);
    world.holds(&accounts, 1).await;
    relay.stop().await;
}

#[tokio::test]
async fn events_without_a_route_are_retried_once_their_type_has_one_to_a_stream_that_was_there() {
    let world = World::new().await;
    let accounts = Target::new("account");
    let relay = world.relay(&[accounts.route("account")], &[]);
    let card = world.append("card", "1").await;
    world.append("account", "1").await;
    world.holds(&accounts, 1).await;
    world.drained(&accounts).await;
    assert_eq!(world.parked().await.len(), 1);
    relay.stop().await;

    let relay = world.relay(&[accounts.route("account"), accounts.route("card")], &[]);
    let pool = world.database.pool.clone().into();
    let retried = parked::retry(&pool, card, async |_, _| Ok(Decision::Requeue)).await;
    assert_eq!(retried.expect("Postgres"), Retried::Requeued);
    world.holds(&accounts, 2).await;
    assert_eq!(world.parked().await, []);
    relay.stop().await;
}

/// More than one read finds, among others that have one.
#[tokio::test]
async fn many_events_without_a_route_hold_up_no_other() {
    let world = World::new().await;
    let accounts = Target::new("account");
    world
        .execute(
            "insert into outbox.event (aggregate_type, aggregate_id, event_type, payload)
             select case n % 3 when 0 then 'account' else 'unknown' end, n::text, 'changed', '{}'
             from generate_series(1, 3000) as n",
        )
        .await;
    let relay = world.relay(&[accounts.route("account")], &[]);
    world.holds(&accounts, 1000).await;
    world.drained(&accounts).await;
    assert_eq!(world.parked().await.len(), 2000);
    relay.stop().await;
}
