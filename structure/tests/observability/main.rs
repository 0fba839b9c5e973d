//! Alerts, their tests, their runbooks and the dashboard agree with each other and with the metrics
//! that the code declares.

mod alerts;
mod dashboard;
mod expression;
mod metrics;

use std::{env, fs, path::PathBuf, process::Command};

/// The text of a file, named from the root of the repository.
fn read(file: &str) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs `promtool` in `directory` (from `PROMTOOL_BIN`, else the one that is installed).
#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
fn promtool(directory: &std::path::Path, arguments: &[&str]) {
    let program = env::var("PROMTOOL_BIN").unwrap_or_else(|_| "promtool".to_owned());
    let mut command = Command::new(&program);
    run(command.args(arguments).current_dir(directory));
}

/// What it prints. Fails if it fails.
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} was not started: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} failed:\n{stdout}\n{stderr}"
    );
    stdout
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n\n{}\n", faults.join("\n"));
}
