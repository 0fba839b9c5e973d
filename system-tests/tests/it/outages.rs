use testkit::{eventually, mongodb, nats};

use crate::support::{Api, Stack, User, is_active};

#[tokio::test]
async fn writes_succeed_without_nats_and_arrive_after_its_return() {
    let mut nats = nats::Server::start().await;
    let stack = Stack::on(nats.url(), testkit::mongodb::Database::create().await).await;
    let (users, _notifications) = (stack.users(&[]).await, stack.notifications().await);
    let first = write_some(&users, None).await;
    stack.converged().await;
    nats.kill();
    write_some(&users, Some(&first)).await;
    nats.restart().await;
    assert_eq!(stack.converged().await.len(), 10);
}

#[tokio::test]
async fn writes_succeed_without_mongodb_and_arrive_after_its_return() {
    let mut server = mongodb::Server::start().await;
    let mongo = mongodb::Database::create_at(server.uri()).await;
    let stack = Stack::on(nats::shared_url(), mongo).await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let first = write_some(&users, None).await;
    stack.converged().await;
    server.kill();
    write_some(&users, Some(&first)).await;
    server.restart().await;
    assert_eq!(stack.converged().await.len(), 10);
    assert_eq!(notifications.list().await.len(), 10);
    let dead_letters = stack.dead_letters().await.expect("their stream");
    assert!(
        dead_letters.is_empty(),
        "an outage is no reason to give up an event"
    );
}

#[tokio::test]
async fn writes_succeed_without_the_relay_and_arrive_after_its_return() {
    let stack = Stack::new().await;
    let (users, _notifications) = (
        stack.users(&["--no-relay"]).await,
        stack.notifications().await,
    );
    let mut relay = stack.relay().await;
    let first = write_some(&users, None).await;
    stack.converged().await;
    relay.process.kill();
    write_some(&users, Some(&first)).await;
    let relay = stack.start("user-service", &["relay"]);
    is_active(&relay).await;
    assert_eq!(stack.converged().await.len(), 10);
}

#[tokio::test]
async fn writes_succeed_without_the_notification_service_and_arrive_after_its_return() {
    let stack = Stack::new().await;
    let (users, mut notifications) = (stack.users(&[]).await, stack.notifications().await);
    let first = write_some(&users, None).await;
    stack.converged().await;
    notifications.service.process.kill();
    write_some(&users, Some(&first)).await;
    let notifications = stack.notifications().await;
    assert_eq!(stack.converged().await.len(), 10);
    eventually("the list", async || {
        (notifications.list().await.len() == 10).then_some(())
    })
    .await;
}

/// Five new users, one of them changed, and one more created and deleted.
async fn write_some(users: &Api, earlier: Option<&User>) -> User {
    let mut created = Vec::new();
    for number in 0..5 {
        created.push(users.create(&format!("Ada {number}")).await);
    }
    users.rename(&created[0], "Ada L.").await;
    if let Some(earlier) = earlier {
        users.rename(earlier, "Ada K.").await;
    }
    let short_lived = users.create("Eve").await;
    users.delete(&short_lived).await;
    created.swap_remove(1)
}
