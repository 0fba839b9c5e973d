//! Names and addresses stay out of the logs at their usual level, whatever becomes of the events.

use mongodb::{IndexModel, bson::doc, options::IndexOptions};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Service, eventually};

use crate::support::{Api, Stack};

const NAME: &str = "Zebulon Quimby";
const RENAMED: &str = "Zebulon Quimby-Jones";
/// A part of what is logged anywhere, should a name or an address be.
const TRACES: [&str; 4] = ["Zebulon", "Quimby", "zebulon", "quimby"];

fn start(stack: &Stack, binary: &str) -> Service {
    let mut environment = stack.environment();
    environment.push(("RUST_LOG", "info".to_owned()));
    Service::start(binary, &["serve"], &environment)
}

fn event(id: i64, version: i64) -> Vec<u8> {
    let event = json!({ "type": "user_created", "payload": {
        "id": id, "name": NAME, "email": "zebulon@quimby.example",
        "updated_at": "2026-01-02T03:04:05.678Z", "version": version,
    }});
    event.to_string().into_bytes()
}

async fn request(api: &Api, method: Method, path: &str, body: Value) -> u16 {
    let request = api.client.request(method, format!("{}{path}", api.url));
    let response = request.json(&body).send().await.expect("an answer");
    response.status().as_u16()
}

async fn dead_letters(stack: &Stack, count: usize) {
    eventually("the dead letters", async || {
        let letters = stack.dead_letters().await?;
        (letters.len() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn neither_names_nor_addresses_are_logged_at_the_usual_level() {
    let stack = Stack::new().await;
    let users = Api::ready(start(&stack, "user-service")).await;
    let notifications = Api::ready(start(&stack, "notification-service")).await;

    // Written, refused, changed and deleted.
    let user = json!({ "name": NAME, "email": "zebulon.first@quimby.example" });
    assert_eq!(request(&users, Method::POST, "/users", user).await, 201);
    let faulty = json!({ "name": NAME, "email": "zebulon quimby" });
    assert_eq!(request(&users, Method::POST, "/users", faulty).await, 422);
    let changed = users.create(NAME).await;
    let changed = users.rename(&changed, RENAMED).await;
    users.delete(&changed).await;
    stack.converged().await;

    // No event, and one whose fields are not what they must be.
    stack
        .publish(format!("{NAME} <zebulon@quimby.example>"))
        .await;
    let body = json!({ "type": "user_created", "payload": { "id": NAME, "name": NAME } });
    stack.publish(body.to_string()).await;
    dead_letters(&stack, 2).await;

    // Another has the address, and an index of somebody else allows it once: the refusal quotes it.
    let copies = stack.mongo.collection("user_notifications");
    let options = IndexOptions::builder()
        .unique(true)
        .partial_filter_expression(doc! { "email": { "$exists": true } })
        .build();
    let index = IndexModel::builder().keys(doc! { "email": 1 });
    let index = index.options(options).build();
    copies.create_index(index).await.expect("an index");
    stack.publish(event(1_000, 1)).await;
    eventually("the first", async || notifications.copy_of(1_000).await).await;
    stack.publish(event(1_001, 1)).await;
    dead_letters(&stack, 3).await;
    let retried = request(
        &notifications,
        Method::POST,
        "/dead-letters/3/retry",
        json!({}),
    )
    .await;
    assert_eq!(retried, 200);
    eventually("the dead letter of the replay", async || {
        let path = "/dead-letters/4";
        (request(&notifications, Method::DELETE, path, json!({})).await == 204).then_some(())
    })
    .await;

    for mut service in [users.service, notifications.service] {
        assert!(service.process.stop().await.success());
        let output = service.process.output();
        assert!(!output.is_empty());
        let shows = |line: &&String| TRACES.iter().any(|trace| line.contains(trace));
        assert_eq!(output.iter().find(shows), None, "shown");
    }
}
