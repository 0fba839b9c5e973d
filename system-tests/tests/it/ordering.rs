use reqwest::StatusCode;
use serde_json::json;
use shared_events::UserEvent;
use uuid::Uuid;

use crate::support::{Stack, User};

#[tokio::test]
async fn a_hundred_writers_on_one_user_leave_no_gap_no_repeat_and_one_truth() {
    let stack = Stack::new().await;
    let (users, _notifications) = (stack.users(&[]).await, stack.notifications().await);
    let user = users.create("Ada").await;
    let writers = (0..100).map(async |number| users.rename(&user, &format!("Ada {number}")).await);
    let answers: Vec<User> = futures::future::join_all(writers).await;

    let mut versions: Vec<_> = answers.iter().map(|answer| answer.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=101).collect::<Vec<_>>());
    let rows = stack.converged().await;
    assert_eq!(rows[0].version, 101);
    assert!(answers.contains(&rows[0]));
    let on_stream: Vec<_> = (stack.events().await.iter())
        .map(|(_, event)| event.state().version)
        .collect();
    assert_eq!(on_stream, (1..=101).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_write_that_is_rolled_back_leaves_nothing_and_stops_nobody() {
    let stack = Stack::new().await;
    let (users, _notifications) = (stack.users(&[]).await, stack.notifications().await);
    let before = users.create("Ada").await;
    let taken = json!({ "name": "Eve", "email": before.email });
    let request = users
        .client
        .post(format!("{}/users", users.url))
        .json(&taken);
    let conflict = request.send().await.expect("an answer");
    assert_eq!(conflict.status(), StatusCode::CONFLICT);

    let mut rolled_back = stack.postgres.pool.begin().await.expect("a transaction");
    write(&mut rolled_back, "rolled-back@example.com").await;
    rolled_back.rollback().await.expect("a rollback");
    users.create("Grace").await;

    assert_eq!(stack.converged().await.len(), 2);
    let names: Vec<_> = (stack.events().await.iter())
        .map(|(_, event)| event.state().name.clone())
        .collect();
    assert_eq!(names, ["Ada", "Grace"]);
}

#[tokio::test]
async fn a_write_that_commits_late_holds_up_nobody_and_is_not_lost() {
    let stack = Stack::new().await;
    let (users, _notifications) = (stack.users(&[]).await, stack.notifications().await);
    let mut late = stack.postgres.pool.begin().await.expect("a transaction");
    write(&mut late, "late@example.com").await;
    for number in 0..5 {
        users.create(&format!("Ada {number}")).await;
    }
    // Its id is drawn and below theirs; they are delivered all the same.
    assert_eq!(stack.converged().await.len(), 5);
    late.commit().await.expect("a commit");
    assert_eq!(stack.converged().await.len(), 6);
    let events = stack.events().await;
    let (_, last) = events.last().expect("an event");
    assert!(matches!(last, UserEvent::UserCreated(state) if state.email == "late@example.com"));
}

/// A user and its event, as the service writes them.
async fn write(transaction: &mut sqlx::Transaction<'_, sqlx::Postgres>, email: &str) {
    sqlx::query(
        r"
        with created as (
            insert into users (name, email) values ('Late', $1)
            returning id, name, email, updated_at, version
        )
        insert into outbox.event (event_id, aggregate_type, aggregate_id, event_type, version, payload)
        select $2, 'user', id::text, 'user_created', version,
               user_state(id, name, email, updated_at, version)
        from created
        ",
    )
    .bind(email)
    .bind(Uuid::now_v7())
    .execute(&mut **transaction)
    .await
    .expect("a write");
}
