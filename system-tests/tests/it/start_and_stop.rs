use reqwest::StatusCode;
use testkit::{Service, eventually, mongodb, nats};

use crate::support::{Api, Stack};

#[tokio::test]
async fn both_start_before_their_servers_are_there() {
    let mut nats = nats::Server::start().await;
    let mut server = mongodb::Server::start().await;
    nats.stop().await;
    server.kill();
    let mongo = mongodb::Database::create_at(server.uri()).await;
    let stack = Stack::on(nats.url(), mongo).await;
    let users = stack.start("user-service", &["serve"]);
    let notifications = stack.start("notification-service", &["serve"]);
    waits_for(&users, "NATS").await;
    waits_for(&notifications, "NATS").await;
    // Users can be written already: what their events wait for is not what the API waits for.
    let users = Api::ready_but_for(users, "relay").await;
    users.create("Ada").await;
    nats.restart().await;
    waits_for(&notifications, "MongoDB").await;
    server.restart().await;
    let _notifications = Api::ready(notifications).await;
    assert_eq!(stack.converged().await.len(), 1);
}

#[tokio::test]
async fn sigterm_ends_both_in_good_order_with_requests_in_flight() {
    let stack = Stack::new().await;
    let (mut users, mut notifications) = (stack.users(&[]).await, stack.notifications().await);
    let user = users.create("Ada").await;
    stack.converged().await;

    // A request that is certainly under way when the signal comes. It does not wait for a lock,
    // which it would give up soon.
    sqlx::raw_sql(
        r"
        create function hold() returns trigger language plpgsql as
        'begin
             while not pg_try_advisory_xact_lock_shared(1) loop perform pg_sleep(0.01); end loop;
             return new;
         end';
        create trigger hold before update on users for each row execute function hold();
        ",
    )
    .execute(&stack.postgres.pool)
    .await
    .expect("a trigger");
    let mut holding = stack.postgres.pool.begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock(1)")
        .execute(&mut *holding)
        .await
        .expect("a lock");
    let (client, url) = (
        users.client.clone(),
        format!("{}/users/{}", users.url, user.id),
    );
    let renaming = tokio::spawn(async move {
        let body = serde_json::json!({ "name": "Ada L.", "email": user.email });
        client.put(url).json(&body).send().await
    });
    eventually("the request to be held", async || {
        let waiting: i64 = sqlx::query_scalar(
            r"
            select count(*) from pg_stat_activity
            where datname = current_database() and wait_event = 'PgSleep'
              and query ilike '%update users%'
            ",
        )
        .fetch_one(&stack.postgres.pool)
        .await
        .ok()?;
        (waiting == 1).then_some(())
    })
    .await;
    users.service.process.terminate();
    eventually("the service to shut down", async || {
        let output = users.service.process.output();
        output
            .iter()
            .any(|line| line.contains("shutting down"))
            .then_some(())
    })
    .await;
    holding.rollback().await.expect("it may go on");
    let renamed = renaming.await.expect("the client").expect("an answer");
    assert_eq!(renamed.status(), StatusCode::OK);
    assert!(users.service.process.ended().await.success());
    assert!(notifications.service.process.stop().await.success());

    let (_users, _notifications) = (stack.users(&[]).await, stack.notifications().await);
    assert_eq!(stack.converged().await[0].name, "Ada L.");
}

async fn waits_for(service: &Service, what: &str) {
    eventually("a line that says what it waits for", async || {
        let waits = |line: &String| line.contains("waiting") && line.contains(what);
        service.process.output().iter().any(waits).then_some(())
    })
    .await;
}
