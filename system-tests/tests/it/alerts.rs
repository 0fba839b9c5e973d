//! What Prometheus tells an operator, with the rules of `observability/` and the real `/metrics`: alerts
//! fire while something is wrong, and resolve.

mod monitor;

use reqwest::StatusCode;
use testkit::{Service, mongodb, nats};

use self::monitor::Monitor;
use crate::support::{Api, Stack};

#[tokio::test]
async fn alerts_fire_while_nats_is_stopped() {
    let mut nats = nats::Server::start().await;
    let stack = Stack::on(nats.url(), mongodb::Database::create().await).await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let monitor = Monitor::of(&users, &notifications).await;
    nats.stop().await;
    users.create("Ada").await;
    monitor
        .fire(&[
            "NatsDisconnected",
            "OutboxBehind",
            "ServiceNotReady",
            "CopyBehind",
        ])
        .await;
    nats.restart().await;
    monitor.all_is_well().await;
}

#[tokio::test]
async fn an_alert_fires_while_no_relay_is_active() {
    let stack = Stack::new().await;
    let (users, notifications) = (
        stack.users(&["--no-relay"]).await,
        stack.notifications().await,
    );
    let mut relay = stack.relay().await;
    let relay_url = relay.url().await;
    let monitor = Monitor::start(&[
        ("user-service", &users.url),
        ("relay", &relay_url),
        ("notification-service", &notifications.url),
    ])
    .await;
    monitor.all_is_well().await;
    relay.process.kill();
    monitor
        .fire(&["NoActiveRelay", "OutboxUnknown", "InstanceDown"])
        .await;
    let relay = stack.relay().await;
    monitor.watch(&[
        ("user-service", &users.url),
        ("relay", &relay.url().await),
        ("notification-service", &notifications.url),
    ]);
    monitor.all_is_well().await;
}

#[tokio::test]
async fn an_alert_fires_while_there_is_a_dead_letter() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let monitor = Monitor::of(&users, &notifications).await;
    stack.publish("not json at all").await;
    monitor.fire(&["DeadLetters"]).await;
    let discarding = ["dead-letters", "discard", "1", "--yes"];
    let mut discarding = stack.start("notification-service", &discarding);
    assert!(discarding.process.ended().await.success());
    monitor.all_is_well().await;
}

#[tokio::test]
async fn alerts_fire_while_mongodb_is_stopped() {
    let mut server = mongodb::Server::start().await;
    let mongo = mongodb::Database::create_at(server.uri()).await;
    let stack = Stack::on(nats::shared_url(), mongo).await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    let monitor = Monitor::of(&users, &notifications).await;
    server.kill();
    users.create("Ada").await;
    monitor.fire(&["CopyBehind", "ServiceNotReady"]).await;
    server.restart().await;
    monitor.all_is_well().await;
}

#[tokio::test]
async fn an_alert_fires_after_a_message_was_lost_from_the_stream() {
    let stack = Stack::new().await;
    let (users, notifications) = (stack.users(&[]).await, stack.notifications().await);
    for name in ["Ada", "Grace", "Edsger"] {
        users.create(name).await;
    }
    stack.acknowledged(3).await;
    let monitor = Monitor::of(&users, &notifications).await;
    let deleted = stack.stream().await.delete_message(2).await;
    assert!(deleted.expect("an answer"), "the message was there");
    monitor.fire(&["StreamLostEvents"]).await;
    monitor.all_is_well().await;
}

#[tokio::test]
async fn alerts_fire_while_a_process_is_gone() {
    let stack = Stack::new().await;
    let (users, mut notifications) = (stack.users(&[]).await, stack.notifications().await);
    let monitor = Monitor::of(&users, &notifications).await;
    notifications.service.process.kill();
    monitor
        .fire(&["ServiceDown", "InstanceDown", "CopyUnknown"])
        .await;
    let notifications = stack.notifications().await;
    monitor.watch(&[
        ("user-service", &users.url),
        ("notification-service", &notifications.url),
    ]);
    monitor.all_is_well().await;
}

#[tokio::test]
async fn metrics_need_the_token_that_is_set() {
    const TOKEN: &str = "a-token-of-24-characters";
    let stack = Stack::new().await;
    let token = [("METRICS_TOKEN", TOKEN.to_owned())];
    let environment = [&stack.environment()[..], &token].concat();
    let start = |binary| Service::start(binary, &["serve"], &environment);
    let users = Api::ready(start("user-service")).await;
    let notifications = Api::ready(start("notification-service")).await;
    for api in [&users, &notifications] {
        let url = format!("{}/metrics", api.url);
        let answer = api.client.get(&url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let request = api.client.get(&url).bearer_auth(TOKEN);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
    }

    let monitor = Monitor::start(&[
        ("user-service", &users.url),
        ("notification-service", &notifications.url),
    ])
    .await;
    monitor.fire(&["ServiceDown"]).await;
    monitor.use_token(TOKEN);
    monitor.all_is_well().await;
}
