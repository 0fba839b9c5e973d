//! Servers whose disk is full.

use anyhow::{Context, bail};
use tokio::time::sleep;

use crate::{plan::Fault, proof::Proof, stack::Stack};

/// Servers may give up when they find no room, until they are started again.
pub(super) async fn fill(stack: &Stack, proof: &Proof, fault: &Fault) -> anyhow::Result<()> {
    match fault.target {
        "postgres" => {
            let mut postgres = stack.postgres.lock().await;
            full(stack, fault).await?;
            postgres.kill()?;
            postgres.server.restart().await;
        }
        "nats" => {
            let mut nats = stack.nats.lock().await;
            proof.stream_loses_messages();
            full(stack, fault).await?;
            nats.kill();
            nats.restart().await;
        }
        "mongodb" => {
            let mut mongodb = stack.mongodb.lock().await;
            full(stack, fault).await?;
            mongodb.kill();
            mongodb.restart().await;
        }
        other => bail!("{other} has no disk"),
    }
    Ok(())
}

/// There is room again afterwards.
async fn full(stack: &Stack, fault: &Fault) -> anyhow::Result<()> {
    let disks = stack.disks.as_ref().context("no disks to be filled")?;
    let filled = disks.fill(fault.target).await;
    sleep(fault.lasts).await;
    disks.make_room(fault.target)?;
    filled
}
