mod pooler;

use std::time::Duration;

use sqlx::{Executor, postgres::PgConnectOptions};
use testkit::{Proxy, eventually, postgres::Database};
use tokio::time::timeout;

use super::{Pool, lazy_pool};

/// Far shorter than in the service, so that many rounds take little time.
const DEADLINE: Duration = Duration::from_millis(300);
/// Where none is to be missed.
const PATIENT: Duration = Duration::from_mins(1);
/// More than the pool has places.
const ROUNDS: usize = 4;

/// A pool of two connections behind a proxy.
async fn pool(deadline: Duration) -> (Pool, Proxy) {
    let database = Database::create().await;
    let direct: PgConnectOptions = database.url.parse().expect("a URL");
    let proxy = Proxy::start(format!("{}:{}", direct.get_host(), direct.get_port())).await;
    let behind = direct.host("127.0.0.1").port(proxy.address().port());
    (lazy_pool(behind, 2, deadline), proxy)
}

async fn works(pool: &Pool) -> bool {
    let both = tokio::join!(pool.execute("select 1"), pool.execute("select 1"));
    both.0.is_ok() && both.1.is_ok()
}

/// Both connections are made and stand ready.
async fn filled(pool: &Pool) {
    eventually("two statements at once", async || {
        works(pool).await.then_some(())
    })
    .await;
    eventually("two idle connections", async || {
        (pool.connections.num_idle() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_when_its_statement_misses_the_deadline() {
    let (pool, proxy) = pool(DEADLINE).await;
    for _ in 0..ROUNDS {
        filled(&pool).await;
        proxy.black_hole();
        let missed = pool.execute("select 1").await;
        assert!(matches!(missed, Err(sqlx::Error::Io(_))), "{missed:?}");
    }
    filled(&pool).await;
}

#[tokio::test]
async fn a_statement_that_is_dropped_midway_leaves_its_place_in_the_pool() {
    let (pool, _proxy) = pool(DEADLINE).await;
    for _ in 0..ROUNDS {
        filled(&pool).await;
        let sleeping = pool.execute("select pg_sleep(3600)");
        let dropped = timeout(DEADLINE / 10, sleeping).await;
        assert!(dropped.is_err(), "it sleeps");
        assert_eq!(pool.connections.size(), 1, "it was closed at once");
    }
    filled(&pool).await;
}

#[tokio::test]
async fn a_connection_that_falls_silent_before_its_return_leaves_its_place_in_the_pool() {
    let (pool, proxy) = pool(PATIENT).await;
    for _ in 0..ROUNDS {
        filled(&pool).await;
        let connection = pool.acquire().await.expect("a connection");
        let transaction = pool.begin().await.expect("a transaction");
        proxy.black_hole();
        drop((connection, transaction));
        eventually("closed connections", async || {
            (pool.connections.size() == 0).then_some(())
        })
        .await;
    }
    filled(&pool).await;
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_rolled_back_and_its_connection_used_again() {
    let (pool, _proxy) = pool(PATIENT).await;
    pool.execute("create table t ()").await.expect("a table");
    filled(&pool).await;
    for _ in 0..ROUNDS {
        let mut transaction = pool.begin().await.expect("a transaction");
        let inserted = transaction.execute("insert into t default values").await;
        inserted.expect("a row");
        drop(transaction);
        let mut refused = pool.begin().await.expect("a transaction");
        refused
            .execute("no statement")
            .await
            .expect_err("it is none");
        drop(refused);
        filled(&pool).await;
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from t")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(rows, 0);
    assert_eq!(pool.connections.size(), 2);
}
