//! A field is added to the events while everything runs.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mongodb::bson::doc;

use crate::support::Stack;

/// What the migration of a later release would bring: all releases call this function.
const LATER_USER_STATE: &str = r#"
    create or replace function user_state(present users, version bigint, updated_at timestamptz)
    returns json language sql stable
    return json_build_object(
        'id', (present).id, 'name', (present).name, 'email', (present).email,
        'updated_at', to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'version', version, 'revision', 2, 'nickname', upper((present).name)
    )
"#;
const USERS: usize = 40;

#[tokio::test]
async fn a_field_that_is_added_under_load_reaches_every_document() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let mut known = Vec::new();
    for number in 0..USERS {
        known.push(users.create(&format!("Ada {number}")).await);
    }
    stack.converged().await;

    let is_done = AtomicBool::new(false);
    let writing = async {
        let mut changes = 0;
        while !is_done.load(Ordering::Relaxed) {
            // Only half of them ever change: the others get the field by the republish alone.
            let user = &known[changes % (USERS / 2)];
            users.rename(user, &format!("Ada {changes} again")).await;
            changes += 1;
        }
    };
    let changing = async {
        sqlx::query(LATER_USER_STATE)
            .execute(&stack.postgres.pool)
            .await
            .expect("a migration");
        let mut republish = stack.start("user-service", &["republish", "--all"]);
        let ended = tokio::time::timeout(Duration::from_secs(60), republish.process.ended());
        assert!(ended.await.expect("an end in time").success());
        is_done.store(true, Ordering::Relaxed);
    };
    tokio::join!(writing, changing);

    let rows = stack.converged().await;
    assert_eq!(rows.len(), USERS);
    let copy = stack.mongo.collection("user_notifications");
    for row in &rows {
        let document = copy.find_one(doc! { "_id": row.id }).await.expect("a read");
        let document = document.expect("a user");
        assert_eq!(document.get_i32("revision").ok(), Some(2), "{document}");
        let nickname = row.name.to_uppercase();
        assert_eq!(document.get_str("nickname").ok(), Some(nickname.as_str()));
    }
    let listed = notifications.list().await;
    let fields: Vec<_> = listed[0].as_object().expect("a user").keys().collect();
    assert_eq!(
        fields,
        ["email", "name", "updated_at", "user_id", "version"]
    );
}
