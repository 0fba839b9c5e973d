//! An operator who has the copy made anew, and is killed if that takes too long.

use anyhow::Context;
use tokio::{process::Command, time::timeout};

use crate::{plan::Fault, stack::Stack};

/// Other faults may end it as well: whatever happens to it, the copy stays right.
pub(super) async fn rebuild(stack: &Stack, fault: &Fault) -> anyhow::Result<()> {
    let endpoints = &stack.endpoints;
    let mut command = Command::new(stack.binaries.join("notification-service"));
    command.arg("rebuild").kill_on_drop(true);
    command
        .env("NATS_URL", &endpoints.nats)
        .env("MONGODB_URI", &endpoints.mongodb)
        .env("MONGODB_DATABASE", &endpoints.mongodb_database);
    let log = stack.logs.of("rebuild")?;
    command.stdout(log.try_clone()?).stderr(log);
    let mut rebuild = command.spawn().context("notification-service rebuild")?;
    if timeout(fault.lasts, rebuild.wait()).await.is_err() {
        rebuild.kill().await?;
    }
    Ok(())
}
