use super::Owned;
use crate::{
    relay::{
        cursor::{self, Cursor, CursorError},
        lease::Lease,
    },
    tests::{create_database, pool_of},
};

/// A connection that is given up is closed without a word, and its last statement may still run.
#[tokio::test]
async fn a_statement_of_an_earlier_session_undoes_nothing() {
    let database = create_database().await;
    let (pool, identity) = pool_of(&database).await;
    sqlx::raw_sql(
        "insert into outbox.cursor (stream, last_id, stream_sequence) values ('ACCOUNTS', 5, 5);
         select setval('outbox.event_id_seq', 9)",
    )
    .execute(&database.pool)
    .await
    .expect("a cursor");
    let lease = Lease { epoch: 0, identity };
    let begin = async || Owned::begin(&pool, &lease, "ACCOUNTS").await;
    let earlier = begin().await.expect("a session");
    let loaded = cursor::load(&pool, "ACCOUNTS").await.expect("a cursor");
    let mut late: Cursor = loaded.clone();
    late.position.pass(6);
    late.tail.sequence = 6;
    // The next session takes back what the stream has lost.
    let next = begin().await.expect("a session");
    let mut taken_back = loaded.clone();
    taken_back.position.reopen(3..4);
    let saved = cursor::save(&pool, &next, &taken_back).await;
    saved.expect("its own cursor");

    let saved = cursor::save(&pool, &earlier, &late).await;
    assert!(matches!(saved, Err(CursorError::SessionOver)));
    let checkpoint = cursor::save_checkpoint(&pool, &earlier, &late).await;
    checkpoint.expect("an answer");
    let mut transaction = pool.begin().await.expect("a transaction");
    let held = earlier.hold(&mut transaction).await;
    assert!(matches!(held, Err(CursorError::SessionOver)));
    drop(transaction);

    let kept = cursor::load(&pool, "ACCOUNTS").await.expect("a cursor");
    assert_eq!(kept.position, taken_back.position);
    let checkpoints = cursor::newest_checkpoints(&pool, "ACCOUNTS", 2).await;
    assert_eq!(checkpoints.expect("an answer"), [0_i64; 0]);
}

#[tokio::test]
async fn a_relay_that_has_lost_the_lease_begins_no_session() {
    let database = create_database().await;
    let (pool, identity) = pool_of(&database).await;
    let cursor = "insert into outbox.cursor (stream, epoch) values ('ACCOUNTS', 7)";
    let cursor = sqlx::query(cursor).execute(&database.pool).await;
    cursor.expect("a cursor");
    for (epoch, identity) in [(6, identity), (7, "1/1/1".to_owned())] {
        let lease = Lease { epoch, identity };
        let begun = Owned::begin(&pool, &lease, "ACCOUNTS").await;
        assert!(matches!(begun, Err(CursorError::LeaseLost)), "{begun:?}");
    }
}
