//! A small disk for each server, to be filled: a file system of its own, such as a tmpfs.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::stack::SERVERS;

pub(crate) struct Disks {
    path: PathBuf,
}

impl Disks {
    /// # Errors
    /// If one is missing, or is part of another file system: others must not run out of room.
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        let disks = Self {
            path: path.to_owned(),
        };
        let device = |path: &Path| {
            let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
            anyhow::Ok(metadata.dev())
        };
        for server in SERVERS {
            let disk = disks.of(server);
            let is_its_own = device(&disk)? != device(path)?;
            ensure!(is_its_own, "{} is no file system", disk.display());
        }
        Ok(disks)
    }

    /// Where the server is to keep all that it writes.
    pub(super) fn of(&self, server: &str) -> PathBuf {
        self.path.join(server)
    }

    /// Leaves the server no room.
    pub(crate) async fn fill(&self, server: &str) -> anyhow::Result<()> {
        let filler = self.filler(server);
        tokio::task::spawn_blocking(move || fill(&filler)).await?
    }

    pub(crate) fn make_room(&self, server: &str) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler(server))?)
    }

    fn filler(&self, server: &str) -> PathBuf {
        self.of(server).join("filler")
    }
}

fn fill(filler: &Path) -> anyhow::Result<()> {
    let mut file = File::create(filler)?;
    for size in [1 << 20, 1 << 12] {
        let block = vec![0; size];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
    }
    Ok(())
}
