//! Each stream has its own events, and no other stream's troubles.

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use testkit::eventually;

use crate::support::{Target, World, heard};

#[tokio::test]
async fn a_stream_whose_subject_is_taken_holds_up_only_its_own_events_and_catches_up() {
    let world = World::new().await;
    let (accounts, orders) = (Target::new("account"), Target::new("order"));
    let taker = Target::new("taker");
    let config = Config {
        name: taker.stream.clone(),
        subjects: vec![orders.subject.clone()],
        ..Config::default()
    };
    let taken = world.jetstream.create_stream(config).await;
    taken.expect("a stream");
    for routes in [
        [accounts.route("account"), orders.route("order")],
        [orders.route("order"), accounts.route("account")],
    ] {
        let relay = world.relay(&routes, &[]);
        let before = world.parked().await.len() as u64;
        assert_eq!(before, 0);
        world.append_many("order", 5).await;
        world.append_many("account", 5).await;
        world.drained(&accounts).await;
        relay.stop().await;
    }
    world.holds(&accounts, 10).await;
    let deleted = world.jetstream.delete_stream(&taker.stream).await;
    deleted.expect("a deletion");
    let relay = world.relay(&[accounts.route("account"), orders.route("order")], &[]);
    world.holds(&orders, 10).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_full_stream_holds_up_only_its_own_events_and_catches_up() {
    let world = World::new().await;
    let (accounts, orders) = (Target::new("account"), Target::new("order"));
    let small = Config {
        name: orders.stream.clone(),
        subjects: vec![orders.subject.clone()],
        discard: DiscardPolicy::New,
        max_messages: 3,
        ..Config::default()
    };
    let created = world.jetstream.create_stream(small).await;
    created.expect("a stream");
    let relay = world.relay(&[accounts.route("account"), orders.route("order")], &[]);
    world.append_many("order", 20).await;
    world.append_many("account", 20).await;
    world.drained(&accounts).await;
    world.holds(&accounts, 20).await;
    world.holds(&orders, 3).await;
    // JetStream takes a configuration as a whole: the relay may write its metadata at the same time, and
    // with them the limit of before.
    eventually("all events on the larger stream", async || {
        let info = world.stream(&orders).await.cached_info().clone();
        if info.config.max_messages == 3 {
            let larger = Config {
                max_messages: -1,
                ..info.config
            };
            let enlarged = world.jetstream.update_stream(larger).await;
            enlarged.expect("a larger stream");
        }
        (info.state.messages >= 20).then_some(())
    })
    .await;
    world.holds(&orders, 20).await;
    world.drained(&orders).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_stream_that_lost_its_events_gets_them_again_and_the_other_repeats_nothing() {
    let world = World::new().await;
    let (accounts, orders) = (Target::new("account"), Target::new("order"));
    let relay = world.relay(&[accounts.route("account"), orders.route("order")], &[]);
    for _ in 0..10 {
        world.append_many("account", 1).await;
        world.append_many("order", 1).await;
    }
    world.drained(&accounts).await;
    world.drained(&orders).await;
    let mut repeats = world.listen(&accounts).await;
    let deleted = world.jetstream.delete_stream(&orders.stream).await;
    deleted.expect("a deletion");
    world.holds(&orders, 10).await;
    world.drained(&orders).await;
    assert_eq!(heard(&world, &mut repeats).await, 0);
    relay.stop().await;
}

/// The first of them is acknowledged at a sequence that shows the loss, the others above the saved end
/// again.
#[tokio::test]
async fn a_stream_that_is_replaced_right_before_a_batch_gets_what_it_has_lost() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.append("account", "0").await;
    world.holds(&target, 1).await;
    world.drained(&target).await;
    let config = world.stream(&target).await.cached_info().config.clone();
    let deleted = world.jetstream.delete_stream(&target.stream).await;
    assert!(deleted.expect("a deletion").success);
    let created = world.jetstream.create_stream(config).await;
    created.expect("a stream");
    world
        .execute(
            "select outbox.append('account', id::text, 'changed', '{}')
             from generate_series(1, 5) as id",
        )
        .await;
    world.has_all(&target).await;
    relay.stop().await;
}

/// Two faults at once: the active relay crashes, and one stream is not available.
#[tokio::test]
async fn after_a_crash_with_one_stream_behind_the_other_repeats_nothing_that_was_saved() {
    let world = World::new().await;
    let (accounts, orders) = (Target::new("account"), Target::new("order"));
    let routes = [accounts.route("account"), orders.route("order")];
    let taker = Config {
        name: Target::new("taker").stream,
        subjects: vec![orders.subject.clone()],
        ..Config::default()
    };
    let taken = world.jetstream.create_stream(taker.clone()).await;
    taken.expect("a stream");
    let relay = world.relay(&routes, &[]);
    for _ in 0..20 {
        world.append_many("order", 1).await;
        world.append_many("account", 1).await;
    }
    world.drained(&accounts).await;
    relay.crash().await;
    let mut repeats = world.listen(&accounts).await;
    let deleted = world.jetstream.delete_stream(&taker.name).await;
    deleted.expect("a deletion");
    let relay = world.relay(&routes, &[]);
    world.holds(&orders, 20).await;
    world.drained(&orders).await;
    assert_eq!(heard(&world, &mut repeats).await, 0);
    world.holds(&accounts, 20).await;
    relay.stop().await;
}

/// What other streams take does not keep a stream's cursor behind, nor its gaps open.
#[tokio::test]
async fn a_stream_without_events_of_its_own_passes_those_of_others() {
    let world = World::new().await;
    let (accounts, orders) = (Target::new("account"), Target::new("order"));
    let relay = world.relay(&[accounts.route("account"), orders.route("order")], &[]);
    world.append_many("account", 50).await;
    world.drained(&accounts).await;
    eventually("both cursors at the end", async || {
        let behind: i64 = sqlx::query_scalar(
            "select count(*) from outbox.cursor where last_id < 50 or gaps <> '{}'",
        )
        .fetch_one(&world.database.pool)
        .await
        .ok()?;
        (behind == 0).then_some(())
    })
    .await;
    world.holds(&orders, 0).await;
    relay.stop().await;
}

/// The stream that was to park it is unavailable, and the one that gets the route has passed it.
#[tokio::test]
async fn a_type_that_gets_a_route_to_a_stream_that_is_ahead_loses_no_event() {
    let world = World::new().await;
    let (accounts, orders) = (Target::new("account"), Target::new("order"));
    let taker = Config {
        name: Target::new("taker").stream,
        subjects: vec![accounts.subject.clone()],
        ..Config::default()
    };
    let taken = world.jetstream.create_stream(taker.clone()).await;
    taken.expect("a stream");
    let routes = vec![accounts.route("account"), orders.route("order")];
    let relay = world.relay(&routes, &[]);
    world.append("cart", "1").await;
    world.append("order", "1").await;
    world.holds(&orders, 1).await;
    world.drained(&orders).await;
    relay.stop().await;
    let deleted = world.jetstream.delete_stream(&taker.name).await;
    deleted.expect("a deletion");

    let relay = world.relay(&[routes, vec![orders.route("cart")]].concat(), &[]);
    // What is on it already may be published once more.
    world.has_all(&orders).await;
    world.append("account", "1").await;
    world.holds(&accounts, 1).await;
    world.drained(&accounts).await;
    assert_eq!(world.parked().await, []);
    relay.stop().await;
}
