//! Talking to MongoDB: pools of connections for each kind of work, and a bound on every call.

use std::{sync::Arc, time::Duration};

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
use tokio::{
    sync::Semaphore,
    time::{Instant, error::Elapsed, timeout_at},
};

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

/// A database, over connections that other work does not use.
///
/// The driver's queue for connections has no bound, and what waits in it can't be taken back. So there
/// are as many permits as connections: a call waits for one before the driver hears of it, and keeps it
/// until it is over, whether somebody still waits for its answer or not.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    database: Database,
    permits: Arc<Semaphore>,
}

impl Pool {
    /// At most `connections`, opened when first used.
    ///
    /// # Errors
    /// If the URI is not one that MongoDB understands.
    pub(crate) async fn open(
        uri: &ConnectionUrl,
        database: &str,
        connections: u32,
    ) -> anyhow::Result<Self> {
        Self::with(options(uri).await?, database, connections)
    }

    /// At most `connections`, unless the URI says how many (`maxPoolSize`).
    ///
    /// # Errors
    /// If the URI is not one that MongoDB understands.
    pub(crate) async fn open_for_requests(
        uri: &ConnectionUrl,
        database: &str,
        connections: u32,
    ) -> anyhow::Result<Self> {
        let options = options(uri).await?;
        let connections = options.max_pool_size.unwrap_or(connections);
        Self::with(options, database, connections)
    }

    fn with(options: ClientOptions, database: &str, connections: u32) -> anyhow::Result<Self> {
        let client = client(options, connections)?;
        Ok(Self::new(client.database(database), connections))
    }

    /// The client of `database` has so many connections.
    pub(crate) fn new(database: Database, connections: u32) -> Self {
        Self {
            database,
            permits: Arc::new(Semaphore::new(connections as usize)),
        }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Awaits `call` for at most `deadline`, and before that for a permit. Whoever is dropped while it
    /// waits for a permit leaves nothing behind.
    ///
    /// # Errors
    /// If the call failed or is late; a late call may still take effect.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        deadline: Duration,
        call: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
    ) -> Result<T, Failure> {
        let end = Instant::now() + deadline;
        let permit = timeout_at(end, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| Failure::Late(deadline))?;
        let permit = permit.expect("nobody closes the semaphore");
        let call = async move {
            let _held = permit;
            call.await
        };
        let answer = detached(end, call).await;
        Ok(answer.map_err(|_| Failure::Late(deadline))??)
    }
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
    client(options(uri).await?, streams + SPARE_CONNECTIONS)
}

fn client(mut options: ClientOptions, connections: u32) -> anyhow::Result<Client> {
    options.max_pool_size = Some(connections);
    // The driver would keep to a `minPoolSize` of the URI that is above that.
    options.min_pool_size = options.min_pool_size.map(|least| least.min(connections));
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

/// Awaits `call` for at most `deadline`, without a permit: for change streams, which are few and hold
/// connections between their calls.
///
/// # Errors
/// If the call failed or is late; a late call may still take effect.
pub(crate) async fn call<T: Send + 'static>(
    deadline: Duration,
    call: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
) -> Result<T, Failure> {
    let answer = detached(Instant::now() + deadline, call).await;
    Ok(answer.map_err(|_| Failure::Late(deadline))??)
}

/// Awaits `call` until `end`.
///
/// The driver's futures are not to be dropped midway, yet deadlines and clients that hang up drop
/// ours: the call runs in a task of its own. The driver's heartbeats end it if the server hangs. If
/// but its own connection has fallen silent, it is dropped after all, which closes the connection:
/// the pool would run out of connections otherwise.
async fn detached<T: Send + 'static>(
    end: Instant,
    call: impl Future<Output = T> + Send + 'static,
) -> Result<T, Elapsed> {
    let call = tokio::spawn(timeout_at(end + LATE_CALL_LIMIT, call));
    match timeout_at(end, call).await? {
        Ok(answer) => answer,
        // Nobody aborts the task, so what ended it early can only be a panic.
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}

/// Which process the primary is; `None` of servers that do not tell, and of a sharded cluster, where any of
/// several routers may answer.
///
/// # Errors
/// If it does not answer within `deadline`.
pub(crate) async fn server_process(
    pool: &Pool,
    deadline: Duration,
) -> Result<Option<String>, Failure> {
    let database = pool.database.clone();
    let hello = async move { database.run_command(doc! { "hello": 1 }).await };
    let answer = pool.call(deadline, hello).await?;
    if answer.get_str("msg").is_ok_and(|it| it == "isdbgrid") {
        return Ok(None);
    }
    let version = answer.get_document("topologyVersion").ok();
    let process = version.and_then(|version| version.get_object_id("processId").ok());
    Ok(process.map(|id| id.to_hex()))
}

/// Whether a server takes commands now.
pub(crate) fn check(pool: Pool) -> Check {
    Check::new("mongodb", move || {
        let pool = pool.clone();
        let database = pool.database.clone();
        let ping = async move { database.run_command(doc! { "ping": 1 }).await };
        async move { Ok(pool.call(PING_DEADLINE, ping).await.map(drop)?) }
    })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use mongodb::{Client, error::Error};
    use tokio::{sync::oneshot, time::timeout};

    use super::{Failure, Pool};

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn what_waits_for_a_permit_is_late_in_time_and_leaves_nothing_behind_if_it_is_given_up() {
        let client = Client::with_uri_str("mongodb://localhost").await;
        let pool = Pool::new(client.expect("a URI").database("test"), 1);
        let (tell, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let abandoned = pool.call(LONG, async move {
            tell.send(()).expect("somebody listens");
            ended.await.expect("it is ended");
            Ok(())
        });
        tokio::select! {
            _ = abandoned => panic!("it goes on"),
            begun = begun => begun.expect("begun"),
        }

        let has_run = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&has_run);
        let given_up = pool.call(LONG, async move {
            runs.store(true, Ordering::Relaxed);
            Ok(())
        });
        let given_up = timeout(Duration::from_millis(10), given_up).await;
        assert!(given_up.is_err(), "the other one goes on");
        let late = pool.call(Duration::from_millis(10), async { Ok(()) }).await;
        assert!(matches!(late, Err(Failure::Late(_))));
        end.send(()).expect("it goes on");
        let next = pool.call(LONG, async { Ok(()) }).await;
        next.expect("the permit of the first");
        assert!(!has_run.load(Ordering::Relaxed));
    }

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
