//! Events too large for one read, and ids that say nothing of their order.

use sqlx::{AssertSqlSafe, PgPool};
use testkit::eventually;

use super::{Follow, Writer, ledger, new_account, reader, write};

/// More of them than one statement brings, late and new.
#[tokio::test]
async fn large_events_are_found_in_their_order() {
    let pool = ledger().await;
    let mut reader = reader(&pool, 1000);
    let account = new_account(&pool).await;
    let mut late = Writer::begin(&pool).await;
    let mut expected = Vec::new();
    for _ in 0..20 {
        expected.push(late.change(account).await);
    }
    let newer = write(&pool, new_account(&pool).await).await;
    assert_eq!(reader.read().await, [newer]);
    let mib = "update outbox.event set payload = to_json(repeat('a', 1048576))";
    sqlx::raw_sql(mib)
        .execute(&mut *late.transaction)
        .await
        .expect("large events");
    late.commit().await;
    for _ in 0..20 {
        expected.push(write(&pool, account).await);
    }
    execute(&pool, mib.to_owned()).await;
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let read = reader.read().await;
        assert!(
            !read.is_empty() && read.len() < 20,
            "{read:?} of {expected:?}"
        );
        found.extend(read);
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn no_gap_is_given_up_while_the_sequence_has_a_cache() {
    let pool = ledger().await;
    let mut reader = reader(&pool, 1000);
    let mut rolled_back = Writer::begin(&pool).await;
    rolled_back.change(new_account(&pool).await).await;
    write(&pool, new_account(&pool).await).await;
    reader.read().await;
    let cache = |size| format!("alter sequence outbox.event_id_seq cache {size}");
    let rolled_back = rolled_back.transaction.rollback();
    rolled_back.await.expect("a rollback");
    execute(&pool, cache(20)).await;
    let bound = reader.watch.as_ref().expect("a gap").bound;
    eventually("all that could fill the gap to end", async || {
        reader.read().await;
        let horizon = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
        let horizon: i64 = sqlx::query_scalar(horizon).fetch_one(&pool).await.ok()?;
        (horizon >= bound).then_some(())
    })
    .await;
    reader.read().await;
    assert!(reader.position.has_gaps());
    execute(&pool, cache(1)).await;
    eventually("the gap to be closed", async || {
        reader.read().await;
        (!reader.position.has_gaps()).then_some(())
    })
    .await;
}

async fn execute(pool: &PgPool, statement: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await;
    done.expect("a statement that runs");
}
