//! Postgres that is restarted, and servers that take its place with less than it had.

use std::time::Duration;

use anyhow::Context;
use testkit::{
    eventually,
    postgres::{BaseBackup, Server},
};
use tokio::time::sleep;

use crate::{proof::Proof, stack::Stack};

pub(super) async fn restart(stack: &Stack) -> anyhow::Result<()> {
    let mut postgres = stack.postgres.lock().await;
    postgres.server.stop().await;
    postgres.server.restart().await;
    Ok(())
}

/// What was written after the backup is lost.
pub(super) async fn restore(stack: &Stack, proof: &Proof, later: Duration) -> anyhow::Result<()> {
    let mut postgres = stack.postgres.lock().await;
    let mark = proof.mark();
    let backup = BaseBackup::of(&postgres.server);
    sleep(later).await;
    postgres.kill()?;
    proof.lost_after(mark);
    let restored = backup.restore().await;
    stack.lead_to(&mut postgres, restored);
    Ok(())
}

/// What was written after the standby was cut off is lost.
pub(super) async fn promote(stack: &Stack, proof: &Proof, later: Duration) -> anyhow::Result<()> {
    let mut postgres = stack.postgres.lock().await;
    let standby = postgres.server.standby().await;
    let mark = proof.mark();
    caught_up(&postgres.server, &standby).await?;
    standby.cut_off().await;
    sleep(later).await;
    postgres.kill()?;
    proof.lost_after(mark);
    standby.promote().await;
    stack.lead_to(&mut postgres, standby);
    Ok(())
}

/// Waits until the standby has what the primary has now.
async fn caught_up(primary: &Server, standby: &Server) -> anyhow::Result<()> {
    let position: String = sqlx::query_scalar("select pg_current_wal_lsn()::text")
        .fetch_one(&primary.database().pool)
        .await
        .context("asking the primary where it is")?;
    let standby = standby.database();
    eventually("the standby to catch up", async || {
        let is_there = sqlx::query_scalar("select pg_last_wal_replay_lsn() >= $1::pg_lsn");
        let is_there: bool = is_there
            .bind(&position)
            .fetch_one(&standby.pool)
            .await
            .ok()?;
        is_there.then_some(())
    })
    .await;
    Ok(())
}
