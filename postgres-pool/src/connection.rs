//! A connection whose statements have deadlines.

use std::{io, time::Duration};

use super::{failure::READ_ONLY, pooler::Unnamed, statement_span::StatementSpan};
use futures::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, Stream},
};
use metrics::Counter;
use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement, PgTypeInfo},
};
use tokio::{runtime::Handle, time::timeout};

/// How long a connection may take to show that it works when it goes back into the pool.
const RETURN_DEADLINE: Duration = Duration::from_secs(2);

pub(super) type Answer = Either<PgQueryResult, PgRow>;

/// A connection out of the pool. When it is dropped it goes back, unless nobody knows what the
/// server is doing on it: then it is closed without another word to the server, since a word might
/// never be answered. So its place in the pool is free at once.
#[derive(Debug)]
pub struct Connection {
    /// Only taken by `drop`.
    pooled: Option<PoolConnection<Postgres>>,
    deadline: Duration,
    state: State,
    is_in_transaction: bool,
    /// Whether a [`Transaction`](super::Transaction) says when it ends.
    is_explicit: bool,
    /// Behind a pooler of transactions, what begins one with the pool's settings.
    begin: Option<SqlStr>,
    abandoned: Counter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Usable,
    /// A statement runs, or was abandoned.
    Busy,
    /// A statement broke the connection.
    Broken,
}

impl Connection {
    pub(super) fn new(
        pooled: PoolConnection<Postgres>,
        deadline: Duration,
        begin: Option<SqlStr>,
        abandoned: Counter,
    ) -> Self {
        Self {
            pooled: Some(pooled),
            deadline,
            state: State::Usable,
            is_in_transaction: false,
            is_explicit: false,
            begin,
            abandoned,
        }
    }

    /// All that a statement yields, within the deadline.
    pub(super) async fn run<'q, E>(&mut self, query: E) -> sqlx::Result<Vec<Answer>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        if self.begin.is_none() {
            return self.send(query).await;
        }
        self.begin().await?;
        let answers = self.send(Unnamed(query)).await;
        if !self.is_explicit {
            match &answers {
                Ok(_) => self.commit().await?,
                Err(_) => self.rollback().await,
            }
        }
        answers
    }

    async fn send<'q, E>(&mut self, query: E) -> sqlx::Result<Vec<Answer>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let (connection, bound) = self.parts();
        let query = bound.span.observe(query);
        bound.run(connection.fetch_many(query).try_collect()).await
    }

    /// Does nothing within a transaction.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        if self.is_in_transaction {
            return Ok(());
        }
        let begin = self.begin.clone();
        let begin = begin.unwrap_or_else(|| SqlStr::from_static("begin"));
        let begun = self.send(begin).await;
        self.is_in_transaction = true;
        if begun.is_err() {
            // It may have begun before a setting was refused.
            self.rollback().await;
        }
        begun.map(drop)
    }

    /// From now on a transaction that ends when it is committed or given back.
    pub(super) async fn begin_explicit(&mut self) -> sqlx::Result<()> {
        self.begin().await?;
        self.is_explicit = true;
        Ok(())
    }

    /// A refusal ends the transaction as well.
    pub(super) async fn commit(&mut self) -> sqlx::Result<()> {
        let committed = self.send("commit").await;
        self.is_in_transaction = !self.is_usable();
        committed.map(drop)
    }

    /// What can't be used any more is closed instead, which makes the pooler close its connection to
    /// the server as well.
    async fn rollback(&mut self) {
        if self.is_usable() && self.send("rollback").await.is_ok() {
            self.is_in_transaction = false;
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.state == State::Usable
    }

    fn parts(&mut self) -> (&mut PgConnection, Bound<'_>) {
        let connection = self.pooled.as_mut().expect("only drop takes it");
        let bound = Bound {
            deadline: self.deadline,
            state: &mut self.state,
            span: StatementSpan::start(),
        };
        (connection, bound)
    }

    /// A prepared statement is good for the connection to the server that it was prepared on.
    fn ensure_no_pooler(&self) -> sqlx::Result<()> {
        match self.begin {
            None => Ok(()),
            Some(_) => Err(sqlx::Error::Protocol(
                "statements can't be prepared behind a pooler of transactions".to_owned(),
            )),
        }
    }
}

/// What keeps a statement in bounds.
struct Bound<'c> {
    deadline: Duration,
    state: &'c mut State,
    span: StatementSpan,
}

impl Bound<'_> {
    /// If this future is dropped midway, the connection stays busy.
    async fn run<T>(self, statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        *self.state = State::Busy;
        let Ok(answer) = timeout(self.deadline, statement).await else {
            let late = Err(no_answer(self.deadline));
            self.span.conclude(&late);
            return late;
        };
        *self.state = match &answer {
            Err(error) if !leaves_it_usable(error) => State::Broken,
            _ => State::Usable,
        };
        self.span.conclude(&answer);
        answer
    }
}

/// Whether the server is known to be ready for another statement after this error. One that has
/// become read-only is not: a new connection may find the server that took its place.
fn leaves_it_usable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(refusal) => refusal
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|it| it.severity() == PgSeverity::Error && it.code() != READ_ONLY),
        // Nothing was sent.
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

pub(super) fn no_answer(deadline: Duration) -> sqlx::Error {
    let message = format!("no answer from Postgres within {deadline:?}");
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message))
}

/// Rows are collected before they are handed on, so that the deadline is about the server alone.
pub(super) fn handed_on(rows: Vec<Answer>) -> impl Stream<Item = sqlx::Result<Answer>> {
    stream::iter(rows.into_iter().map(Ok))
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Answer>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.run(query)
            .map_ok(handed_on)
            .try_flatten_stream()
            .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if self.begin.is_some() {
            let answers = self.run(query);
            return answers.map_ok(first_row).boxed();
        }
        let (connection, bound) = self.parts();
        let query = bound.span.observe(query);
        bound.run(connection.fetch_optional(query)).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        async move {
            self.ensure_no_pooler()?;
            let (connection, bound) = self.parts();
            bound.run(connection.prepare_with(sql, parameters)).await
        }
        .boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        async move {
            self.ensure_no_pooler()?;
            let (connection, bound) = self.parts();
            bound.run(connection.describe(sql)).await
        }
        .boxed()
    }
}

fn first_row(answers: Vec<Answer>) -> Option<PgRow> {
    answers.into_iter().find_map(Either::right)
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut pooled) = self.pooled.take() else {
            return;
        };
        if self.state == State::Busy {
            self.abandoned.increment(1);
        }
        match Handle::try_current() {
            Ok(runtime) if self.is_usable() => {
                runtime.spawn(give_back(pooled, self.is_in_transaction));
            }
            _ => close(&mut pooled),
        }
    }
}

async fn give_back(mut pooled: PoolConnection<Postgres>, is_in_transaction: bool) {
    if is_in_transaction {
        let rollback = sqlx::raw_sql("rollback").execute(&mut *pooled);
        if !matches!(timeout(RETURN_DEADLINE, rollback).await, Ok(Ok(_))) {
            close(&mut pooled);
            return;
        }
    }
    // It is taken out of `pooled` here, so it is closed should the time be over.
    let returned = pooled.return_to_pool();
    if timeout(RETURN_DEADLINE, returned).await.is_err() {
        tracing::warn!("closed a connection to Postgres that fell silent");
    }
}

/// Frees the connection's place in the pool and drops its socket.
fn close(pooled: &mut PoolConnection<Postgres>) {
    // Not polled, the future only closes what it was given.
    drop(pooled.return_to_pool());
}
