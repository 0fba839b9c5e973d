//! Releases and schemas of different ages, and servers that take no writes yet.

use reqwest::StatusCode;
use sqlx::AssertSqlSafe;
use testkit::eventually;

use crate::support::{World, user};

impl World {
    async fn sql(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&self.database.pool)
            .await
            .expect("a statement");
    }

    /// For sessions that begin from now on.
    async fn set_read_only(&self, is_read_only: bool) {
        let set = format!("default_transaction_read_only = {is_read_only}");
        self.sql(&format!(
            "begin read write;
             do $$ begin execute format('alter database %I set {set}', current_database()); end $$;
             commit;"
        ))
        .await;
    }
}

#[tokio::test]
async fn an_older_release_runs_on_a_newer_schema_that_allows_it() {
    let world = World::new().await;
    let (migrated, output) = world.run(&["migrate"]).await;
    assert!(migrated, "{output}");
    world
        .sql(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (9999, 'of a newer release', true, '', 0)",
        )
        .await;
    let api = world.serve(&[]).await;
    api.create().await;
    world.published(1).await;
}

#[tokio::test]
async fn an_older_release_says_which_one_the_schema_requires() {
    let world = World::new().await;
    let (migrated, output) = world.run(&["migrate"]).await;
    assert!(migrated, "{output}");
    world
        .sql("update schema_requirement set migration = 9999")
        .await;
    for role in ["migrate", "serve", "relay"] {
        let (migrated, output) = world.run(&[role]).await;
        assert!(!migrated, "{role}");
        assert!(output.contains("requires"), "{role}: {output}");
        assert!(output.contains("9999"), "{role}: {output}");
    }
}

#[tokio::test]
async fn a_service_waits_at_its_start_for_a_server_that_takes_writes() {
    let world = World::new().await;
    world.set_read_only(true).await;
    let api = world.serve_unready(&[]).await;
    eventually("a line that says what it waits for", async || {
        let waits = |line: &String| line.contains("waiting") && line.contains("read-only");
        api.service.process.output().iter().any(waits).then_some(())
    })
    .await;
    world.set_read_only(false).await;
    api.ready().await;
    api.create().await;
    world.published(1).await;
}

#[tokio::test]
async fn a_server_that_turned_read_only_is_answered_503_until_it_takes_writes_again() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let id = api.create().await;
    let end_sessions = "
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'user-service'";
    world.set_read_only(true).await;
    world.sql(end_sessions).await;
    eventually("changes to be refused as unavailable", async || {
        let created = api.post(&user("Ada")).await.status();
        let deleted = api.delete(id).await.status();
        assert_ne!(created, StatusCode::INTERNAL_SERVER_ERROR);
        assert_ne!(deleted, StatusCode::INTERNAL_SERVER_ERROR);
        let refused = StatusCode::SERVICE_UNAVAILABLE;
        (created == refused && deleted == refused).then_some(())
    })
    .await;
    api.check_is("postgres", "failed").await;
    world.set_read_only(false).await;
    eventually("changes to be made again", async || {
        (api.post(&user("Ada")).await.status() == StatusCode::CREATED).then_some(())
    })
    .await;
    api.ready().await;
    world.drained().await;
}
