//! What imports work with, and how much of it they may take.

use std::{env, path::PathBuf};

use anyhow::Context;
use axum::body::Body;
use outbox::Written;
use postgres_pool::Pool;
use service_runtime::http::PerClientLimit;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::incoming::{Incoming, Pace};
use crate::config::ImportSettings;

/// Chunks that are written at once, and likewise all-or-nothing imports: each has a connection to
/// Postgres meanwhile, and for no longer.
const MAX_WRITES: usize = 4;
/// Bodies of all-or-nothing imports that are kept at once, until they are written.
const MAX_KEPT: usize = 8;
/// Of these, those of one client, which cannot take all places to write them.
const MAX_KEPT_PER_CLIENT: usize = MAX_WRITES / 2;
/// A chunk with its blank and overlong lines, which do not count for its size.
const MAX_CHUNK_BYTES: u64 = 64 * 1024 * 1024;

/// Shared by all imports; keeps them from taking what others need.
#[derive(Debug)]
pub(crate) struct Imports {
    pub(super) pool: Pool,
    /// Raised after each write, so that it is published at once.
    pub(super) written: Written,
    pub(super) settings: ImportSettings,
    pub(super) spool_directory: PathBuf,
    shutdown: CancellationToken,
    /// Whatever they wait for.
    pub(super) running: PerClientLimit,
    pub(super) kept: PerClientLimit,
    pub(super) chunk_writes: Semaphore,
    pub(super) whole_writes: Semaphore,
}

impl Imports {
    /// # Errors
    /// If no file can be created in the directory that was set.
    pub(crate) fn new(
        settings: ImportSettings,
        pool: Pool,
        written: Written,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let spool_directory = spool_directory(settings.spool_directory.clone())?;
        let running = PerClientLimit::new(
            "imports",
            usize::try_from(settings.max_imports)?,
            usize::try_from(settings.max_imports_per_client)?,
        );
        Ok(Self {
            pool,
            written,
            settings,
            spool_directory,
            shutdown,
            running,
            kept: PerClientLimit::new("all-or-nothing imports", MAX_KEPT, MAX_KEPT_PER_CLIENT),
            chunk_writes: Semaphore::new(MAX_WRITES),
            whole_writes: Semaphore::new(MAX_WRITES),
        })
    }

    pub(super) fn chunk_by_chunk(&self, body: Body) -> Incoming {
        let pace = Pace {
            min_rate: self.settings.import_min_rate,
            timeout: self.settings.import_chunk_timeout,
            max_bytes: MAX_CHUNK_BYTES,
        };
        Incoming::from_client(body, pace, self.shutdown.clone())
    }

    pub(super) fn whole(&self, body: Body) -> Incoming {
        let pace = Pace {
            min_rate: self.settings.import_min_rate,
            timeout: self.settings.all_or_nothing_timeout,
            max_bytes: self.settings.all_or_nothing_max_bytes,
        };
        Incoming::from_client(body, pace, self.shutdown.clone())
    }

    pub(super) fn spooled(&self, body: Body) -> Incoming {
        Incoming::spooled(body, self.shutdown.clone())
    }
}

fn spool_directory(set: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let is_set = set.is_some();
    let directory = set.unwrap_or_else(env::temp_dir);
    match tempfile::tempfile_in(&directory) {
        Ok(_) => {}
        // A container may well have no writable directory, and serve all else.
        Err(error) if !is_set => tracing::warn!(
            %error,
            directory = %directory.display(),
            "no files can be created: large all-or-nothing imports will be refused; \
             set SPOOL_DIRECTORY"
        ),
        Err(error) => {
            let what = format!("creating a file in SPOOL_DIRECTORY {}", directory.display());
            return Err(error).context(what);
        }
    }
    Ok(directory)
}
