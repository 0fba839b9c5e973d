//! An asynchronous standby that is promoted while it is behind, and writes are in flight.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use serde_json::json;
use testkit::{eventually, postgres::Server, unique};
use tokio_util::sync::CancellationToken;

use super::{DATABASE, Pipeline, is_gone, write};
use crate::support::{Api, User};

const WRITERS: usize = 8;

/// Creates and changes users until told to stop, whatever the answers; counts what was acknowledged.
async fn keep_writing(users: &Api, acknowledged: &AtomicUsize, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let email = format!("{}@example.com", unique("u"));
        let body = json!({ "name": "in flight", "email": email });
        let request = users
            .client
            .post(format!("{}/users", users.url))
            .json(&body);
        let Ok(created) = request.send().await else {
            continue;
        };
        if created.status() != StatusCode::CREATED {
            continue;
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
        let user: User = created.json().await.expect("a user");
        let body = json!({ "name": "changed in flight", "email": email });
        let request = users.client.put(format!("{}/users/{}", users.url, user.id));
        // It may be gone by now.
        if let Ok(changed) = request.json(&body).send().await
            && changed.status() == StatusCode::OK
        {
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits until so many more writes were acknowledged.
async fn more(acknowledged: &AtomicUsize, count: usize) {
    let from = acknowledged.load(Ordering::Relaxed);
    eventually("acknowledged writes", async || {
        (acknowledged.load(Ordering::Relaxed) >= from + count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_fail_over_that_lost_writes_both_sides_agree_that_they_are_gone() {
    let mut primary = Server::start().await;
    let standby = primary.standby().await;
    let pipeline = Pipeline::on(&primary).await;
    let before = write(&pipeline.users).await;
    pipeline.stack.converged().await;
    let followed = standby.database_named(DATABASE).pool;
    eventually("the standby to have all users", async || {
        let users: i64 = sqlx::query_scalar("select count(*) from users")
            .fetch_one(&followed)
            .await
            .ok()?;
        (users == 18).then_some(())
    })
    .await;

    let (acknowledged, stop) = (AtomicUsize::new(0), CancellationToken::new());
    let users = &pipeline.users;
    let writing = (0..WRITERS).map(|_| keep_writing(users, &acknowledged, &stop));
    let failing_over = async {
        more(&acknowledged, 100).await;
        standby.cut_off().await;
        let lost = users.create("lost").await;
        let changed = users.rename(&before[0], "lost name").await;
        users.delete(&before[1]).await;
        more(&acknowledged, 100).await;
        eventually("the lost writes in the copy", async || {
            let copy = pipeline.notifications.copy_of(changed.id).await?;
            pipeline.notifications.copy_of(lost.id).await?;
            (copy == changed).then_some(())
        })
        .await;
        primary.kill();
        pipeline.address.redirect(standby.address());
        standby.promote().await;
        more(&acknowledged, 100).await;
        stop.cancel();
        lost
    };
    let (lost, _) = tokio::join!(failing_over, futures::future::join_all(writing));
    pipeline.agrees().await;
    assert!(is_gone(users, &lost).await);
    let rows = pipeline.stack.rows().await;
    assert_eq!(rows[0].name, before[0].name);
    assert_eq!(rows[1].name, before[1].name, "its deletion was lost");
    users.rename(&before[1], "after all").await;
    pipeline.agrees().await;
}
