//! What the small stack needs of the machine that it runs on.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Machine {
    /// Directory of the services' programs; by default that of this one
    #[arg(long, env = "CHAOS_BINARIES")]
    binaries: Option<PathBuf>,
    /// An empty file system of at least 64 MiB, which NATS stores into and faults fill
    #[arg(long, env = "CHAOS_DISK")]
    pub(crate) disk: Option<PathBuf>,
}

impl Machine {
    /// With the programs of this directory.
    pub(crate) fn of(binaries: &Path) -> Self {
        Self {
            binaries: Some(binaries.to_owned()),
            disk: None,
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
