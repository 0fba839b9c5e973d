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
    let users = Api::ready(users).await;
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
    let (client, url) = (users.client.clone(), users.url.clone());
    let writing = tokio::spawn(async move {
        let mut created = 0;
        loop {
            let email = format!("{}@example.com", testkit::unique("u"));
            let body = serde_json::json!({ "name": "Ada", "email": email });
            let Ok(response) = client.post(format!("{url}/users")).json(&body).send().await else {
                return created;
            };
            assert_eq!(response.status(), StatusCode::CREATED);
            created += 1;
        }
    });
    eventually("some users", async || {
        (stack.copies().await?.len() > 20).then_some(())
    })
    .await;
    assert!(users.service.process.stop().await.success());
    let created = writing.await.expect("the client");
    assert!(notifications.service.process.stop().await.success());
    // A write whose answer was cut off may count as well.
    let rows = stack.rows().await.len();
    assert!(
        rows == created || rows == created + 1,
        "{rows} rows, {created} answers"
    );

    let (_users, _notifications) = (stack.users(&[]).await, stack.notifications().await);
    stack.converged().await;
}

async fn waits_for(service: &Service, what: &str) {
    eventually("a line that says what it waits for", async || {
        let waits = |line: &String| line.contains("waiting") && line.contains(what);
        service.process.output().iter().any(waits).then_some(())
    })
    .await;
}
