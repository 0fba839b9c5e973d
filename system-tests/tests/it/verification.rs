//! The verification in the background, between both services.

use std::sync::atomic::{AtomicBool, Ordering};

use mongodb::bson::{DateTime, Document, doc};
use serde_json::Value;
use testkit::eventually;

use crate::support::{Api, Stack, User};

async fn verifying(stack: &Stack, users: &Api, more: &[&str]) -> Api {
    let often = ["--verify-every", "1s", "--verify-settle", "5s"];
    let arguments = [&["serve", "--verify-users", &users.url], &often[..], more].concat();
    Api::ready(stack.start("notification-service", &arguments)).await
}

async fn shown(notifications: &Api) -> Value {
    let url = format!("{}/verification", notifications.url);
    let answer = notifications.client.get(url).send().await;
    answer.expect("an answer").json().await.expect("JSON")
}

/// Waits for a whole pass that began after this was called.
async fn next_pass(notifications: &Api) -> Value {
    let before = shown(notifications).await;
    let known = [
        &before["pass"]["began_at"],
        &before["last_pass"]["began_at"],
    ];
    eventually("another pass", async || {
        let pass = shown(notifications).await["last_pass"].take();
        (pass.is_object() && !known.contains(&&pass["began_at"])).then_some(pass)
    })
    .await
}

#[tokio::test]
async fn what_is_damaged_while_users_are_written_is_found_and_repaired() {
    let stack = Stack::new().await;
    let users = stack.users(&[]).await;
    let notifications = verifying(&stack, &users, &["--verify-repair"]).await;
    let mut all = Vec::new();
    for number in 0..8 {
        let user = users.create(&format!("Ada {number}")).await;
        all.push(users.rename(&user, &format!("Ada L. {number} \"é\"")).await);
    }
    stack.converged().await;
    let pass = next_pass(&notifications).await;
    assert_eq!(
        (&pass["found"], &pass["users"]),
        (&0.into(), &8.into()),
        "{pass}"
    );

    let is_done = AtomicBool::new(false);
    let writing = async {
        let mut written = 0;
        while !is_done.load(Ordering::Relaxed) {
            written += 1;
            let user = users.create(&format!("Grace {written}")).await;
            let user = users.rename(&user, &format!("Grace H. {written}")).await;
            if written % 2 == 0 {
                users.delete(&user).await;
            }
        }
    };
    let breaking = async {
        break_copies(&stack, &all).await;
        let ids: Vec<_> = all.iter().map(|it| it.id).collect();
        let readable = doc! { "_id": { "$in": ids }, "version": { "$type": "long" } };
        let copy = stack.mongo.collection("user_notifications");
        eventually("the repair", async || {
            let readable = copy.count_documents(readable.clone()).await.ok()?;
            if readable < all.len() as u64 {
                return None;
            }
            let (rows, copies) = (stack.rows().await, stack.copies().await?);
            let of_all = |user: &&User| all.iter().any(|it| it.id == user.id);
            let is_equal = rows.iter().filter(of_all).eq(copies.iter().filter(of_all));
            is_equal.then_some(())
        })
        .await;
        // Copies of what is written meanwhile may take longer than the time to settle.
        let mut pass = next_pass(&notifications).await;
        for _ in 0..10 {
            if pass["found"] == 0 {
                break;
            }
            pass = next_pass(&notifications).await;
        }
        assert_eq!(
            (&pass["remaining"], &pass["found"]),
            (&0.into(), &0.into()),
            "{pass}"
        );
        is_done.store(true, Ordering::Relaxed);
    };
    tokio::join!(writing, breaking);
    stack.converged().await;
    let shown = shown(&notifications).await;
    assert_eq!(shown["last_error"], Value::Null);
}

/// Each copy in a way of its own.
async fn break_copies(stack: &Stack, users: &[User]) {
    let copy = stack.mongo.collection("user_notifications");
    let living = |user: &User, version: i64| {
        doc! {
            "user_id": user.id, "name": "Eve", "email": "eve@example.com",
            "updated_at": DateTime::now(), "version": version,
        }
    };
    let replace = async |user: &User, with: Document| {
        let replaced = copy.replace_one(doc! { "_id": user.id }, with).await;
        assert_eq!(replaced.expect("a write").matched_count, 1);
    };
    let missing = copy.delete_one(doc! { "_id": users[0].id }).await;
    assert_eq!(missing.expect("a write").deleted_count, 1);
    replace(&users[1], living(&users[1], 1)).await;
    replace(&users[2], living(&users[2], 9)).await;
    replace(&users[3], living(&users[3], 2)).await;
    let buried = &users[4];
    let tombstone = doc! { "user_id": buried.id, "version": 7_i64, "deleted_at": DateTime::now() };
    replace(buried, tombstone).await;
    let mut damaged = living(&users[5], 2);
    damaged.insert("version", "2");
    replace(&users[5], damaged).await;
}

#[tokio::test]
async fn a_pass_needs_a_token_of_scope_read_and_a_repair_one_of_scope_repair() {
    let stack = Stack::new().await;
    let tokens = "read reader-of-users-1,write writer-of-users-1,repair mender-of-users-1";
    let users = stack.users(&["--tokens", tokens]).await;
    let notifications = verifying(
        &stack,
        &users,
        &[
            "--verify-users-token",
            "reader-of-users-1",
            "--verify-repair",
        ],
    )
    .await;
    next_pass(&notifications).await;
    let request = users.client.post(format!("{}/users", users.url));
    let body = serde_json::json!({ "name": "Ada", "email": "ada@example.com" });
    let created = request
        .bearer_auth("writer-of-users-1")
        .json(&body)
        .send()
        .await;
    assert_eq!(created.expect("an answer").status(), 201);
    stack.converged().await;
    let copy = stack.mongo.collection("user_notifications");
    copy.delete_many(doc! {}).await.expect("a write");
    eventually("a refusal", async || {
        let error = shown(&notifications).await["last_error"]["error"].take();
        (error == "the user service refuses the token").then_some(())
    })
    .await;
    drop(notifications);
    let notifications = verifying(
        &stack,
        &users,
        &[
            "--verify-users-token",
            "mender-of-users-1",
            "--verify-repair",
        ],
    )
    .await;
    stack.converged().await;
    drop(notifications);
}
