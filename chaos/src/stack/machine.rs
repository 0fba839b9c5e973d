//! What the small stack needs of the machine that it runs on.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Machine {
    /// Directory of the services' programs; by default that of this one
    #[arg(long, env = "CHAOS_BINARIES")]
    binaries: Option<PathBuf>,
    /// Directory of an empty file system each for `postgres` (at least 1 GiB), `nats` (64 MiB) and `mongodb`
    /// (1 GiB), which these servers write into and faults fill
    #[arg(long, env = "CHAOS_DISKS")]
    pub(crate) disks: Option<PathBuf>,
}

impl Machine {
    /// With the programs of this directory.
    pub(crate) fn of(binaries: &Path) -> Self {
        Self {
            binaries: Some(binaries.to_owned()),
            disks: None,
        }
    }

    pub(crate) fn binaries(&self) -> anyhow::Result<PathBuf> {
        if let Some(binaries) = &self.binaries {
            return Ok(binaries.clone());
        }
        let program = std::env::current_exe()?;
        let directory = program.parent().context("a program is in a directory")?;
        Ok(directory.to_owned())
    }
}
