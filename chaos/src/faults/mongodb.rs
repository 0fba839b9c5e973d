//! MongoDB without a primary, MongoDB that takes no writes, and an older one in its place.

use std::time::Duration;

use anyhow::Context;
use mongodb::{Client, Database, bson::doc, error::ErrorKind, options::ClientOptions};
use tokio::time::sleep;

use crate::{proof::Proof, stack::Stack};

const SERVER_DEADLINE: Duration = Duration::from_secs(10);

/// The only member elects itself again when the time is over.
pub(super) async fn step_down(stack: &Stack, lasts: Duration) -> anyhow::Result<()> {
    let _mongodb = stack.mongodb.lock().await;
    let admin = admin(stack).await?;
    let seconds = i32::try_from(lasts.as_secs().max(1))?;
    let command =
        doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true };
    match admin.run_command(command).await {
        Ok(_) => {}
        // It closes connections.
        Err(error) if matches!(*error.kind, ErrorKind::Io(_)) => {}
        Err(error) => return Err(error).context("replSetStepDown"),
    }
    sleep(lasts).await;
    Ok(())
}

pub(super) async fn lock(stack: &Stack, lasts: Duration) -> anyhow::Result<()> {
    let _mongodb = stack.mongodb.lock().await;
    let admin = admin(stack).await?;
    let lock = admin.run_command(doc! { "fsync": 1, "lock": true }).await;
    lock.context("fsyncLock")?;
    sleep(lasts).await;
    let unlock = admin.run_command(doc! { "fsyncUnlock": 1 }).await;
    unlock.context("fsyncUnlock")?;
    Ok(())
}

/// What was applied after the backup is lost.
pub(super) async fn restore(stack: &Stack, proof: &Proof, later: Duration) -> anyhow::Result<()> {
    let mut mongodb = stack.mongodb.lock().await;
    let backup = mongodb.backup();
    sleep(later).await;
    proof.copy_is_put_back();
    mongodb.kill();
    mongodb.restore(backup).await;
    Ok(())
}

async fn admin(stack: &Stack) -> anyhow::Result<Database> {
    let mut options = ClientOptions::parse(&stack.endpoints.mongodb).await?;
    options.server_selection_timeout = Some(SERVER_DEADLINE);
    Ok(Client::with_options(options)?.database("admin"))
}
