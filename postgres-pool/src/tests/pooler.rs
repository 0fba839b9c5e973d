//! Behind a pooler of transactions.

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use sqlx::{Connection as _, Executor, PgConnection, SqlStr};
use testkit::{Proxy, eventually, pgbouncer::PgBouncer, postgres::Database};
use tokio::time::timeout;

use super::DEADLINE;
use crate::{Failure, Pool, Pooler, PoolerSettings, migrate, pool};

/// Of the pooler to the server; fewer than the pool of the program has.
const SERVER_CONNECTIONS: usize = 2;
const CONNECTIONS: u32 = 8;
const LOCK_TIMEOUT: Duration = Duration::from_millis(50);

fn behind(url: &str, pooler: Pooler) -> crate::Database {
    let mut database: crate::Database = url.parse().expect("a URL");
    database.pooler = PoolerSettings {
        database_pooler: pooler,
        migration_database_url: None,
    };
    database
}

async fn pooled(url: &str) -> (Pool, PgBouncer) {
    let size = format!("default_pool_size = {SERVER_CONNECTIONS}");
    let bouncer = PgBouncer::start(url, &[&size]).await;
    let database = behind(&bouncer.url(), Pooler::Transaction);
    let pool = pool(&database, CONNECTIONS, LOCK_TIMEOUT).expect("a pool");
    (pool, bouncer)
}

async fn value(pool: &Pool, statement: &'static str) -> sqlx::Result<String> {
    sqlx::query_scalar(statement)
        .bind("a parameter")
        .fetch_one(pool)
        .await
}

#[tokio::test]
async fn statements_at_once_share_few_connections_to_the_server() {
    let database = Database::create().await;
    let (pool, _bouncer) = pooled(&database.url).await;
    let echo = "select $1 || pg_sleep(0.01)";
    for _ in 0..10 {
        let answers = (0..CONNECTIONS).map(|_| value(&pool, echo));
        let answers = try_join_all(answers).await.expect("answers");
        assert!(answers.iter().all(|it| it == "a parameter"), "{answers:?}");
    }
}

#[tokio::test]
async fn timeouts_hold_in_every_transaction_and_nothing_is_left_to_other_clients() {
    let database = Database::create().await;
    let (pool, bouncer) = pooled(&database.url).await;
    pool.execute("create table t (id int)")
        .await
        .expect("a table");
    pool.execute("insert into t values (1)")
        .await
        .expect("a row");
    let settings = "select current_setting('statement_timeout') || ' '
                        || current_setting('lock_timeout') || ' ' || current_setting('jit') || ' '
                        || current_setting('idle_in_transaction_session_timeout')
                    where $1 <> ''";
    let expected = "5s 50ms off 10s";
    let all = (0..CONNECTIONS).map(|_| value(&pool, settings));
    let all = try_join_all(all).await.expect("settings");
    assert!(all.iter().all(|it| it == expected), "{all:?}");

    let mut holder = pool.begin().await.expect("a transaction");
    let held = sqlx::query_scalar::<_, String>(settings).bind("x");
    let held = held.fetch_one(&mut *holder).await.expect("settings");
    assert_eq!(held, expected);
    holder.execute("lock table t").await.expect("a lock");
    let refused = sqlx::query("select from t where id = $1")
        .bind(1)
        .execute(&pool);
    let refused = refused.await.expect_err("it is locked");
    assert_eq!(Failure::from(&refused), Failure::Locked, "{refused}");
    drop(holder);

    assert_nothing_is_left(&bouncer).await;
}

/// Each connection to the server, as another client finds it.
async fn assert_nothing_is_left(bouncer: &PgBouncer) {
    let mut clients: Vec<PgConnection> = Vec::new();
    for _ in 0..SERVER_CONNECTIONS {
        let mut client = bouncer.connect().await;
        // It keeps its connection to the server, so that the next client gets another one.
        client.execute("begin").await.expect("a transaction");
        clients.push(client);
    }
    for client in &mut clients {
        let left = "select (select count(*) from pg_prepared_statements)
                        || current_setting('statement_timeout') || current_setting('lock_timeout')
                        || current_setting('idle_in_transaction_session_timeout')
                        || current_setting('client_connection_check_interval')
                        || (select count(*) from pg_locks
                            where locktype = 'advisory' and pid = pg_backend_pid())";
        let left = sqlx::raw_sql(left).fetch_one(&mut *client).await;
        let left: String = sqlx::Row::get(&left.expect("a row"), 0);
        assert_eq!(left, "000000");
    }
}

#[tokio::test]
async fn a_statement_that_fails_or_is_abandoned_leaves_no_transaction_open() {
    let database = Database::create().await;
    let (pool, _bouncer) = pooled(&database.url).await;
    for _ in 0..CONNECTIONS {
        let refused = sqlx::query("select 1 / $1").bind(0).execute(&pool).await;
        let refused = refused.expect_err("a division by zero");
        assert_eq!(Failure::from(&refused), Failure::Refused, "{refused}");
        drop(pool.acquire().await.expect("a connection"));
        drop(pool.begin().await.expect("a transaction"));
        let sleeping = sqlx::query("select pg_sleep($1)").bind(3600.0);
        let sleeping = timeout(DEADLINE, sleeping.execute(&pool)).await;
        sleeping.expect_err("it sleeps");
    }
    eventually("a server without open transactions", async || {
        let open = "select count(*) from pg_stat_activity where pid <> pg_backend_pid()
                        and datname = current_database() and state <> 'idle'";
        let open = sqlx::query_scalar::<_, i64>(open).fetch_one(&database.pool);
        (open.await.ok()? == 0).then_some(())
    })
    .await;
    value(&pool, "select $1").await.expect("an answer");
}

