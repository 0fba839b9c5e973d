use mongodb::bson::{DateTime, Document, doc};

use crate::support::{Api, Stack};

/// Whether the two sides agree in the end, and what was printed.
pub(crate) async fn verify(
    stack: &Stack,
    users: &Api,
    notifications: &Api,
    more: &[&str],
) -> (bool, String) {
    let sides = ["--users", &users.url, "--notifications", &notifications.url];
    let arguments = [&["verify"], &sides[..], more].concat();
    let mut verify = stack.start("notification-service", &arguments);
    let agree = verify.process.ended().await.success();
    (agree, verify.process.output().join("\n"))
}

#[tokio::test]
async fn whatever_was_done_to_the_copy_is_found_and_repaired() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let mut ids = Vec::new();
    for number in 0..9 {
        let user = users.create(&format!("Ada {number}")).await;
        ids.push(users.rename(&user, &format!("Ada L. {number}")).await);
    }
    let gone = ids.pop().expect("a user");
    users.delete(&gone).await;
    stack.converged().await;
    let (agree, output) = verify(&stack, &users, &notifications, &["--settle", "0s"]).await;
    assert!(agree, "{output}");

    let copy = stack.mongo.collection("user_notifications");
    let replace = async |id: i64, with: Document| {
        let replaced = copy.replace_one(doc! { "_id": id }, with).await;
        assert_eq!(replaced.expect("a write").matched_count, 1);
    };
    let living = |id: i64, version: i64| {
        doc! {
            "user_id": id, "name": "Eve", "email": "eve@example.com",
            "updated_at": DateTime::now(), "version": version,
        }
    };
    let [
        missing,
        stale,
        ahead,
        conflict,
        buried,
        untouched,
        text,
        huge,
    ] = &ids[..]
    else {
        panic!("eight users are left");
    };
    copy.delete_one(doc! { "_id": missing.id })
        .await
        .expect("a write");
    replace(stale.id, living(stale.id, 1)).await;
    replace(ahead.id, living(ahead.id, 9)).await;
    replace(conflict.id, living(conflict.id, 2)).await;
    let tombstone = doc! { "user_id": buried.id, "version": 7_i64, "deleted_at": DateTime::now() };
    replace(buried.id, tombstone).await;
    replace(gone.id, living(gone.id, 5)).await;
    let mut damaged = living(text.id, 2);
    damaged.insert("version", "2");
    replace(text.id, damaged).await;
    replace(huge.id, living(huge.id, i64::MAX)).await;

    let (agree, output) = verify(&stack, &users, &notifications, &["--settle", "0s"]).await;
    assert!(!agree, "{output}");
    assert!(
        output.contains("2 missing")
            && output.contains("1 conflict")
            && output.contains("2 damaged"),
        "{output}"
    );

    let (agree, output) = verify(
        &stack,
        &users,
        &notifications,
        &["--settle", "10s", "--repair"],
    )
    .await;
    assert!(agree && output.contains("8 repaired"), "{output}");
    let rows = stack.converged().await;
    let versions: Vec<_> = rows.iter().map(|user| user.version).collect();
    assert_eq!(
        versions,
        [2, 2, 10, 3, 8, 2, 2, 2],
        "raised only where the copy demanded it"
    );
    assert_eq!(rows[5].name, untouched.name);
}

/// As after a restore whose events the stream no longer has.
#[tokio::test]
async fn copies_of_users_who_were_never_there_are_repaired() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    users.create("Ada").await;
    stack.converged().await;
    let copy = stack.mongo.collection("user_notifications");
    let add = async |id: i64| {
        let document = doc! {
            "_id": id, "user_id": id, "name": "Eve", "email": "eve@example.com",
            "updated_at": DateTime::now(), "version": 4_i64,
        };
        copy.insert_one(document).await.expect("a write");
    };
    for id in 40..50 {
        add(id).await;
    }
    let repair = ["--settle", "10s", "--repair"];
    let (agree, output) = verify(&stack, &users, &notifications, &repair).await;
    assert!(agree && output.contains("10 repaired"), "{output}");
    let next = users.create("Grace").await;
    assert!(next.id > 49, "{} was given to another", next.id);
    stack.converged().await;

    let damaged = 5_000_000_000_000;
    add(damaged).await;
    let repair = ["--settle", "1s", "--repair"];
    let (agree, output) = verify(&stack, &users, &notifications, &repair).await;
    assert!(!agree && output.contains("1 extra"), "{output}");
    assert!(
        output.contains("out_of_reach=1") || output.contains("\"out_of_reach\":1"),
        "{output}"
    );
    assert!(users.create("Joan").await.id < damaged);
}
