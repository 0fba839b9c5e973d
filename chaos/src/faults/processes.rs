//! Processes that are killed and frozen.

use anyhow::Context;
use cluster_tests::faults::Stopped;
use nix::unistd::Pid;
use tokio::time::sleep;

use crate::{plan::Fault, stack::Stack};

/// What is killed is started again after a while, with what it has on disk.
pub(super) async fn kill(stack: &Stack, fault: &Fault) -> anyhow::Result<()> {
    match fault.target {
        "postgres" => {
            let mut postgres = stack.postgres.lock().await;
            postgres.kill()?;
            sleep(fault.lasts).await;
            postgres.server.restart().await;
        }
        "nats" => {
            let mut nats = stack.nats.lock().await;
            nats.kill();
            sleep(fault.lasts).await;
            nats.restart().await;
        }
        "mongodb" => {
            let mut mongodb = stack.mongodb.lock().await;
            mongodb.kill();
            sleep(fault.lasts).await;
            mongodb.restart().await;
        }
        service => {
            let mut service = stack.service(service).context("a process")?.lock().await;
            service.kill();
            sleep(fault.lasts).await;
            service.start(&stack.logs)?;
        }
    }
    Ok(())
}

/// A frozen process holds its connections and its locks, and answers nothing.
pub(super) async fn freeze(stack: &Stack, fault: &Fault) -> anyhow::Result<()> {
    let pid = match fault.target {
        "postgres" => stack.postgres.lock().await.pid()?,
        "nats" => pid(stack.nats.lock().await.process().id())?,
        "mongodb" => pid(stack.mongodb.lock().await.process().id())?,
        service => {
            let mut service = stack.service(service).context("a process")?.lock().await;
            // One that has ended by itself is reported when the round is over.
            match service.pid() {
                Some(id) => pid(id)?,
                None => return Ok(()),
            }
        }
    };
    let mut stopped = Stopped::default();
    stopped.with_children(pid)?;
    sleep(fault.lasts).await;
    // It goes on when this is dropped, whatever ends the fault.
    drop(stopped);
    Ok(())
}

fn pid(id: u32) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(id.try_into()?))
}
