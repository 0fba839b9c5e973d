//! More holes than one look takes.

use futures::{StreamExt, stream};

use crate::support::{Target, World};

const EVENTS: u64 = 2200;

#[tokio::test]
async fn more_holes_than_one_look_finds_are_all_filled() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world
        .execute(
            "select outbox.append('account', n::text, 'changed', '{}')
             from generate_series(1, 2200) as n",
        )
        .await;
    world.holds(&target, EVENTS).await;
    world.drained(&target).await;
    relay.stop().await;
    let stream = &world.stream(&target).await;
    let deleted = stream::iter((1..EVENTS).step_by(2))
        .map(async |sequence| stream.delete_message(sequence).await.expect("gone"))
        .buffer_unordered(32);
    assert_eq!(deleted.count().await, 1100);

    let relay = world.relay(&[target.route("account")], &[]);
    world.holds(&target, EVENTS).await;
    relay.stop().await;
}
