//! A sequence that gives out again ids that all streams have passed.

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
