//! A move to a new server by logical replication, which brings rows but no sequences.

use testkit::{
    eventually,
    postgres::{self, Server},
};

use super::{DATABASE, Pipeline, write};

/// The schema, by itself, as a subscriber needs it.
fn copy_schema(from: &Server, to: &Server) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("schema.sql");
    let file = file.to_str().expect("a path in UTF-8");
    let (from, to) = (
        from.database_named(DATABASE).url,
        to.database_named(DATABASE).url,
    );
    let _ = postgres::run("pg_dump", &["--schema-only", "--file", file, &from]);
    let _ = postgres::run(
        "psql",
        &["--quiet", "--set=ON_ERROR_STOP=1", "--file", file, &to],
    );
}

/// Waits until the new server has all that the old one has.
async fn caught_up(old: &Server, new: &Server) {
    let position: String = sqlx::query_scalar("select pg_current_wal_lsn()::text")
        .fetch_one(&old.database().pool)
        .await
        .expect("a position");
    let (old, new) = (old.database(), new.database_named(DATABASE));
    eventually("the tables to be copied, and what came since", async || {
        let copied = sqlx::query_scalar(
            "select count(*) > 0 and bool_and(srsubstate = 'r') from pg_subscription_rel",
        );
        let copied: bool = copied.fetch_one(&new.pool).await.ok()?;
        let confirmed = sqlx::query_scalar(
            "select confirmed_flush_lsn >= $1::pg_lsn from pg_replication_slots
             where slot_name = 'migration'",
        );
        let confirmed: bool = confirmed.bind(&position).fetch_one(&old.pool).await.ok()?;
        (copied && confirmed).then_some(())
    })
    .await;
}

/// A stack on a server whose rows are on another one as well, but not its sequences; how many users it
/// has, and the greatest id that was given out. Nobody writes any more.
async fn replicate(old: &Server, new: &Server) -> (Pipeline, usize, i64) {
    let mut pipeline = Pipeline::on(old).await;
    let before = write(&pipeline.users).await;
    new.execute(&["create database users_db"]).await;
    copy_schema(old, new);
    let port = old.address();
    let port = port.rsplit(':').next().expect("a port");
    old.execute_in(
        DATABASE,
        "create publication migration for all tables with (publish_via_partition_root = true)",
    )
    .await;
    let subscribe = format!(
        "create subscription migration \
         connection 'host=127.0.0.1 port={port} user=postgres dbname={DATABASE}' \
         publication migration"
    );
    new.execute_in(DATABASE, &subscribe).await;
    // While the tables are copied.
    let meanwhile = write(&pipeline.users).await;
    let last = pipeline.users.create("last").await;
    pipeline.stack.converged().await;

    pipeline.stop_writers().await;
    caught_up(old, new).await;
    new.execute_in(DATABASE, "drop subscription migration")
        .await;
    (pipeline, before.len() + meanwhile.len() + 1, last.id)
}

#[tokio::test]
async fn after_a_move_to_a_server_whose_sequences_start_low_both_sides_agree() {
    let old = Server::start_with(&["wal_level=logical"]).await;
    let new = Server::start().await;
    let (mut pipeline, users, last_id) = replicate(&old, &new).await;
    // It moves the sequence of events.
    pipeline.lead_to(&new);
    pipeline.relay = pipeline.stack.relay().await;
    pipeline.start_users_at(&new).await;
    let next = pipeline.users.create("new").await;
    assert!(next.id > last_id, "{} was given out before", next.id);
    pipeline.users.rename(&next, "new name").await;
    pipeline.agrees().await;
    assert_eq!(pipeline.stack.rows().await.len(), users + 1);
}

#[tokio::test]
async fn after_a_move_with_its_sequences_ids_and_events_go_on_where_they_were() {
    let old = Server::start_with(&["wal_level=logical"]).await;
    let new = Server::start().await;
    let (mut pipeline, users, last_id) = replicate(&old, &new).await;
    let events = pipeline.stack.events().await.len();
    let sequences = postgres::run(
        "psql",
        &[
            "--no-align",
            "--tuples-only",
            &old.database_named(DATABASE).url,
            "--command",
            "select format('select setval(%L, %s, true);', schemaname || '.' || sequencename, last_value)
             from pg_sequences where last_value is not null",
        ],
    );
    new.execute_in(DATABASE, &sequences).await;
    pipeline.start_users_at(&new).await;
    assert_eq!(pipeline.users.create("new").await.id, last_id + 1);
    pipeline.relay = pipeline.stack.relay().await;
    pipeline.agrees().await;
    assert_eq!(pipeline.stack.rows().await.len(), users + 1);
    let published = pipeline.stack.events().await.len();
    assert_eq!(published, events + 1, "nothing is published a second time");
}
