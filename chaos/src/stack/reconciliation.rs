//! What is left to an operator when messages are gone of which the relay did not know yet.

use std::time::Duration;

use anyhow::ensure;
use sqlx::{Connection, PgConnection};
use tokio::{process::Command, time::timeout};

use super::Stack;

const DEADLINE: Duration = Duration::from_secs(30);

impl Stack {
    /// Whether nobody can tell what consumers have seen (docs/restore.md).
    pub(crate) async fn is_unreconciled(&self) -> anyhow::Result<bool> {
        let asking = async {
            let mut connection = PgConnection::connect(&self.endpoints.postgres).await?;
            let is_so =
                "select exists (select from outbox.cursor where unreconciled_since is not null)";
            let is_so: bool = sqlx::query_scalar(is_so).fetch_one(&mut connection).await?;
            connection.close().await?;
            Ok(is_so)
        };
        timeout(DEADLINE, asking).await?
    }

    /// Says that the copy was compared with the users, as an operator would who has done so.
    pub(crate) async fn reconcile(&self) -> anyhow::Result<()> {
        let mut command = Command::new(self.binaries.join("user-service"));
        command.args(["outbox", "reconciled", "--yes"]);
        command.env("DATABASE_URL", &self.endpoints.postgres);
        let output = timeout(DEADLINE, command.kill_on_drop(true).output()).await??;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }
}
