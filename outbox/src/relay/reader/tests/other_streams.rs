//! Events of other streams, and those that have no route.

use super::{Follow, ledger, reader, write};
use crate::{
    ledger::Selection,
    relay::{
        cursor::Cursor,
        reader::{Interest, Reader},
        task::Task,
    },
    tests::new_account,
};

fn summary(tasks: &[Task]) -> Vec<String> {
    let one = |task: &Task| match task {
        Task::Publish(event) => format!("publish {}", event.entry.id),
        Task::Skip(ids, _) => format!("skip {ids:?}"),
        Task::Supersede(id, _) => format!("supersede {id}"),
        Task::Park(events) => {
            let ids: Vec<_> = events.iter().map(|(id, _)| id).collect();
            format!("park {ids:?}")
        }
        Task::AbandonGap(ids) => format!("abandon {ids:?}"),
    };
    tasks.iter().map(one).collect()
}

#[tokio::test]
async fn events_of_other_streams_are_no_gaps_and_those_without_a_route_are_parked() {
    let pool = ledger().await;
    for aggregate_type in ["account", "order", "order", "mystery", "account", "order"] {
        sqlx::query("select outbox.append($1, '1', 'changed', '{}')")
            .bind(aggregate_type)
            .execute(&pool)
            .await
            .expect("an event");
    }
    let of = |selection, routed: &str| {
        let interest = Interest {
            selection,
            routed_types: vec![routed.to_owned()],
            identity: None,
        };
        Reader::new(pool.clone().into(), 1000, interest, &Cursor::default())
    };
    let mut accounts = of(Selection::AllBut(vec!["order".to_owned()]), "account");
    let found = accounts.next().await.expect("a read").tasks;
    let expected = [
        "publish 1",
        "skip 2..4",
        "publish 5",
        "skip 6..7",
        "park [4]",
    ];
    assert_eq!(summary(&found), expected);
    let mut orders = of(Selection::Only(vec!["order".to_owned()]), "order");
    let found = orders.next().await.expect("a read").tasks;
    let expected = [
        "skip 1..2",
        "publish 2",
        "publish 3",
        "skip 4..6",
        "publish 6",
    ];
    assert_eq!(summary(&found), expected);
    assert!(!accounts.position.has_gaps() && !orders.position.has_gaps());
}

/// What another stream's event holds is not even read.
#[tokio::test]
async fn an_event_of_another_stream_that_commits_late_is_skipped_in_its_place() {
    let pool = ledger().await;
    let mut reader = reader(&pool, 1000);
    reader.interest.selection = Selection::AllBut(vec!["order".to_owned()]);
    let mut late = pool.begin().await.expect("a transaction");
    let order = "select outbox.append('order', '1', 'placed', '{}')";
    sqlx::query(order)
        .execute(&mut *late)
        .await
        .expect("an event");
    let kept = write(&pool, new_account(&pool).await).await;
    assert_eq!(reader.read().await, [kept]);
    late.commit().await.expect("a commit");
    let found = reader.next().await.expect("a read").tasks;
    assert_eq!(summary(&found), ["skip 1..2"]);
    assert!(!reader.position.has_gaps());
}
