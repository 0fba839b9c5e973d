//! MongoDB without a primary, and MongoDB that takes no writes.

use std::time::Duration;

use anyhow::Context;
use mongodb::{Client, Database, bson::doc, error::ErrorKind, options::ClientOptions};
use tokio::time::sleep;

use crate::stack::Stack;

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

async fn admin(stack: &Stack) -> anyhow::Result<Database> {
    let mut options = ClientOptions::parse(&stack.endpoints.mongodb).await?;
    options.server_selection_timeout = Some(SERVER_DEADLINE);
    Ok(Client::with_options(options)?.database("admin"))
}
