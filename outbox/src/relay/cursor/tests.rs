use super::{Cursor, CursorError, Owned, load, save};
use crate::tests::{create_database, pool_of};

/// A connection that is given up is closed without a word, and its last statement may still run.
#[tokio::test]
async fn a_save_of_an_earlier_session_undoes_nothing() {
    let database = create_database().await;
    let (pool, identity) = pool_of(&database).await;
    sqlx::raw_sql(
        "insert into outbox.cursor (stream, last_id, stream_sequence) values ('ACCOUNTS', 5, 5);
         select setval('outbox.event_id_seq', 9)",
    )
    .execute(&database.pool)
    .await
    .expect("a cursor");
    let owned = Owned {
        stream: "ACCOUNTS".to_owned(),
        epoch: 0,
        identity,
    };
    let loaded = load(&pool, &owned.stream).await.expect("a cursor");
    let mut late: Cursor = loaded.clone();
    late.position.pass(6);
    // The next session takes back what the stream has lost.
    let mut taken_back = loaded.clone();
    taken_back.position.reopen(3..4);
    let saved = save(&pool, &owned, &loaded, &taken_back).await;
    saved.expect("it is where it was left");

    let saved = save(&pool, &owned, &loaded, &late).await;
    assert!(matches!(saved, Err(CursorError::Moved)));
    let kept = load(&pool, &owned.stream).await.expect("a cursor");
    assert_eq!(kept.position, taken_back.position);
}
