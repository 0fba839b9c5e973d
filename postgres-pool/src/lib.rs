//! Connections to Postgres that never wait without bound: each statement has a deadline on the server
//! and one on this side, and a connection that misses its deadline is closed, so that its place in
//! the pool is free at once.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use std::time::Duration;
//!
//! let url = "postgres://postgres@localhost:5432/users_db".parse()?;
//! let pool = postgres_pool::pool(&url, 10, Duration::from_secs(1))?;
//! let answer: i32 = sqlx::query_scalar("select 42").fetch_one(&pool).await?;
//!
//! let mut transaction = pool.begin().await?;
//! sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *transaction).await?;
//! transaction.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Knows no table: [`migrate`] brings the schema of whoever calls it up to date.

mod connection;
mod failure;
pub mod locks;
pub mod metrics;
mod migrations;
mod pool;
mod pooler;
mod statement_span;
#[cfg(test)]
mod tests;
mod transaction;

use std::{env, str::FromStr, time::Duration};

use service_runtime::connection_url::ConnectionUrl;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, SqlSafeStr as _, SqlStr,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

pub use self::{
    connection::Connection,
    failure::{Failure, retry_conflicts},
    migrations::migrate,
    pool::Pool,
    pooler::{Database, Pooler, PoolerSettings},
    transaction::Transaction,
};

/// When the server gives a statement up: below the deadline of a request, so that one that was
/// given up holds no connection.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer an answer may take than the statement, before the connection counts as lost.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// How long a request waits for a free connection, or for a new one.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that was used this recently is taken to be alive.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);
/// One that was not has to answer within this.
const PING_DEADLINE: Duration = Duration::from_secs(1);

/// A pool that connects when it is first used. Its statements wait for a lock no longer than
/// `lock_timeout`, and run no longer than [`STATEMENT_TIMEOUT`].
///
/// # Errors
/// If the URL is not one that Postgres understands.
pub fn pool(
    database: &Database,
    max_connections: u32,
    lock_timeout: Duration,
) -> anyhow::Result<Pool> {
    let Database { url, pooler } = database;
    let settings = [
        ("statement_timeout", milliseconds(STATEMENT_TIMEOUT)),
        ("lock_timeout", milliseconds(lock_timeout)),
        // Compiling a plan over many partitions takes seconds, running it a millisecond.
        ("jit", "off".to_owned()),
    ];
    let options = options(url, pooler.database_pooler)?;
    let deadline = STATEMENT_TIMEOUT + ANSWER_GRACE;
    Ok(match pooler.database_pooler {
        Pooler::None => lazy_pool(options.options(settings), max_connections, deadline),
        Pooler::Session => {
            let set = statements("set", &settings);
            let connections = connections(max_connections).after_connect(move |connection, _| {
                let set = set.clone();
                Box::pin(async move { connection.execute(set).await.map(drop) })
            });
            Pool::new(connections.connect_lazy_with(options), deadline)
        }
        Pooler::Transaction => {
            let connections = plain_connections(max_connections).connect_lazy_with(options);
            Pool {
                begin: Some(begin(&settings)),
                ..Pool::new(connections, deadline)
            }
        }
    })
}

fn lazy_pool(options: PgConnectOptions, max_connections: u32, deadline: Duration) -> Pool {
    let connections = connections(max_connections).connect_lazy_with(options);
    Pool::new(connections, deadline)
}

fn connections(max_connections: u32) -> PgPoolOptions {
    plain_connections(max_connections).before_acquire(|connection, used| {
        Box::pin(async move {
            if used.idle_for > TRUSTED_IDLE_TIME {
                let ping = timeout(PING_DEADLINE, connection.ping()).await;
                ping.map_err(|_| connection::no_answer(PING_DEADLINE))??;
            }
            Ok(true)
        })
    })
}

fn plain_connections(max_connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Asking before every use would double the round trips of a write.
        .test_before_acquire(false)
}

type Setting = (&'static str, String);

/// One round trip that begins a transaction with these settings, until its end.
fn begin(settings: &[Setting]) -> SqlStr {
    let settings = statements("set local", settings).as_str().to_owned();
    AssertSqlSafe(format!("begin; {settings}")).into_sql_str()
}

/// Of what the server is to do when the client is gone, a pooler needs what it does not see itself.
fn statements(set: &str, settings: &[Setting]) -> SqlStr {
    let gone = WHEN_THE_CLIENT_IS_GONE.into_iter();
    let gone = gone.filter(|(name, _)| !name.starts_with("tcp_"));
    let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
    let statements = settings.chain(gone);
    let statements: Vec<_> = statements
        .map(|(name, value)| format!("{set} {name} = '{value}'"))
        .collect();
    AssertSqlSafe(statements.join("; ")).into_sql_str()
}

fn milliseconds(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// So that the server ends what a lost client left behind, with its locks: it asks a silent client
/// whether it is there, also while a statement runs, and waits for none within a transaction.
const WHEN_THE_CLIENT_IS_GONE: [(&str, &str); 6] = [
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
    ("client_connection_check_interval", "1s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

fn options(url: &ConnectionUrl, pooler: Pooler) -> anyhow::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url.expose())
        // The driver's error repeats the text, which may hold a password.
        .map_err(|_| anyhow::anyhow!("DATABASE_URL is not a valid Postgres URL"))?;
    let options = named(options);
    Ok(match pooler {
        Pooler::None => options.options(WHEN_THE_CLIENT_IS_GONE),
        // It takes no parameters of a session that it can't give to the next server as well.
        Pooler::Session | Pooler::Transaction => options.extra_float_digits(None),
    })
}

/// What Postgres shows for the connections, unless the URL says it: the program's name.
fn named(options: PgConnectOptions) -> PgConnectOptions {
    if options.get_application_name().is_some() {
        return options;
    }
    let program = env::current_exe().ok();
    match program.as_deref().and_then(|it| it.file_name()?.to_str()) {
        Some(name) => options.application_name(name),
        None => options,
    }
}
