//! A dump that is restored into a new database, which takes the place of the former one.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use testkit::{
    eventually,
    postgres::{self, Server},
    unique,
};

use super::{DATABASE, Pipeline, is_gone, write, write_instead, write_what_is_lost};
use crate::{repair::verify, support::Api};

fn dump(server: &Server) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let url = server.database_named(DATABASE).url;
    let file = directory.path().join("users_db.dump");
    let file = format!("--file={}", file.display());
    let _ = postgres::run("pg_dump", &["--format=custom", &file, &url]);
    directory
}

/// Restores into a new database, and puts it in the place of the former.
async fn restore(server: &Server, dump: &tempfile::TempDir) {
    server.execute(&["create database users_db_restored"]).await;
    let to = format!(
        "--dbname={}",
        server.database_named("users_db_restored").url
    );
    let file = dump.path().join("users_db.dump");
    let file = file.to_str().expect("a path in UTF-8");
    let _ = postgres::run("pg_restore", &["--exit-on-error", &to, file]);
    server
        .execute(&[
            "alter database users_db allow_connections false",
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'users_db'",
            "alter database users_db rename to users_db_before",
            "alter database users_db_restored rename to users_db",
        ])
        .await;
}

async fn create_once(users: &Api, key: &str, name: &str) -> Response {
    let body = json!({ "name": name, "email": format!("{key}@example.com") });
    let request = users.client.post(format!("{}/users", users.url));
    let request = request.header("Idempotency-Key", key).json(&body);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::CREATED);
    response
}

#[tokio::test]
async fn after_a_restored_dump_both_sides_agree_whatever_took_the_lost_ids_and_versions() {
    let server = Server::start().await;
    let mut pipeline = Pipeline::on(&server).await;
    let before = write(&pipeline.users).await;
    pipeline.stack.converged().await;
    let dump = dump(&server);
    write_what_is_lost(&pipeline.users, &before).await;
    let lost = pipeline.users.create("lost").await;
    pipeline.stack.converged().await;

    pipeline.stop_writers().await;
    restore(&server, &dump).await;
    pipeline.start_users_at(&server).await;
    write_instead(&pipeline.users, &before).await;
    pipeline.relay = pipeline.stack.relay().await;
    pipeline.agrees().await;
    assert!(is_gone(&pipeline.users, &lost).await);

    let next = pipeline.users.create("after all").await;
    assert!(next.id > lost.id, "{} was {}'s", next.id, lost.id);
    pipeline.users.rename(&before[0], "after all").await;
    pipeline.agrees().await;
}

#[tokio::test]
async fn a_database_that_is_replaced_under_a_running_relay_is_noticed() {
    let server = Server::start().await;
    let pipeline = Pipeline::on(&server).await;
    let before = write(&pipeline.users).await;
    pipeline.stack.converged().await;
    let dump = dump(&server);
    write_what_is_lost(&pipeline.users, &before).await;
    pipeline.stack.converged().await;

    restore(&server, &dump).await;
    // The first requests meet connections to the former database.
    let client = &pipeline.users.client;
    let url = format!("{}/users", pipeline.users.url);
    eventually("a new user after the restore", async || {
        let body = json!({ "name": "new", "email": format!("{}@example.com", unique("u")) });
        let created = client.post(&url).json(&body).send().await.ok()?;
        (created.status() == StatusCode::CREATED).then_some(())
    })
    .await;
    eventually("a change after the restore", async || {
        let body = json!({ "name": "new name", "email": before[0].email });
        let change = client.put(format!("{url}/{}", before[0].id)).json(&body);
        (change.send().await.ok()?.status() == StatusCode::OK).then_some(())
    })
    .await;
    pipeline.agrees().await;
}

#[tokio::test]
async fn a_dump_that_is_older_than_the_stream_is_reconciled_by_comparison() {
    let server = Server::start().await;
    let mut pipeline = Pipeline::on(&server).await;
    let before = write(&pipeline.users).await;
    pipeline.stack.converged().await;
    let dump = dump(&server);
    write_what_is_lost(&pipeline.users, &before).await;
    pipeline.stack.converged().await;
    let purged = pipeline.stack.stream().await.purge().await;
    assert!(purged.expect("a purge").success);

    pipeline.stop_writers().await;
    restore(&server, &dump).await;
    pipeline.start_users_at(&server).await;
    pipeline.relay = pipeline.stack.relay().await;
    let relay = pipeline.relay.url().await;
    let ready = async || {
        let answer = pipeline.users.client.get(format!("{relay}/readyz")).send();
        answer.await.expect("an answer").status()
    };
    eventually("a relay that says that it can not reconcile", async || {
        (ready().await == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    write_instead(&pipeline.users, &before).await;
    let repair = ["--settle", "10s", "--repair"];
    let (users, copies) = (&pipeline.users, &pipeline.notifications);
    let (agree, output) = verify(&pipeline.stack, users, copies, &repair).await;
    assert!(agree, "{output}");
    let reconciled = &["outbox", "reconciled", "--yes"];
    let mut reconciled = pipeline.stack.start("user-service", reconciled);
    assert!(reconciled.process.ended().await.success());
    eventually("a relay that is ready", async || {
        (ready().await == StatusCode::OK).then_some(())
    })
    .await;
    users.rename(&before[0], "after all").await;
    pipeline.agrees().await;
}

#[tokio::test]
async fn a_request_under_a_key_that_a_restore_has_undone_is_carried_out_again() {
    let server = Server::start().await;
    let mut pipeline = Pipeline::on(&server).await;
    let (kept, lost) = (unique("kept"), unique("lost"));
    create_once(&pipeline.users, &kept, "kept").await;
    let dump = dump(&server);
    create_once(&pipeline.users, &lost, "lost").await;
    pipeline.stack.converged().await;

    pipeline.stop_writers().await;
    restore(&server, &dump).await;
    pipeline.relay = pipeline.stack.relay().await;
    pipeline.start_users_at(&server).await;
    let repeated = create_once(&pipeline.users, &kept, "kept").await;
    assert_eq!(repeated.headers()["idempotency-replayed"], "true");
    let repeated = create_once(&pipeline.users, &lost, "lost").await;
    assert!(!repeated.headers().contains_key("idempotency-replayed"));
    let again: Value = repeated.json().await.expect("a user");
    assert_eq!(again["version"], 1);
    pipeline.agrees().await;
}
