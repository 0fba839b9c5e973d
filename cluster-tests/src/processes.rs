//! Killing, stopping and continuing processes of the cluster.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::Context;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The process that was started under this name, from `STATE_DIR/pids`; a PostgreSQL server's from its
/// data directory, since Patroni starts those.
pub fn pid_of(state_dir: &Path, name: &str) -> anyhow::Result<Pid> {
    let file = match name.starts_with("postgres-") {
        true => state_dir.join("cluster").join(name).join("postmaster.pid"),
        false => state_dir.join("pids").join(name),
    };
    let text = fs::read_to_string(&file).with_context(|| format!("{name} does not run"))?;
    let pid = text.split_whitespace().next().context("a pid")?;
    Ok(Pid::from_raw(pid.parse()?))
}

/// To the process alone; one that has ended needs no signal.
pub fn signal(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{signal} to {pid}")),
    }
}

/// A PostgreSQL server has one for each connection and task; a process that has ended has none.
pub fn children(parent: Pid) -> anyhow::Result<Vec<Pid>> {
    let children = match fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("the children of {parent}"))?,
    };
    let children = children.split_whitespace();
    let children = children.map(|pid| Ok(Pid::from_raw(pid.parse()?)));
    children.collect()
}
