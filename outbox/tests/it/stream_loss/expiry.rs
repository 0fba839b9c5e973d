//! What leaves a stream because of its age is not lost.

use testkit::eventually;

use crate::support::{Target, World};

/// Waits until the relay has seen where the stream begins.
pub(super) async fn begins_at(world: &World, sequence: i64) {
    eventually("the stream's beginning to be known", async || {
        let known = "select stream_first_sequence from outbox.cursor";
        let known: Option<i64> = sqlx::query_scalar(known)
            .fetch_one(&world.database.pool)
            .await
            .ok()?;
        (known == Some(sequence)).then_some(())
    })
    .await;
}

async fn losses(world: &World) -> Vec<(i64, i64, bool)> {
    let losses = "select first_sequence, last_sequence, is_complete from outbox.stream_loss";
    sqlx::query_as(losses)
        .fetch_all(&world.database.pool)
        .await
        .expect("losses")
}

#[tokio::test]
async fn an_empty_stream_has_lost_nothing_when_its_first_message_comes() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    begins_at(&world, 1).await;
    world.append_many("account", 3).await;
    world.holds(&target, 3).await;
    relay.stop().await;
    // Another relay looks again.
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 6).await;
    assert_eq!(losses(&world).await, []);
    relay.stop().await;
}

/// The messages of some days expired while no relay ran, and it has a longer limit now.
#[tokio::test]
async fn what_expired_before_the_limit_was_raised_is_not_published_again() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 20).await;
    begins_at(&world, 1).await;
    relay.stop().await;
    world
        .execute(
            "update outbox.cursor set stream_max_age_seconds = 86400,
                 stream_first_at = clock_timestamp() - interval '2 days';
             update outbox.checkpoint set saved_at = clock_timestamp() - interval '2 days'",
        )
        .await;
    let stream = world.stream(&target).await;
    stream.purge().sequence(11).await.expect("gone");
    let relay = world.relay(&[target.route("account")], &[]);
    begins_at(&world, 11).await;
    assert_eq!(losses(&world).await, []);
    world.holds(&target, 10).await;
    relay.stop().await;
}

/// No checkpoint tells of the time before.
#[tokio::test]
async fn a_message_that_is_lost_brings_back_no_other_that_has_expired() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world
        .execute(
            "select outbox.append('account', (number % 7)::text, 'changed', '{}')
             from generate_series(1, 2600) as number",
        )
        .await;
    world.holds(&target, 2600).await;
    world.drained(&target).await;
    relay.stop().await;
    let stream = world.stream(&target).await;
    stream.purge().sequence(2501).await.expect("gone");
    world
        .execute(
            "update outbox.cursor set stream_first_sequence = 2501;
             delete from outbox.checkpoint;
             delete from outbox.event where id <= 2000;
             update outbox.ledger set ledger_from = 2001",
        )
        .await;
    stream.delete_message(2550).await.expect("gone");
    let relay = world.relay(&[target.route("account")], &[]);
    eventually("the event to be on the stream again", async || {
        let refilled = "select refilled_through from outbox.stream_loss";
        let refilled: Option<i64> = sqlx::query_scalar(refilled)
            .fetch_one(&world.database.pool)
            .await
            .ok()?;
        refilled
    })
    .await;
    assert_eq!(losses(&world).await, [(2550, 2550, true)]);
    relay.stop().await;
}

#[tokio::test]
async fn checkpoints_stay_as_long_as_the_messages_of_which_they_tell() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 1).await;
    relay.stop().await;
    world
        .execute(
            "delete from outbox.checkpoint;
             insert into outbox.checkpoint (stream, stream_sequence, stream_event_id, last_id, gaps,
                                            saved_at)
             select stream, 100 - days, gen_random_uuid(), 1, '{}',
                    clock_timestamp() - days * interval '1 day'
             from outbox.cursor, unnest(array[2, 6, 8, 9]) as days",
        )
        .await;
    let relay = world.relay(&[target.route("account")], &["--outbox-retention", "1day"]);
    eventually("older checkpoints to be forgotten", async || {
        let kept = "select stream_sequence from outbox.checkpoint where stream_sequence > 1
                    order by 1";
        let kept: Vec<i64> = sqlx::query_scalar(kept)
            .fetch_all(&world.database.pool)
            .await
            .ok()?;
        // The newest of those that are too old as well.
        (kept == [92, 94, 98]).then_some(())
    })
    .await;
    relay.stop().await;
}

/// Of a loss whose messages and what came in their place have expired nothing is kept, unless the server
/// may still take one of its events for a duplicate.
#[tokio::test]
async fn a_loss_is_forgotten_once_what_came_in_its_place_has_expired() {
    let world = World::new().await;
    let target = Target::new("account");
    let relay = world.relay(&[target.route("account")], &[]);
    world.publish_up_to(&target, 10).await;
    let stream = world.stream(&target).await;
    for sequence in [3, 6] {
        stream.delete_message(sequence).await.expect("gone");
    }
    eventually("their events to be on the stream again", async || {
        let open = "select count(*) from outbox.stream_loss where refilled_through is not null";
        let filled: i64 = sqlx::query_scalar(open)
            .fetch_one(&world.database.pool)
            .await
            .ok()?;
        (filled == 2).then_some(())
    })
    .await;
    world.append_many("account", 5).await;
    world.drained(&target).await;
    relay.stop().await;
    let last = world
        .stream(&target)
        .await
        .cached_info()
        .state
        .last_sequence;
    world
        .execute(
            "update outbox.cursor set stream_max_age_seconds = 86400,
                 stream_first_at = clock_timestamp() - interval '2 days';
             update outbox.checkpoint set saved_at = clock_timestamp() - interval '2 days';
             update outbox.stream_loss set found_at = clock_timestamp() - interval '2 days'
             where first_sequence = 3",
        )
        .await;
    stream.purge().sequence(last).await.expect("gone");
    let relay = world.relay(&[target.route("account")], &[]);
    begins_at(&world, last.cast_signed()).await;
    assert_eq!(losses(&world).await, [(6, 6, true)]);
    relay.stop().await;
}
