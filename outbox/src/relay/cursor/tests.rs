use super::{Cursor, load, newest_checkpoints, save, save_checkpoint};
use crate::{
    relay::{failure::Failure, lease::Lease, owned::Owned},
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
    let loaded = load(&pool, "ACCOUNTS").await.expect("a cursor");
    let mut late: Cursor = loaded.clone();
    late.position.pass(6);
    late.tail.sequence = 6;
    // The next session takes back what the stream has lost.
    let next = begin().await.expect("a session");
    let mut taken_back = loaded.clone();
    taken_back.position.reopen(3..4);
    let saved = save(&pool, &next, &taken_back).await;
    saved.expect("its own cursor");

    let saved = save(&pool, &earlier, &late).await;
    assert!(matches!(saved, Err(Failure::SessionOver)));
    let checkpoint = save_checkpoint(&pool, &earlier, &late).await;
    checkpoint.expect("an answer");
    let mut transaction = pool.begin().await.expect("a transaction");
    let held = earlier.hold(&mut transaction).await;
    assert!(matches!(held, Err(Failure::SessionOver)));
    drop(transaction);

    let kept = load(&pool, "ACCOUNTS").await.expect("a cursor");
    assert_eq!(kept.position, taken_back.position);
    let checkpoints = newest_checkpoints(&pool, "ACCOUNTS", 2).await;
    assert_eq!(checkpoints.expect("an answer"), [0_i64; 0]);
}
