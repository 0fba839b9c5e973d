//! Recovery to a point in time, from a copy of a server and the write-ahead log that it archived.

use std::fs;

use super::{Server, home::Home};
use crate::eventually;

/// Where a server puts each part of its write-ahead log that is complete.
#[derive(Debug)]
pub struct Archive(Home);

impl Default for Archive {
    fn default() -> Self {
        Self(Home::new())
    }
}

impl Archive {
    /// Settings of a server that is to fill it.
    #[must_use]
    pub fn settings(&self) -> [String; 2] {
        let directory = self.0.path().display();
        [
            "archive_mode=on".to_owned(),
            format!("archive_command=cp %p {directory}/%f"),
        ]
    }

    /// Has the server archive what it has written up to now.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub async fn complete(&self, server: &Server) {
        let database = server.database();
        let last: String = sqlx::query_scalar("select pg_walfile_name(pg_switch_wal())")
            .fetch_one(&database.pool)
            .await
            .expect("the name of a file");
        eventually("the archive of the write-ahead log", async || {
            self.0.path().join(&last).exists().then_some(())
        })
        .await;
    }
}

/// A copy of a server's data directory.
#[derive(Debug)]
pub struct BaseBackup {
    home: Home,
    settings: Vec<String>,
}

impl BaseBackup {
    /// What the server has now.
    ///
    /// # Panics
    /// If the server refuses.
    #[must_use]
    pub fn of(server: &Server) -> Self {
        Self {
            home: server.copy(&["--wal-method=fetch"]),
            settings: server.settings().to_vec(),
        }
    }

    /// A server with what was written until `target`, such as
    /// `recovery_target_name=before_the_accident`.
    ///
    /// # Panics
    /// If it does not take writes within a minute.
    pub async fn recover(self, archive: &Archive, target: &str) -> Server {
        let restore = format!("restore_command=cp {}/%f %p", archive.0.path().display());
        self.promoted(&[&restore, target]).await
    }

    /// A server with what was there when the copy was made, and the settings of the original.
    ///
    /// # Panics
    /// If it does not take writes within a minute.
    pub async fn restore(self) -> Server {
        self.promoted(&["restore_command=false", "recovery_target=immediate"])
            .await
    }

    /// Recovers, begins a timeline, and takes writes.
    async fn promoted(self, recovery: &[&str]) -> Server {
        fs::write(self.home.data().join("recovery.signal"), "").expect("a file");
        let recovery = [recovery, &["recovery_target_action=promote"]].concat();
        let server = Server::recover(self.home, self.settings, &recovery).await;
        let database = server.database();
        eventually("the end of the recovery", async || {
            let is_in_recovery = sqlx::query_scalar("select pg_is_in_recovery()");
            let is_in_recovery: bool = is_in_recovery.fetch_one(&database.pool).await.ok()?;
            (!is_in_recovery).then_some(())
        })
        .await;
        server
    }
}
