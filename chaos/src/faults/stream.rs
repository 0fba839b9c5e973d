//! A stream that loses what it has acknowledged, and its consumer.

use std::{path::Path, time::Duration};

use anyhow::{bail, ensure};
use async_nats::jetstream::{self, stream::Stream};
use fastrand::Rng;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    plan::{Fault, Kind},
    proof::Proof,
    stack::Stack,
};

/// A server that was started a moment ago answers by then.
const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);
const MESSAGES: std::ops::RangeInclusive<usize> = 1..=10;

pub(super) async fn strike(stack: &Stack, proof: &Proof, fault: &Fault) -> anyhow::Result<()> {
    // Nobody else disturbs the server meanwhile.
    let _nats = stack.nats.lock().await;
    if fault.kind.loses_messages() {
        proof.stream_loses_messages();
    }
    let begin = Instant::now();
    loop {
        match attempt(stack, fault).await {
            Err(_) if begin.elapsed() < DEADLINE => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

async fn attempt(stack: &Stack, fault: &Fault) -> anyhow::Result<()> {
    let endpoints = &stack.endpoints;
    let jetstream = jetstream::new(async_nats::connect(&endpoints.nats).await?);
    let stream = jetstream.get_stream(&endpoints.stream).await?;
    let mut rng = Rng::with_seed(fault.dice);
    match fault.kind {
        Kind::StreamDelete => ensure!(jetstream.delete_stream(&endpoints.stream).await?.success),
        Kind::StreamPurge => ensure!(stream.purge().await?.success),
        Kind::StreamPurgeOlder => {
            let end = some_sequence(&stream, &mut rng);
            ensure!(stream.purge().sequence(end).await?.success);
        }
        Kind::MessageDelete => {
            for _ in 0..rng.usize(MESSAGES) {
                let sequence = some_sequence(&stream, &mut rng);
                // It may be gone already.
                let _ = stream.delete_message(sequence).await;
            }
        }
        Kind::ConsumerDelete => {
            ensure!(stream.delete_consumer(&endpoints.consumer).await?.success);
        }
        kind => bail!("{kind:?} is no fault of streams"),
    }
    Ok(())
}

fn some_sequence(stream: &Stream, rng: &mut Rng) -> u64 {
    let state = &stream.cached_info().state;
    let first = state.first_sequence.max(1);
    rng.u64(first..=state.last_sequence.max(first))
}

/// What came after the copy was made is lost.
pub(super) async fn restore_store(
    stack: &Stack,
    proof: &Proof,
    later: Duration,
) -> anyhow::Result<()> {
    let mut nats = stack.nats.lock().await;
    let copy = tempfile::tempdir()?;
    nats.stop().await;
    let store = nats.store().to_owned();
    copy_all(&store, copy.path()).await?;
    nats.restart().await;
    sleep(later).await;
    proof.stream_loses_messages();
    nats.kill();
    empty(&store).await?;
    copy_all(copy.path(), &store).await?;
    nats.restart().await;
    Ok(())
}

async fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let all = from.join(".");
    run(Command::new("cp").arg("-a").arg(all).arg(to)).await
}

async fn empty(directory: &Path) -> anyhow::Result<()> {
    run(Command::new("find")
        .arg(directory)
        .args(["-mindepth", "1", "-delete"]))
    .await
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().await?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(())
}
