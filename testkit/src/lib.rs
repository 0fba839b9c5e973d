//! What tests need of the world around a service: real servers, a way to break them, and a way
//! to wait for what is to come. Knows no service.
//!
//! The shared servers come by environment (`TEST_DATABASE_URL`, `TEST_NATS_URL`,
//! `TEST_MONGODB_URI`), set by `scripts/test` and thrown away with all that is in them. A test
//! that stops a server starts one of its own.

mod authority;
pub mod browser;
mod collector;
pub mod escape;
pub mod fuzzing;
pub mod mongodb;
pub mod nats;
pub mod pgbouncer;
pub mod postgres;
mod process;
mod prometheus;
mod proxy;
mod published;

use std::{
    collections::BTreeSet,
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::Mutex,
    time::Duration,
};

pub use authority::Authority;
pub use collector::{Answer, CollectedSpan, Collector};
pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
pub use process::{Process, Service, print_into};
pub use prometheus::Prometheus;
pub use proxy::Proxy;
pub use published::{assert_published, assert_published_section};

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Far above what anything takes, so that only what never comes fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// Prints what the product logs within this process, for the runner to show if the test fails.
pub fn print_logs() {
    // Another test of the process may have been first.
    let _ = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_test_writer()
        .try_init();
}

/// Asks until there is an answer.
///
/// # Panics
/// If there is none within a minute; the message says what was awaited.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let answer = tokio::time::timeout(DEADLINE, asking).await;
    answer.unwrap_or_else(|_| panic!("still waiting for {what}"))
}

/// All that is in it.
///
/// # Panics
/// If something can't be read or written.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_directory(&path, &copy);
        } else {
            fs::copy(&path, &copy).expect("a copy");
        }
    }
}

/// A name that no other test has, made of letters, digits and `_`.
#[must_use]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::now_v7().simple())
}

/// A variable that `scripts/test` sets.
#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
fn required(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test"))
}

/// A port that nobody has, and that this process has not been given before: its server may not listen yet.
/// It is below the range that outgoing connections are given theirs from, so it stays free while its
/// server is down.
///
/// # Panics
/// If another thread panicked here.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("no other panics");
    loop {
        let [low, high, ..] = *uuid::Uuid::new_v4().as_bytes();
        let port = 20_000 + u16::from_le_bytes([low, high]) % 12_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}
