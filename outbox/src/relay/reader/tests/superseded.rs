//! Events whose aggregates have been restated above them.

use super::{Writer, ledger, reader, write};
use crate::{
    relay::{orphans::superseded::Superseded, task::Task},
    tests::new_account,
};

/// Late ones beyond a batch come first, and the new ones are read again after them.
#[tokio::test]
async fn a_superseded_event_is_passed_once_though_it_is_read_again() {
    let pool = ledger().await;
    let (late, restated) = (new_account(&pool).await, new_account(&pool).await);
    let mut large = Writer::begin(&pool).await;
    for _ in 0..3 {
        large.change(late).await;
    }
    let mut follow = reader(&pool, 2);
    let first = write(&pool, new_account(&pool).await).await;
    let found = follow.next().await.expect("a read");
    assert_eq!(found.tasks.len(), 1, "the event {first}");
    large.commit().await;
    let superseded = write(&pool, restated).await;
    let orphan = "with cursor as (
            insert into outbox.cursor (stream) values ('ACCOUNTS') returning stream
        )
        insert into outbox.orphan (stream, aggregate_type, aggregate_id, version, stream_sequence,
                                   restated_at, superseded_through)
        select stream, 'account', $1::text, 1000, 1, clock_timestamp(), $2 from cursor";
    sqlx::query(orphan)
        .bind(restated.to_string())
        .bind(superseded)
        .execute(&pool)
        .await
        .expect("an orphan");
    let known = Superseded::load(&pool.clone().into(), "ACCOUNTS")
        .await
        .expect("an answer");
    let mut follow = follow.without(known);

    let mut passed = Vec::new();
    let mut reads = 0;
    loop {
        let found = follow.next().await.expect("a read");
        reads += 1;
        passed.extend(found.tasks.iter().filter_map(|task| match task {
            Task::Supersede(id, _) => Some(*id),
            _ => None,
        }));
        if !found.more {
            break;
        }
    }
    assert!(reads > 1, "late ones come first");
    assert_eq!(passed, [superseded]);
}
