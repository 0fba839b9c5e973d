use postgres_pool::Pool;
use testkit::postgres::Database;

use super::{Finished, Loss, Owned, finish, insert};
use crate::tests::{create_database, pool_of};

/// A cursor at the end of a stream that has lost the message of one event.
struct World {
    database: Database,
    pool: Pool,
    owned: Owned,
}

impl World {
    async fn new() -> Self {
        let database = create_database().await;
        let (pool, identity) = pool_of(&database).await;
        let owned = Owned {
            stream: "ACCOUNTS".to_owned(),
            epoch: 0,
            session: 0,
            identity,
        };
        let world = Self {
            database,
            pool,
            owned,
        };
        world
            .execute(
                "insert into outbox.cursor (stream, aggregate_types, last_id, stream_sequence)
                 values ('ACCOUNTS', '{account}', 5, 5);
                 insert into outbox.stream_loss (stream, first_sequence, last_sequence, ids, is_complete)
                 values ('ACCOUNTS', 3, 3, array[int8range(3, 4)], true)",
            )
            .await;
        world
    }

    async fn execute(&self, statements: &'static str) {
        let done = sqlx::raw_sql(statements).execute(&self.database.pool).await;
        done.expect("statements that run");
    }

    /// Up to where the events are on the stream again.
    async fn finished(&self) -> Option<i64> {
        let finished = finish(&self.pool, &self.owned, &[3]).await;
        let finished = finished.expect("an answer");
        finished.map(|Finished { through, .. }| through)
    }
}

/// Otherwise readers would take the hole for closed before they can read what was in it.
#[tokio::test]
async fn a_loss_is_over_once_the_cursor_has_passed_all_of_its_events() {
    let world = World::new().await;
    for not_yet in [
        "update outbox.cursor set gaps = array[int8range(3, 4)]",
        // As after a restore, when everything is read again.
        "update outbox.cursor set gaps = '{}', last_id = 0",
        "update outbox.cursor set last_id = 2",
    ] {
        world.execute(not_yet).await;
        assert_eq!(world.finished().await, None, "{not_yet}");
    }
    world
        .execute("update outbox.cursor set last_id = 3, stream_sequence = 6")
        .await;
    assert_eq!(world.finished().await, Some(6));
    assert_eq!(world.finished().await, None);
}

/// The look that finds it runs beside the one that notes what is over.
#[tokio::test]
async fn a_loss_that_was_found_since_the_session_began_is_not_over() {
    let world = World::new().await;
    world
        .execute(
            "insert into outbox.stream_loss (stream, first_sequence, last_sequence, ids, is_complete)
             values ('ACCOUNTS', 4, 4, array[int8range(4, 5)], true)",
        )
        .await;
    assert_eq!(world.finished().await, Some(5));
    let open = "select first_sequence from outbox.stream_loss where refilled_through is null";
    let open: Vec<i64> = sqlx::query_scalar(open)
        .fetch_all(&world.database.pool)
        .await
        .expect("losses");
    assert_eq!(open, [4]);
}

/// It would be closed at a cursor that is not the one behind which its events were looked up.
#[tokio::test]
async fn a_loss_that_a_session_notes_after_its_end_is_not_kept() {
    let world = World::new().await;
    world.execute("update outbox.cursor set session = 1").await;
    let loss = Loss {
        missing: vec![4..=4],
        ids: vec![4..5, 8..9],
        not_passed: Vec::new(),
        is_complete: true,
    };
    let inserted = insert(&world.pool, &world.owned, &loss).await;
    assert!(!inserted.expect("an answer"));
    let losses = "select count(*) from outbox.stream_loss where first_sequence = 4";
    let losses: i64 = sqlx::query_scalar(losses)
        .fetch_one(&world.database.pool)
        .await
        .expect("a count");
    assert_eq!(losses, 0);
}
