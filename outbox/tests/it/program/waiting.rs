//! Seeing commits at once, without a word from producers and without a lock that others wait for.

use sqlx::{Connection, Executor, PgConnection, postgres::types::PgRange};
use testkit::eventually;

use super::support::World;

/// `wait_for_event` in a session of its own, begun and not yet over.
struct Waiter {
    connection: PgConnection,
    last_id: i64,
    gaps: Vec<PgRange<i64>>,
}

impl Waiter {
    async fn new(world: &World, last_id: i64, gaps: Vec<PgRange<i64>>) -> Self {
        let connection = PgConnection::connect(&world.database.url).await;
        Self {
            connection: connection.expect("a connection"),
            last_id,
            gaps,
        }
    }

    async fn wait(mut self, seconds: f64) -> bool {
        sqlx::query_scalar("select outbox.wait_for_event($1, $2, $3 * interval '1 second')")
            .bind(self.last_id)
            .bind(self.gaps)
            .bind(seconds)
            .fetch_one(&mut self.connection)
            .await
            .expect("an answer")
    }
}

/// Until somebody waits.
async fn somebody_waits(world: &World) {
    eventually("a session that waits", async || {
        let waits = "select count(*) from pg_stat_activity
                     where query like 'select outbox.wait_for_event%' and state = 'active'
                         and wait_event = 'PgSleep' and datname = current_database()";
        let waits: i64 = sqlx::query_scalar(waits)
            .fetch_one(world.pool())
            .await
            .ok()?;
        (waits > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn waiting_ends_with_the_commit_of_a_new_event_or_of_a_late_one() {
    let world = World::new().await;
    for (last_id, gaps) in [(0, vec![]), (9, vec![PgRange::from(1..3)])] {
        world
            .execute("truncate outbox.event restart identity")
            .await;
        let mut open = world.pool().begin().await.expect("a transaction");
        let append = "select outbox.append('order', '1', 'placed', '{}')";
        open.execute(append).await.expect("an event");
        let waiter = Waiter::new(&world, last_id, gaps).await;
        let waiting = tokio::spawn(waiter.wait(600.0));
        somebody_waits(&world).await;
        assert!(!waiting.is_finished(), "it is not committed");
        open.commit().await.expect("a commit");
        assert!(waiting.await.expect("no panic"));
    }
}

#[tokio::test]
async fn waiting_ends_after_its_time_if_there_is_nothing() {
    let world = World::new().await;
    world
        .execute("select outbox.append('order', '1', 'placed', '{}')")
        .await;
    let waiter = Waiter::new(&world, 1, vec![PgRange::from(5..7)]).await;
    assert!(!waiter.wait(0.1).await);
}

/// A lock held for as long as it waits would make attaching or dropping partitions wait, and every
/// producer behind that.
#[tokio::test]
async fn while_it_waits_it_holds_no_lock_on_the_ledger() {
    let world = World::new().await;
    let mut open = world.pool().begin().await.expect("a transaction");
    let append = "select outbox.append('order', '1', 'placed', '{}')";
    open.execute(append).await.expect("an event");
    // It has reason to look at the ledger: an id is drawn, and others are missing.
    let waiter = Waiter::new(&world, 0, vec![PgRange::from(1..3)]).await;
    let waiting = tokio::spawn(waiter.wait(600.0));
    somebody_waits(&world).await;
    open.rollback().await.expect("a rollback");
    eventually("the strongest lock on the ledger", async || {
        let mut transaction = world.pool().begin().await.ok()?;
        let lock = "lock table outbox.event in access exclusive mode nowait";
        transaction.execute(lock).await.ok()
    })
    .await;
    assert!(!waiting.is_finished());
    waiting.abort();
}
