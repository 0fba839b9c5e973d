//! What relays and projectors decide under faults is what the model of the protocol allows.

use std::sync::atomic::{AtomicBool, Ordering};

use protocol_model::conformance::Conformance;
use testkit::{Service, eventually};

use crate::support::{Api, Stack};

fn start(stack: &Stack, binary: &str, command: &str) -> Service {
    let mut environment = stack.environment();
    environment.push(("RUST_LOG", "info,decision=trace".to_owned()));
    Service::start(binary, &[command], &environment)
}

fn start_relay(stack: &Stack) -> Service {
    start(stack, "user-service", "relay")
}

async fn start_projector(stack: &Stack) -> Service {
    let projector = start(stack, "notification-service", "serve");
    Api::ready(projector).await.service
}

/// Waits until another relay leads.
async fn taken_over(stack: &Stack, epoch: i64) {
    eventually("a takeover", async || {
        (stack.epoch().await > epoch).then_some(())
    })
    .await;
}

/// Waits until somebody holds the relay's lease, or until it has expired.
async fn lease(stack: &Stack, is_held: bool) {
    eventually("the lease", async || {
        let held = "select expires_at > clock_timestamp() from outbox.lease";
        let held = sqlx::query_scalar(held).fetch_one(&stack.postgres.pool);
        let held: bool = held.await.ok()?;
        (held == is_held).then_some(())
    })
    .await;
}

#[tokio::test]
async fn relays_and_projectors_that_are_frozen_and_killed_decide_what_the_model_allows() {
    let stack = Stack::new().await;
    let users = stack.users(&["--no-relay"]).await;
    let mut relays = [start_relay(&stack), start_relay(&stack)];
    let mut projectors = [start_projector(&stack).await, start_projector(&stack).await];
    let is_over = AtomicBool::new(false);
    let mut over = Vec::new();
    let striking = async {
        // Both are frozen, since nobody tells from outside who leads; the one that thaws first takes over.
        for first in [0, 1] {
            stack.at_work().await;
            relays.iter().for_each(|it| it.process.freeze());
            lease(&stack, false).await;
            relays[first].process.thaw();
            lease(&stack, true).await;
            let epoch = stack.epoch().await;
            stack.at_work().await;
            relays[1 - first].process.thaw();
            relays[first].process.kill();
            over.push(std::mem::replace(&mut relays[first], start_relay(&stack)));
            taken_over(&stack, epoch).await;

            let published = stack.at_work().await;
            projectors[first].process.kill();
            let started = start_projector(&stack).await;
            over.push(std::mem::replace(&mut projectors[first], started));
            stack.acknowledged(published).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(users.write_until(&is_over), striking);
    stack.converged().await;

    let mut conformance = Conformance::default();
    let mut logs = Vec::new();
    for mut service in over.into_iter().chain(relays).chain(projectors) {
        if service.process.is_running() {
            assert!(service.process.stop().await.success());
        }
        service.process.ended().await;
        logs.push(service.process.output());
    }
    for (number, log) in logs.iter().enumerate() {
        let name = format!("log {number}");
        log.iter().for_each(|line| conformance.read(&name, line));
    }
    assert_eq!(conformance.violations(), []);
    for decision in [
        "lease_taken",
        "session_began",
        "sent",
        "published",
        "cursor_saved",
        "received",
        "applied",
        "acknowledged",
    ] {
        let said = format!(r#""decision":"{decision}""#);
        let is_told = logs.iter().flatten().any(|line| line.contains(&said));
        assert!(is_told, "nothing was {decision}");
    }
}
