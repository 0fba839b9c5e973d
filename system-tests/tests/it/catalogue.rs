//! The catalogue of hostile requests and messages: `system-tests/catalogue/`, a file for each area, and a
//! test for each file. Whatever was sent, the services go on as before.

mod connection;
mod expected;
mod messages;
mod requests;
mod serving;
mod text;

use std::{fs, path::Path};

use serde::de::DeserializeOwned;

#[tokio::test]
async fn what_is_no_http_is_refused_and_ends_the_connection() {
    requests::check("http").await;
}

#[tokio::test]
async fn no_body_of_a_user_does_harm() {
    requests::check("bodies").await;
}

#[tokio::test]
async fn no_import_does_harm() {
    requests::check("imports").await;
}

#[tokio::test]
async fn no_path_or_query_does_harm() {
    requests::check("parameters").await;
}

#[tokio::test]
async fn no_condition_key_or_search_does_harm() {
    requests::check("users").await;
}

#[tokio::test]
async fn no_read_of_the_copy_does_harm() {
    requests::check("copies").await;
}

#[tokio::test]
async fn health_and_metrics_tell_nobody_too_much() {
    requests::check("operators").await;
}

#[tokio::test]
async fn no_request_about_the_outbox_does_harm() {
    requests::check("outbox").await;
}

#[tokio::test]
async fn no_request_about_the_consumer_does_harm() {
    requests::check("consumer").await;
}

#[tokio::test]
async fn nobody_gets_in_by_another_host_or_page() {
    requests::check("origins").await;
}

#[tokio::test]
async fn nobody_gets_in_without_the_right_token() {
    requests::check("tokens").await;
}

#[tokio::test]
async fn no_message_on_the_subject_does_harm() {
    messages::check("messages").await;
}

/// The data of an area.
fn read<T: DeserializeOwned>(area: &str) -> T {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let path = directory.join(format!("{area}.toml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{area}.toml: {error}"));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{area}.toml: {error}"))
}

/// Fails with all that was found, each with what it was found at.
fn report(area: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{area}.toml:\n\n{}", faults.join("\n\n"));
}
