//! A stream and a database that have both lost something: nobody can tell what the other had.

use testkit::eventually;

use crate::support::{Target, World};

/// Notes every transaction that leaves the cursor behind where it was, and what it leaves with it.
const WATCH_MOVES: &str = "
    create table move (is_noted boolean not null);
    create function note_move() returns trigger language plpgsql as $$
    begin
        insert into move select unreconciled_since is not null
        from outbox.cursor where stream = new.stream;
        return null;
    end $$;
    create constraint trigger note_move after update on outbox.cursor
    deferrable initially deferred for each row
    when (new.stream_sequence < old.stream_sequence) execute function note_move()";

/// A relay that crashes after it has moved back leaves nothing behind by which the next one could tell
/// that the database was restored as well: so one transaction does both.
#[tokio::test]
async fn that_both_sides_have_lost_something_is_noted_with_the_move_back() {
    let world = World::with_accounts().await;
    let accounts = Target::new("account");
    let routes = [accounts.route("account")];
    let relay = world.relay(&routes, &[]);
    for name in ["1", "2", "3"] {
        world.change("a", name).await;
    }
    world.holds(&accounts, 3).await;
    world.drained(&accounts).await;
    relay.stop().await;
    world.save().await;

    let relay = world.relay(&routes, &[]);
    for name in ["4", "5"] {
        world.change("a", name).await;
    }
    world.holds(&accounts, 5).await;
    world.drained(&accounts).await;
    relay.stop().await;
    world.restore().await;
    let deleted = world.jetstream.delete_stream(&accounts.stream).await;
    deleted.expect("the stream to be gone");
    // The backup was made on another server.
    world
        .execute("update outbox.cursor set database_identity = '1/1/1'")
        .await;
    world.execute(WATCH_MOVES).await;

    let relay = world.relay(&routes, &[]);
    let moves = eventually("the cursor to move back", async || {
        let moves: Vec<bool> = sqlx::query_scalar("select is_noted from move")
            .fetch_all(&world.database.pool)
            .await
            .ok()?;
        (!moves.is_empty()).then_some(moves)
    })
    .await;
    assert!(moves.iter().all(|is_noted| *is_noted), "{moves:?}");
    relay.stop().await;
}
