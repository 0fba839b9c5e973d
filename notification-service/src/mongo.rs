//! Talking to MongoDB: one client per process, and a bound on every call.

use std::time::Duration;

use anyhow::anyhow;
use mongodb::{
    Client, Collection, Database,
    bson::{RawDocument, doc},
    error::{Error, ErrorKind},
    options::{
        Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference,
        SelectionCriteria, WriteConcern,
    },
};
use service_runtime::{connection_url::ConnectionUrl, health::Check};
use tokio::time::timeout;

const APP_NAME: &str = "notification-service";
/// How long the driver looks for a server that can take a command.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(2);
/// Also how long the answer to a heartbeat may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For what is asked beside the change streams.
const SPARE_CONNECTIONS: u32 = 3;
/// A server that hangs, or whose connections have fallen silent, is given up after one heartbeat and
/// the time for its answer. All calls on those connections end then.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Firewalls forget connections that are idle for longer.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);
/// How much longer than its deadline a call may hold its connection.
const LATE_CALL_LIMIT: Duration = Duration::from_secs(5);
const PING_DEADLINE: Duration = Duration::from_secs(3);

/// Of either size: what others have written may be smaller than ours.
pub(crate) fn whole_number(document: &RawDocument, field: &str) -> Option<i64> {
    let value = document.get(field).ok()??;
    value.as_i64().or(value.as_i32().map(i64::from))
}

/// A client of its own pool of connections, opened when first used.
///
/// # Errors
/// If the URI is not one that MongoDB understands.
pub(crate) async fn client(uri: &ConnectionUrl) -> anyhow::Result<Client> {
    Client::with_options(options(uri).await?).map_err(|error| without_uri(&error))
}

/// A client for up to `streams` change streams at once. Each holds a connection while it waits
/// for changes, which must not be one that a read or a write would need.
///
/// # Errors
/// If the URI is not one that MongoDB understands.
pub(crate) async fn change_stream_client(
    uri: &ConnectionUrl,
    streams: u32,
) -> anyhow::Result<Client> {
    let mut options = options(uri).await?;
    options.max_pool_size = Some(streams + SPARE_CONNECTIONS);
    Client::with_options(options).map_err(|error| without_uri(&error))
}

/// A client for one task that works in the background, with at most `connections`.
///
/// # Errors
/// If the URI is not one that MongoDB understands.
pub(crate) async fn background_client(
    uri: &ConnectionUrl,
    connections: u32,
) -> anyhow::Result<Client> {
    let mut options = options(uri).await?;
    options.max_pool_size = Some(connections);
    Client::with_options(options).map_err(|error| without_uri(&error))
}

async fn options(uri: &ConnectionUrl) -> anyhow::Result<ClientOptions> {
    let mut options = ClientOptions::parse(uri.expose())
        .await
        .map_err(|error| without_uri(&error))?;
    options.app_name.get_or_insert_with(|| APP_NAME.to_owned());
    options
        .server_selection_timeout
        .get_or_insert(SERVER_SELECTION_TIMEOUT);
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.heartbeat_freq.get_or_insert(HEARTBEAT_INTERVAL);
    options.max_idle_time.get_or_insert(MAX_IDLE_TIME);
    Ok(options)
}

/// The driver's error may repeat a part of the URI, which may hold a password.
fn without_uri(error: &Error) -> anyhow::Error {
    match error.kind.as_ref() {
        ErrorKind::DnsResolve { .. } => anyhow!("the SRV record of MONGODB_URI can't be resolved"),
        _ => anyhow!("MONGODB_URI is not a valid MongoDB URI"),
    }
}

/// A collection that is read on the primary. As with [`preferred`], reads show only what a majority of
/// the members has, so that no election takes it back, and writes are acknowledged once a majority has
/// them in its journal, whatever the URI says.
pub(crate) fn primary<T: Send + Sync>(database: &Database, name: &str) -> Collection<T> {
    let mut options = majority();
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    database.collection_with_options(name, options)
}

/// A collection that is read on the members that the URI prefers: they may be behind.
pub(crate) fn preferred<T: Send + Sync>(database: &Database, name: &str) -> Collection<T> {
    database.collection_with_options(name, majority())
}

fn majority() -> CollectionOptions {
    let write_concern = WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .journal(true)
        .build();
    CollectionOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(write_concern)
        .build()
}

/// Why nothing is known to have been done. Trying again later may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("MongoDB did not answer within {0:?}")]
    Late(Duration),
    #[error("MongoDB has not confirmed the write: {0}")]
    Unconfirmed(String),
    /// Without the server's whole answer, which the driver's own text has in raw bytes.
    #[error("{}", .0.kind)]
    Driver(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

/// `MaxTimeMSExpired`
const TIME_LIMIT_EXCEEDED: i32 = 50;

impl Failure {
    /// Whether MongoDB ended the command for its `maxTimeMS`: it works, but is slow.
    pub(crate) fn is_time_limit(&self) -> bool {
        let Self::Driver(error) = self else {
            return false;
        };
        matches!(error.kind.as_ref(), ErrorKind::Command(error) if error.code == TIME_LIMIT_EXCEEDED)
    }
}

/// Awaits `call` for at most `deadline`.
///
/// The driver's futures are not to be dropped midway, yet deadlines and clients that hang up drop
/// ours: the call runs in a task of its own. The driver's heartbeats end it if the server hangs. If
/// but its own connection has fallen silent, it is dropped after all, which closes the connection:
/// the pool would run out of connections otherwise.
///
/// # Errors
/// If the call failed or is late; a late call may still take effect.
pub(crate) async fn call<T: Send + 'static>(
    deadline: Duration,
    call: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
) -> Result<T, Failure> {
    let call = tokio::spawn(timeout(deadline + LATE_CALL_LIMIT, call));
    match timeout(deadline, call).await {
        Ok(Ok(answer)) => Ok(answer.map_err(|_| Failure::Late(deadline))??),
        // Nobody aborts the task, so what ended it early can only be a panic.
        Ok(Err(ended)) => std::panic::resume_unwind(ended.into_panic()),
        Err(_) => Err(Failure::Late(deadline)),
    }
}

/// Which process the primary is; `None` of servers that do not tell, and of a sharded cluster, where any of
/// several routers may answer.
///
/// # Errors
/// If it does not answer within `deadline`.
pub(crate) async fn server_process(
    database: &Database,
    deadline: Duration,
) -> Result<Option<String>, Failure> {
    let database = database.clone();
    let hello = async move { database.run_command(doc! { "hello": 1 }).await };
    let answer = call(deadline, hello).await?;
    if answer.get_str("msg").is_ok_and(|it| it == "isdbgrid") {
        return Ok(None);
    }
    let version = answer.get_document("topologyVersion").ok();
    let process = version.and_then(|version| version.get_object_id("processId").ok());
    Ok(process.map(|id| id.to_hex()))
}

/// Whether a server takes commands now.
pub(crate) fn check(database: Database) -> Check {
    Check::new("mongodb", move || {
        let database = database.clone();
        let ping = async move { database.run_command(doc! { "ping": 1 }).await };
        async move { Ok(call(PING_DEADLINE, ping).await.map(drop)?) }
    })
}

#[cfg(test)]
mod tests {
    use mongodb::error::Error;

    use super::Failure;

    #[test]
    fn a_failure_is_told_without_what_the_driver_adds() {
        let full_disk = || Error::from(std::io::Error::other("no room is left"));
        assert!(full_disk().to_string().contains("labels"));
        let told = Failure::from(full_disk()).to_string();
        assert!(
            told.contains("no room is left") && !told.contains("labels"),
            "{told}"
        );
    }
}
