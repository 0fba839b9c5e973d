use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use testkit::{Proxy, eventually};
use tokio::time::timeout;

use crate::support::{Stack, assert_in_order};

#[tokio::test]
async fn a_relay_killed_between_publish_and_cursor_loses_and_repeats_nothing() {
    let stack = Stack::new().await;
    let (users, _notifications) = (
        stack.users(&["--no-relay"]).await,
        stack.notifications().await,
    );
    let mut relay = stack.relay().await;
    users.create("Ada").await;
    stack.converged().await;

    let cursor = HeldCursor::hold(&stack).await;
    users.create("Grace").await;
    eventually("the event on the stream", async || {
        (stack.events().await.len() == 2).then_some(())
    })
    .await;
    relay.process.kill();
    cursor.release(&stack).await;
    assert_eq!(stack.pending().await, 1, "the cursor did not move");

    let _relay = stack.relay().await;
    assert_eq!(stack.converged().await.len(), 2);
    assert_eq!(
        stack.events().await.len(),
        2,
        "published again, stored once"
    );
}

#[tokio::test]
async fn a_projector_killed_between_write_and_acknowledgement_applies_nothing_twice() {
    let mut stack = Stack::new().await;
    let users = stack.users(&[]).await;
    let direct = stack.nats_url.clone();
    let server = direct
        .strip_prefix("nats://")
        .expect("a NATS URL")
        .to_owned();
    let proxy = Proxy::start(server).await;
    stack.nats_url = format!("nats://{}", proxy.address());
    let mut notifications = stack.notifications().await;
    stack.nats_url = direct;
    let first = users.create("Ada").await;
    stack.converged().await;
    stack.acknowledged(1).await;

    // From here on events come through, and acknowledgements do not.
    // Its request for messages may end before the first one comes, and the next is held as well.
    let second = loop {
        proxy.hold_client();
        let user = users.create("Grace").await;
        let document = eventually("the document", async || {
            let copies = stack.copies().await?;
            copies.contains(&user).then_some(())
        });
        if timeout(Duration::from_secs(15), document).await.is_ok() {
            break user;
        }
        proxy.pass();
        stack.converged().await;
        stack.acknowledged(last_sequence(&stack).await).await;
    };
    notifications.service.process.kill();
    assert_eq!(unacknowledged(&stack).await, 1);

    // Changed meanwhile: its redelivered creation must not undo that.
    users.rename(&first, "Ada L.").await;
    users.rename(&second, "Grace H.").await;
    let _notifications = stack.notifications().await;
    stack.converged().await;
    stack.acknowledged(last_sequence(&stack).await).await;
    stack.converged().await;
}

#[tokio::test]
async fn whatever_is_killed_under_load_the_copy_converges() {
    const ROUNDS: i64 = 4;
    let stack = Stack::new().await;
    let users = stack.users(&["--no-relay"]).await;
    let mut relay = stack.relay().await;
    let mut notifications = stack.notifications().await;
    let killed_enough = AtomicBool::new(false);
    let killing = async {
        for _ in 0..ROUNDS {
            // Each is killed at work, never while it waits for its turn.
            let published = stack.at_work().await;
            relay.process.kill();
            stack.acknowledged(published).await;
            notifications.service.process.kill();
            relay = stack.relay().await;
            notifications = stack.notifications().await;
        }
        killed_enough.store(true, Ordering::Relaxed);
    };
    tokio::join!(users.write_until(&killed_enough), killing);
    stack.converged().await;
    assert_in_order(&stack.events().await);
    assert!(stack.epoch().await > ROUNDS, "every relay led");
}

#[tokio::test]
async fn the_cursor_does_not_move_before_the_acknowledgement() {
    let mut stack = Stack::new().await;
    let (users, _notifications) = (
        stack.users(&["--no-relay"]).await,
        stack.notifications().await,
    );
    let direct = stack.nats_url.clone();
    let server = direct
        .strip_prefix("nats://")
        .expect("a NATS URL")
        .to_owned();
    let proxy = Proxy::start(server).await;
    stack.nats_url = format!("nats://{}", proxy.address());
    let mut relay = stack.relay().await;
    stack.nats_url = direct;
    users.create("Ada").await;
    stack.converged().await;

    // What the relay publishes from here on does not arrive.
    proxy.hold_client();
    users.create("Grace").await;
    eventually("the relay to give up waiting", async || {
        let output = relay.process.output();
        let held_up = |line: &String| line.contains("relay is held up");
        output.iter().any(held_up).then_some(())
    })
    .await;
    assert_eq!(stack.pending().await, 1);
    relay.process.kill();
    let _relay = stack.relay().await;
    assert_eq!(stack.converged().await.len(), 2);
}

/// While it is held no relay can move the cursor, though it can renew its lease.
struct HeldCursor {
    lock: sqlx::pool::PoolConnection<sqlx::Postgres>,
}

impl HeldCursor {
    async fn hold(stack: &Stack) -> Self {
        sqlx::raw_sql(
            r"
            create function wait_for_the_test() returns trigger language plpgsql as
            'begin perform pg_advisory_lock_shared(1); return null; end';
            create trigger held before update of last_id on outbox.cursor
            for each statement execute function wait_for_the_test();
            ",
        )
        .execute(&stack.postgres.pool)
        .await
        .expect("a trigger");
        let mut lock = stack.postgres.pool.acquire().await.expect("a connection");
        sqlx::query("select pg_advisory_lock(1)")
            .execute(&mut *lock)
            .await
            .expect("a lock");
        Self { lock }
    }

    /// First ends what a relay that is dead by now has asked for: Postgres would still do it.
    async fn release(mut self, stack: &Stack) {
        eventually("the end of the relay's connections", async || {
            let ended = sqlx::query(
                r"
                select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and application_name = 'user-service'
                  and query ilike '%outbox.cursor%'
                ",
            );
            let ended = ended.execute(&stack.postgres.pool).await.ok()?;
            (ended.rows_affected() == 0).then_some(())
        })
        .await;
        sqlx::raw_sql("select pg_advisory_unlock(1); drop function wait_for_the_test cascade")
            .execute(&mut *self.lock)
            .await
            .expect("the cursor is free");
    }
}

async fn last_sequence(stack: &Stack) -> u64 {
    stack.stream().await.cached_info().state.last_sequence
}

async fn unacknowledged(stack: &Stack) -> usize {
    let info = stack.stream().await.consumer_info(stack.consumer()).await;
    info.expect("the consumer").num_ack_pending
}
