use std::fs;

use futures::{StreamExt, stream};
use testkit::{Process, eventually, mongodb::Database, nats};

use crate::support::{Api, Stack};

/// 100,000 events of more than 1 KB each wait: were they held in memory, it would show.
#[tokio::test(flavor = "multi_thread")]
async fn without_nats_memory_stays_flat_and_the_backlog_drains_afterwards() {
    const EVENTS: i64 = 100_000;
    const ALLOWED_KB: u64 = 40_000;
    let mut nats = nats::Server::start().await;
    let stack = Stack::on(nats.url(), Database::create().await).await;
    let users = stack.users(&[]).await;
    write(&users, 500).await;
    stack.drained().await;

    nats.kill();
    write(&users, 500).await;
    let before = resident_kb(&users.service.process);
    sqlx::query(
        r"
        insert into outbox.event (aggregate_type, aggregate_id, event_type, version, payload)
        select 'user', (1000000 + id)::text, 'user_created', 1,
               user_state(1000000 + id, repeat('x', 1000), 'a@example.com', now(), 1)
        from generate_series(1, $1) as id
        ",
    )
    .bind(EVENTS)
    .execute(&stack.postgres.pool)
    .await
    .expect("a backlog");
    write(&users, 500).await;
    eventually("the relay to try and fail", async || {
        let output = users.service.process.output();
        let held_up = |line: &&String| line.contains("relay is held up");
        (output.iter().filter(held_up).count() > 1).then_some(())
    })
    .await;
    let after = resident_kb(&users.service.process);
    assert!(
        after < before + ALLOWED_KB,
        "{before} kB grew to {after} kB"
    );

    nats.restart().await;
    write(&users, 500).await;
    stack.drained().await;
    let messages = stack.stream().await.cached_info().state.messages;
    assert!(
        messages >= EVENTS.unsigned_abs() + 2000,
        "{messages} messages"
    );
}

async fn write(users: &Api, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(16, async |number| {
            users.create(&format!("Ada {number}")).await;
        })
        .await;
}

fn resident_kb(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kb.expect("a size").parse().expect("a number")
}
