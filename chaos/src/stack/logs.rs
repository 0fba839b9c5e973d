//! What the processes print: a file for each, which goes on when the process is started again.

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) struct Logs {
    directory: PathBuf,
}

/// Two files of this size are kept of each service.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

impl Logs {
    pub(super) fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Nobody writes to this log now.
    pub(super) fn ended(&self, name: &str) -> anyhow::Result<()> {
        let path = self.directory.join(format!("{name}.log"));
        if fs::metadata(&path)?.len() > MAX_BYTES {
            fs::rename(&path, path.with_extension("log.1"))?;
        }
        Ok(())
    }
}
