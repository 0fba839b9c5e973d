//! The pool that all statements go through.

use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, TryFutureExt, future::BoxFuture, stream::BoxStream};
use sqlx::{
    Describe, Either, Execute, Executor, PgPool, Postgres, SqlStr,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use tokio::time::timeout;

use super::{
    ACQUIRE_TIMEOUT, ANSWER_GRACE, STATEMENT_TIMEOUT,
    connection::{Connection, handed_on},
    metrics::PoolMetrics,
    transaction::Transaction,
};

/// Connections to Postgres. Each statement has a deadline on this side of the connection as well,
/// whoever runs it: a server that is gone without a word never answers, and sqlx would wait.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(super) connections: PgPool,
    /// How long a statement may take, seen from here.
    pub(super) deadline: Duration,
    /// Behind a pooler of transactions, what begins one with the settings of this pool.
    pub(super) begin: Option<SqlStr>,
    pub(super) metrics: PoolMetrics,
}

impl Pool {
    pub(super) fn new(connections: PgPool, deadline: Duration) -> Self {
        Self {
            connections,
            deadline,
            begin: None,
            metrics: PoolMetrics::none(),
        }
    }

    /// Measures the pool from now on, under this name ([`metrics`](super::metrics)). Pools of one name
    /// in a process would be mixed up.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.metrics = PoolMetrics::new(name, &self.connections);
        self
    }

    /// A connection for several statements.
    ///
    /// # Errors
    /// If none is free, and none can be made, within the pool's bound.
    pub async fn acquire(&self) -> sqlx::Result<Connection> {
        let began = Instant::now();
        let acquired = match &self.begin {
            None => self.connect(None).await,
            Some(begin) => {
                let begun = timeout(ACQUIRE_TIMEOUT, self.acquire_begun(begin)).await;
                begun.unwrap_or(Err(sqlx::Error::PoolTimedOut))
            }
        };
        self.metrics.acquired(began, &acquired);
        acquired
    }

    /// Whether others use the connections to the server between two transactions: then none should be
    /// held only to wait.
    #[must_use]
    pub fn shares_server_connections(&self) -> bool {
        self.begin.is_some()
    }

    async fn connect(&self, begin: Option<SqlStr>) -> sqlx::Result<Connection> {
        let pooled = self.connections.acquire().await?;
        let abandoned = self.metrics.abandoned.clone();
        Ok(Connection::new(pooled, self.deadline, begin, abandoned))
    }

    /// A connection whose transaction has begun: so it is known to work, and a server to be there. One
    /// that the pooler or its server has closed is replaced, which does no harm before the first
    /// statement; there are no more of those than the pool has places.
    async fn acquire_begun(&self, begin: &SqlStr) -> sqlx::Result<Connection> {
        let mut left = self.connections.options().get_max_connections();
        loop {
            let mut connection = self.connect(Some(begin.clone())).await?;
            match connection.begin().await {
                Ok(()) => return Ok(connection),
                Err(_) if left > 0 && !connection.is_usable() => left -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A transaction; it is rolled back unless it is committed.
    ///
    /// # Errors
    /// If there is no connection, or Postgres does not begin.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        Transaction::begin(self.acquire().await?).await
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let rows = async move { self.acquire().await?.run(query).await };
        rows.map_ok(handed_on).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { self.acquire().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        async move { self.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'p: 'e,
    {
        async move { self.acquire().await?.describe(sql).await }.boxed()
    }
}

/// A pool of the caller's own settings: its statements get the usual deadline on this side.
impl From<PgPool> for Pool {
    fn from(connections: PgPool) -> Self {
        Self::new(connections, STATEMENT_TIMEOUT + ANSWER_GRACE)
    }
}
