//! Child processes that a test starts, freezes, stops and kills.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread::{self, JoinHandle},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::eventually;

/// Where processes print to, if not to be kept in memory.
static LOGS: OnceLock<PathBuf> = OnceLock::new();

/// From now on each process that is started prints to the end of `NAME.log` in this directory, and
/// [`Process::output`] is empty: for what runs for hours.
///
/// # Panics
/// If it was said before.
pub fn print_into(directory: &Path) {
    let said = LOGS.set(directory.to_owned());
    said.expect("one directory in a process");
}

/// A child that does not outlive its test. What it printed is shown if the test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// # Panics
    /// If the program can't be started.
    #[must_use]
    pub fn spawn(program: &str, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        Self::spawn_as(program, program, arguments, environment)
    }

    /// Under another name than that of its program.
    ///
    /// # Panics
    /// If the program can't be started.
    #[must_use]
    pub fn spawn_as(
        name: &str,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, String)],
    ) -> Self {
        let (stdout, stderr) = match LOGS.get() {
            Some(directory) => log_file(directory, name),
            None => (Stdio::piped(), Stdio::piped()),
        };
        // Should the test (the thread that is here) end, the kernel kills the child.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            // What is set for the caller must not reach what is tested.
            .env_clear()
            .envs(
                env::vars().filter(|(name, _)| matches!(name.as_str(), "PATH" | "HOME" | "TMPDIR")),
            )
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} was not started: {error}"));
        let output = Arc::default();
        let stdout = child.stdout.take().map(|pipe| collect(pipe, &output));
        let stderr = child.stderr.take().map(|pipe| collect(pipe, &output));
        let readers = stdout.into_iter().chain(stderr).collect();
        Self {
            name: name.to_owned(),
            child,
            output,
            readers,
        }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines printed so far.
    ///
    /// # Panics
    /// If a reader of the output panicked.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.output.lock().expect("no reader panics").clone()
    }

    /// Stops it in its tracks: it holds all it has, and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// SIGKILL: no time for last words.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// SIGINT
    pub fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub async fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Afterwards [`Process::output`] is complete.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let status = eventually(&what, async || self.child.try_wait().expect("it is ours")).await;
        eventually("the end of its output", async || {
            self.readers
                .iter()
                .all(JoinHandle::is_finished)
                .then_some(())
        })
        .await;
        status
    }

    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it is ours");
    }

    fn wait(&mut self) {
        self.child.wait().expect("it is ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
        if thread::panicking() {
            println!("--- what {} printed:", self.name);
            for line in self.output() {
                println!("{line}");
            }
        }
    }
}

/// For both kinds of output.
fn log_file(directory: &Path, name: &str) -> (Stdio, Stdio) {
    let name = Path::new(name).file_name().expect("a program");
    let path = directory.join(name).with_added_extension("log");
    let file = File::options().create(true).append(true).open(path);
    let file = file.expect("a file for the output");
    let other = file.try_clone().expect("the same file");
    (file.into(), other.into())
}

fn collect(
    pipe: impl std::io::Read + Send + 'static,
    output: &Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            output.lock().expect("no reader panics").push(line);
        }
    })
}

/// One of the workspace's binaries, started.
#[derive(Debug)]
pub struct Service {
    pub process: Process,
}

impl Service {
    /// Starts `binary` from where cargo built it, on a port of its own.
    ///
    /// # Panics
    /// If it was not built.
    #[must_use]
    pub fn start(binary: &str, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let path = built(binary);
        assert!(path.exists(), "first: cargo build --workspace --bins");
        let path = path.to_str().expect("a path in UTF-8");
        let any_port = [("LISTEN_ADDR", "127.0.0.1:0".to_owned())];
        let environment = [&any_port[..], environment].concat();
        Self {
            process: Process::spawn(path, arguments, &environment),
        }
    }

    /// `http://host:port`, once it listens.
    pub async fn url(&self) -> String {
        let address = eventually("a line that says where it listens", async || {
            self.process.output().iter().find_map(|line| address(line))
        });
        format!("http://{}", address.await)
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    if line["message"] != "listening" {
        return None;
    }
    line["address"].as_str()?.parse().ok()
}

/// `target/<profile>/<binary>`; a test itself is in `target/<profile>/deps`.
fn built(binary: &str) -> PathBuf {
    let program = env::current_exe().expect("a program has a path");
    let directory = program.parent().expect("a directory");
    let profile = match directory.ends_with("deps") {
        true => directory.parent().expect("the profile's directory"),
        false => directory,
    };
    profile.join(binary)
}
