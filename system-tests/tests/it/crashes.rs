use std::time::Duration;

use testkit::{Proxy, eventually};

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

    // The cursor can't move while somebody else has its row.
    let mut holding = stack.postgres.pool.begin().await.expect("a transaction");
    sqlx::query("select from relay_cursor for update")
        .execute(&mut *holding)
        .await
        .expect("the cursor's row");
    users.create("Grace").await;
    eventually("the event on the stream", async || {
        (stack.events().await.len() == 2).then_some(())
    })
    .await;
    relay.process.kill();
    // Postgres would still do what the dead relay had asked for.
    eventually("the end of the relay's statements", async || {
        let ended = sqlx::query(
            r"
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'
            ",
        );
        let ended = ended.execute(&stack.postgres.pool).await.ok()?;
        (ended.rows_affected() == 0).then_some(())
    })
    .await;
    holding.rollback().await.expect("the row is free");
    let pending: i64 = sqlx::query_scalar("select count(*) from outbox_pending")
        .fetch_one(&stack.postgres.pool)
        .await
        .expect("a count");
    assert_eq!(pending, 1, "the cursor did not move");

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
    acknowledged(&stack, 1).await;

    // From here on events come through, and acknowledgements do not.
    proxy.hold_client();
    let second = users.create("Grace").await;
    eventually("the document", async || {
        let copies = stack.copies().await?;
        copies.contains(&second).then_some(())
    })
    .await;
    notifications.service.process.kill();
    assert_eq!(unacknowledged(&stack).await, 1);

    // Changed meanwhile: its redelivered creation must not undo that.
    users.rename(&first, "Ada L.").await;
    users.rename(&second, "Grace H.").await;
    let _notifications = stack.notifications().await;
    stack.converged().await;
    acknowledged(&stack, 4).await;
    stack.converged().await;
}

#[tokio::test]
async fn whatever_is_killed_under_load_the_copy_converges() {
    let stack = Stack::new().await;
    let users = stack.users(&["--no-relay"]).await;
    let mut relay = stack.start("user-service", &["relay"]);
    let mut notifications = stack.start("notification-service", &["serve"]);
    let writing = async {
        for number in 0..150 {
            let user = users.create(&format!("Ada {number}")).await;
            users.rename(&user, &format!("Ada L. {number}")).await;
            if number % 3 == 0 {
                users.delete(&user).await;
            }
        }
    };
    let killing = async {
        for round in 0..6_u64 {
            tokio::time::sleep(Duration::from_millis(150 + 70 * round)).await;
            relay.process.kill();
            relay = stack.start("user-service", &["relay"]);
            notifications.process.kill();
            notifications = stack.start("notification-service", &["serve"]);
        }
    };
    tokio::join!(writing, killing);
    assert_eq!(stack.converged().await.len(), 100);
    assert_in_order(&stack.events().await);
}

async fn unacknowledged(stack: &Stack) -> usize {
    let info = stack.stream().await.consumer_info(stack.consumer()).await;
    info.expect("the consumer").num_ack_pending
}

async fn acknowledged(stack: &Stack, sequence: u64) {
    eventually("the acknowledgement", async || {
        let info = stack
            .stream()
            .await
            .consumer_info(stack.consumer())
            .await
            .ok()?;
        (info.ack_floor.stream_sequence >= sequence).then_some(())
    })
    .await;
}
