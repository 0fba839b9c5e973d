//! What is served is what is described.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::World;

/// The path with something in the place of each parameter.
fn with_values(path: &str) -> String {
    let parts = path.split('/');
    let parts = parts.map(|part| if part.starts_with('{') { "1" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Each path of the document takes the methods that it lists, and no other.
#[tokio::test]
async fn the_description_and_the_routes_agree() {
    let world = World::new().await;
    let service = world.serve().await;
    let client = reqwest::Client::new();
    let document: Value = service
        .get("/openapi.json")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(document, notification_service::app::openapi());
    let paths = document["paths"].as_object().expect("paths");
    assert!(!paths.is_empty());
    for (path, item) in paths {
        let described = item.as_object().expect("operations");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let is_described = described.contains_key(&method.to_lowercase());
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let url = format!("{}{}", service.url(), with_values(path));
            let response = client.request(method.clone(), url).send().await;
            let status = response.expect("an answer").status();
            let is_taken = status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_taken, is_described, "{method} {path}: {status}");
            let described = &described.get(&method.as_str().to_lowercase());
            if let Some(operation) = described {
                assert!(
                    operation["responses"][status.as_str()].is_object(),
                    "{method} {path}: {status}"
                );
            }
        }
    }
}
