//! What clients take for deleted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{delete, put},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Client;
use cluster_tests::cluster::Cluster;

use crate::history::User;

fn user(version: i64) -> Value {
    json!({ "id": 1, "email": "ada@example.com", "version": version, "name": "Ada" })
}

/// A client whose user the service may have; there is no answer to the first deletion.
async fn client(has_user: bool) -> Client {
    let change = async move || match has_user {
        true => Ok(Json(user(2))),
        false => Err(StatusCode::NOT_FOUND),
    };
    let was_asked = Arc::<AtomicBool>::default();
    let delete_user = async move || match was_asked.swap(true, Ordering::Relaxed) {
        false => StatusCode::SERVICE_UNAVAILABLE,
        true => StatusCode::NOT_FOUND,
    };
    let routes = Router::new().route("/users/1", put(change).merge(delete(delete_user)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async { axum::serve(listener, routes).await });
    Client {
        cluster: Arc::new(Cluster::of_users(url)),
        users: vec![User::of(&user(1)).expect("a user")],
        writes: Arc::default(),
    }
}

#[tokio::test]
async fn a_user_whose_creation_was_lost_does_not_pass_for_deleted() {
    let mut client = client(false).await;
    client.delete(0).await.expect_err("it is not there");
    assert!(!client.users[0].deleted);
}

#[tokio::test]
async fn a_deletion_that_was_not_answered_is_doubtful() {
    let mut client = client(true).await;
    client.delete(0).await.expect("it is gone");
    assert!(client.users[0].deleted && client.users[0].is_doubtful);
}