/// Such as one that a cancellation met which came late, or that the role may not set.
#[tokio::test]
async fn a_transaction_whose_settings_are_refused_is_not_left_open() {
    let database = Database::create().await;
    let bouncer = PgBouncer::start(&database.url, &[]).await;
    let database = behind(&bouncer.url(), Pooler::Transaction);
    let pool = pool(&database, 1, LOCK_TIMEOUT).expect("a pool");
    let mut refused = pool.clone();
    refused.begin = Some(SqlStr::from_static(
        "begin; set local lock_timeout = 'no time'",
    ));
    for _ in 0..3 {
        let refusal = value(&refused, "select $1").await.expect_err("no time");
        assert_eq!(Failure::from(&refusal), Failure::Refused, "{refusal}");
        value(&pool, "select $1").await.expect("an answer");
    }
}

#[tokio::test]
async fn a_commit_that_is_refused_ends_its_transaction() {
    let database = Database::create().await;
    let (pool, _bouncer) = pooled(&database.url).await;
    pool.execute("create table t (id int unique deferrable initially deferred)")
        .await
        .expect("a table");
    let mut connection = pool.acquire().await.expect("a connection");
    let refused = connection.execute("insert into t values (1), (1)").await;
    refused.expect_err("it is not unique");
    // In a transaction of its own, which is over as well when it has answered.
    let timeout = "select current_setting('statement_timeout')";
    let timeout: String = sqlx::query_scalar(timeout)
        .fetch_one(&mut connection)
        .await
        .expect("an answer");
    assert_eq!(timeout, "5s");
}

/// What was at rest in the pool is found to be closed before a statement is sent, and replaced.
#[tokio::test]
async fn a_pooler_that_was_restarted_costs_no_statement() {
    let database = Database::create().await;
    let (pool, mut bouncer) = pooled(&database.url).await;
    for _ in 0..3 {
        let answers = join_all((0..CONNECTIONS).map(|_| value(&pool, "select $1"))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        bouncer.kill();
        let unavailable = value(&pool, "select $1").await.expect_err("nobody listens");
        assert_eq!(Failure::from(&unavailable), Failure::Unavailable);
        bouncer.restart().await;
    }
}

/// A connection between pooler and server that died without a word: who meets it replaces it.
#[tokio::test]
async fn silent_connections_between_pooler_and_server_are_replaced() {
    let database = Database::create().await;
    let direct: sqlx::postgres::PgConnectOptions = database.url.parse().expect("a URL");
    let server = format!("{}:{}", direct.get_host(), direct.get_port());
    let proxy = Proxy::start(server.clone()).await;
    let url = database.url.replace(&server, &proxy.address().to_string());
    let (mut pool, _bouncer) = pooled(&url).await;
    pool.deadline = DEADLINE;
    let work = async || {
        eventually("statements at once", async || {
            let answers = join_all((0..CONNECTIONS).map(|_| value(&pool, "select $1"))).await;
            answers.iter().all(Result::is_ok).then_some(())
        })
        .await;
    };
    for _ in 0..3 {
        work().await;
        proxy.black_hole();
        work().await;
    }
}

/// All its connections to the server are busy.
#[tokio::test]
async fn a_pooler_that_is_full_is_not_waited_for_without_bound() {
    let database = Database::create().await;
    let bouncer = PgBouncer::start(&database.url, &["default_pool_size = 1"]).await;
    let database = behind(&bouncer.url(), Pooler::Transaction);
    let pool = pool(&database, CONNECTIONS, LOCK_TIMEOUT).expect("a pool");
    let mut other = bouncer.connect().await;
    other.execute("begin").await.expect("a transaction");

    let started = Instant::now();
    let refused = value(&pool, "select $1")
        .await
        .expect_err("the server is busy");
    assert_eq!(Failure::from(&refused), Failure::Unavailable, "{refused}");
    assert!(started.elapsed() < Duration::from_secs(30));

    other.close().await.expect("closed");
    eventually("an answer", async || value(&pool, "select $1").await.ok()).await;
}

#[tokio::test]
async fn a_pooler_of_sessions_keeps_statements_and_settings_of_each() {
    let database = Database::create().await;
    let settings = ["pool_mode = session", "server_reset_query = discard all"];
    let bouncer = PgBouncer::start(&database.url, &settings).await;
    let database = behind(&bouncer.url(), Pooler::Session);
    let pool = pool(&database, 1, LOCK_TIMEOUT).expect("a pool");
    let lock_timeout = "select current_setting('lock_timeout') where $1 <> ''";
    for _ in 0..2 {
        assert_eq!(value(&pool, lock_timeout).await.expect("a setting"), "50ms");
    }
    let prepared = "select count(*)::text from pg_prepared_statements where $1 <> ''";
    assert_ne!(value(&pool, prepared).await.expect("a count"), "0");
}

#[tokio::test]
async fn without_a_url_of_the_server_migrations_are_refused_at_once() {
    let database = behind("postgres://postgres@localhost/any", Pooler::Transaction);
    let migrator = sqlx::migrate::Migrator::with_migrations(vec![]);
    let refused = migrate(&database, migrator, "any").await;
    let refused = refused.expect_err("an error").to_string();
    assert!(refused.contains("MIGRATION_DATABASE_URL"), "{refused}");
}
