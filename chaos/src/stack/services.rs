//! A service that is started again and again, always on the same port.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use testkit::Process;

use super::Logs;

pub(crate) struct Service {
    name: &'static str,
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    process: Process,
    /// By itself.
    has_ended: bool,
}

impl Service {
    /// Starts it.
    pub(super) fn new(
        name: &'static str,
        port: u16,
        binaries: &Path,
        mut environment: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let binary = match name.starts_with("users") {
            true => "user-service",
            false => "notification-service",
        };
        let program = binaries.join(binary);
        ensure!(program.exists(), "{} was not built", program.display());
        environment.push(("LISTEN_ADDR", format!("127.0.0.1:{port}")));
        Ok(Self {
            name,
            process: spawn(name, &program, &environment)?,
            program,
            environment,
            has_ended: false,
        })
    }

    /// After it has ended.
    pub(crate) fn start(&mut self, logs: &Logs) -> anyhow::Result<()> {
        logs.ended(self.name)?;
        self.process = spawn(self.name, &self.program, &self.environment)?;
        Ok(())
    }

    /// Ends it in good order, and starts the program of another release in its place.
    pub(super) async fn update(&mut self, programs: &Path, logs: &Logs) -> anyhow::Result<()> {
        let status = self.process.stop().await;
        ensure!(status.success(), "{} ended with {status}", self.name);
        let program = self.program.file_name().context("a program")?;
        self.program = programs.join(program);
        self.start(logs)
    }

    /// SIGKILL. One that has ended by itself is left alone.
    pub(crate) fn kill(&mut self) {
        if self.is_running() {
            self.process.kill();
        } else {
            self.has_ended = true;
        }
    }

    pub(crate) fn pid(&mut self) -> Option<u32> {
        self.is_running().then(|| self.process.id())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Whether it has ended by itself since the last question. If so it was started again.
    pub(super) fn revive(&mut self, logs: &Logs) -> anyhow::Result<bool> {
        if !self.is_running() {
            self.has_ended = true;
            self.start(logs)?;
        }
        Ok(std::mem::take(&mut self.has_ended))
    }
}

fn spawn(
    name: &str,
    program: &Path,
    environment: &[(&'static str, String)],
) -> anyhow::Result<Process> {
    let program = program.to_str().context("a path in UTF-8")?;
    Ok(Process::spawn_as(name, program, &["serve"], environment))
}
