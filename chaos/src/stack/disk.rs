//! A small disk that can be filled: a file system of its own, such as a tmpfs.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;

pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    pub(super) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// A directory for what is to run out of room.
    pub(super) fn store(&self) -> anyhow::Result<String> {
        let store = self.path.join("nats");
        fs::create_dir_all(&store)?;
        let store = store.to_str().context("a path in UTF-8")?;
        Ok(store.to_owned())
    }

    /// Leaves no room for anybody else.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.filler())?;
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

    pub(crate) fn make_room(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}
