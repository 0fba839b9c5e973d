//! What the processes print: a file for each, which goes on when the process is started again.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use protocol_model::conformance::{Conformance, Violation};

use super::SERVICES;

pub(crate) struct Logs {
    directory: PathBuf,
    decisions: Mutex<Decisions>,
}

/// What the services have decided so far.
#[derive(Default)]
struct Decisions {
    conformance: Conformance,
    /// How many bytes of each log.
    read: HashMap<String, u64>,
}

/// Has services record what they decide.
pub(crate) const RECORDING: &[(&str, &str)] =
    &[("RUST_LOG", "info,async_nats=warn,decision=trace")];

/// Two files of this size are kept of each service.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

impl Logs {
    pub(super) fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            decisions: Mutex::default(),
        }
    }

    /// Nobody writes to this log now.
    pub(super) fn ended(&self, name: &str) -> anyhow::Result<()> {
        let mut decisions = self.decisions();
        let path = self.path(name);
        decisions.read(name, &path)?;
        if fs::metadata(&path)?.len() > MAX_BYTES {
            fs::rename(&path, path.with_extension("log.1"))?;
            decisions.read.remove(name);
        }
        Ok(())
    }

    /// Decisions that the model does not allow, of those that were not looked at before. For services that
    /// run with [`RECORDING`].
    pub(crate) fn violations(&self) -> anyhow::Result<Vec<String>> {
        let mut decisions = self.decisions();
        for name in SERVICES {
            decisions.read(name, &self.path(name))?;
        }
        let violations = decisions.conformance.violations();
        let decided = |it: &Violation| format!("decided against the model, {it}");
        let mut violations: Vec<_> = violations.iter().map(decided).collect();
        if decisions.conformance.decisions() == 0 {
            violations.push("the services have logged no decision".to_owned());
        }
        Ok(violations)
    }

    /// To be written to its end.
    pub(crate) fn of(&self, name: &str) -> io::Result<File> {
        File::options()
            .append(true)
            .create(true)
            .open(self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    fn decisions(&self) -> MutexGuard<'_, Decisions> {
        self.decisions.lock().expect("no reader panics")
    }
}

impl Decisions {
    /// What was written since the last time, as far as its lines are complete.
    fn read(&mut self, name: &str, log: &Path) -> anyhow::Result<()> {
        let from = self.read.entry(name.to_owned()).or_default();
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(*from))?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                return Ok(());
            }
            *from += length as u64;
            self.conformance.read(name, &String::from_utf8_lossy(&line));
        }
    }
}
