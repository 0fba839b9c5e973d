use std::fs;

use futures::{StreamExt, stream};
use testkit::{Process, mongodb::Database, nats};

use crate::support::{Api, Stack};

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_memory_stays_flat_and_the_backlog_drains_afterwards() {
    const USERS: usize = 5_000;
    const ALLOWED_KB: u64 = 32_000;
    let mut nats = nats::Server::start().await;
    let stack = Stack::on(nats.url(), Database::create().await).await;
    let (users, _notifications) = (stack.users(&[]).await, stack.notifications().await);
    write(&users, 500).await;
    stack.converged().await;

    nats.kill();
    write(&users, 500).await;
    let before = resident_kb(&users.service.process);
    write(&users, USERS).await;
    let after = resident_kb(&users.service.process);
    assert!(
        after < before + ALLOWED_KB,
        "{before} kB grew to {after} kB"
    );
    nats.restart().await;
    assert_eq!(stack.converged().await.len(), USERS + 1000);
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
