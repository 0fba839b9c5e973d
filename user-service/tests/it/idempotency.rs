//! Requests that are sent again under the same key.

use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use testkit::eventually;

use crate::{
    api::{assert_problem, events},
    support::{Api, World, unless_busy, user},
};

async fn post(api: &Api, key: &str, body: &Value) -> Response {
    let request = api.client().post(api.to("/users")).json(body);
    let request = request.header("idempotency-key", key);
    request.send().await.expect("an answer")
}

fn is_replayed(response: &Response) -> bool {
    response.headers().contains_key("idempotency-replayed")
}

#[tokio::test]
async fn the_same_request_under_the_same_key_gets_the_same_answer() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let body = user("Ada");
    let first = post(&api, "\"k-1\"", &body).await;
    assert!(!is_replayed(&first));
    let location = first.headers()[header::LOCATION].clone();
    let created: Value = first.json().await.expect("a user");

    let again = post(&api, "k-1", &body).await;
    assert!(is_replayed(&again));
    assert_eq!(again.status(), StatusCode::CREATED);
    assert_eq!(again.headers()[header::LOCATION], location);
    assert_eq!(again.headers()[header::ETAG], "\"1\"");
    assert_eq!(again.json::<Value>().await.expect("a user"), created);
    assert_eq!(events(&world).await, 1);
}

#[tokio::test]
async fn a_refusal_is_kept_as_well() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let body = user("Ada");
    let holder: Value = api.post(&body).await.json().await.expect("a user");
    assert_problem(post(&api, "k", &body).await, StatusCode::CONFLICT, "/email").await;
    api.delete(holder["id"].as_i64().expect("an id")).await;
    let again = post(&api, "k", &body).await;
    assert!(is_replayed(&again));
    assert_problem(again, StatusCode::CONFLICT, "/email").await;
    assert_eq!(post(&api, "k-2", &body).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_key_serves_one_request_only() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    post(&api, "k", &user("Ada")).await;
    let other = post(&api, "k", &user("Ada")).await;
    assert_problem(other, StatusCode::UNPROCESSABLE_ENTITY, "").await;
    for bad in ["", "a b", &"k".repeat(256)] {
        let answer = post(&api, bad, &user("Ada")).await;
        assert_problem(answer, StatusCode::BAD_REQUEST, "Idempotency-Key").await;
    }
    assert_eq!(events(&world).await, 1);
}

/// Sends again what has waited too long for a lock.
async fn created(api: &Api, key: &str, body: &Value) {
    eventually("a user", async || {
        let answer = post(api, key, body).await;
        (answer.status() == StatusCode::CREATED).then_some(())
    })
    .await;
}

/// An address that somebody's open transaction holds keeps the first request in progress.
#[tokio::test]
async fn while_a_request_is_in_progress_its_repeat_is_told_so() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let pool = &world.database.pool;
    let mut open = pool.begin().await.expect("a transaction");
    sqlx::query("insert into users (name, email) values ('Eve', 'held@example.com')")
        .execute(&mut *open)
        .await
        .expect("a user");
    let body = json!({"name": "Ada", "email": "held@example.com"});
    let repeat = async {
        let answer = eventually("a repeat while the first waits", async || {
            world.lock_is_waited_for().await;
            let answer = post(&api, "k", &body).await;
            (answer.status() == StatusCode::CONFLICT).then_some(answer)
        })
        .await;
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        assert_problem(answer, StatusCode::CONFLICT, "").await;
        open.rollback().await.expect("a rollback");
    };
    tokio::join!(created(&api, "k", &body), repeat);
}

/// By the lock that the outbox recommends for an aggregate without a row.
#[tokio::test]
async fn a_key_that_reads_like_an_aggregate_does_not_hold_up_its_writers() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let pool = &world.database.pool;
    let mut open = pool.begin().await.expect("a transaction");
    sqlx::query("insert into users (name, email) values ('Eve', 'held@example.com')")
        .execute(&mut *open)
        .await
        .expect("a user");
    let body = json!({"name": "Ada", "email": "held@example.com"});
    let writing = async {
        world.lock_is_waited_for().await;
        let lock = "select pg_try_advisory_xact_lock(hashtextextended('order/7', 0))";
        let is_free: bool = (sqlx::query_scalar(lock).fetch_one(pool).await).expect("an answer");
        assert!(is_free, "the request has it");
        open.rollback().await.expect("a rollback");
    };
    tokio::join!(created(&api, "order/7", &body), writing);
}

#[tokio::test]
async fn of_many_at_once_one_is_carried_out() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let body = user("Ada");
    let send = async || post(&api, "k", &body).await;
    let answers = (0..30).map(async |_| unless_busy(&send).await.status());
    let answers = futures::future::join_all(answers).await;
    assert!(answers.contains(&StatusCode::CREATED));
    let expected = [StatusCode::CREATED, StatusCode::CONFLICT];
    assert!(
        answers.iter().all(|it| expected.contains(it)),
        "{answers:?}"
    );
    assert_eq!(post(&api, "k", &body).await.status(), StatusCode::CREATED);
    assert_eq!(events(&world).await, 1);
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_time() {
    let world = World::new().await;
    let api = world
        .serve(&["--no-relay", "--idempotency-retention", "1s"])
        .await;
    let body = user("Ada");
    post(&api, "k", &body).await;
    eventually("the key to be forgotten", async || {
        let keys: i64 = sqlx::query_scalar("select count(*) from idempotency_key")
            .fetch_one(&world.database.pool)
            .await
            .expect("a count");
        (keys == 0).then_some(())
    })
    .await;
    let answer = post(&api, "k", &body).await;
    assert!(!is_replayed(&answer));
    assert_eq!(answer.status(), StatusCode::CONFLICT);
}
