//! What is served is what is described.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::World;

/// Each path of the document takes the methods that it lists, and no other.
#[tokio::test]
async fn the_description_and_the_routes_agree() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let document: Value = api.get("/openapi.json").await.json().await.expect("JSON");
    assert_eq!(document, user_service::app::openapi());
    let paths = document["paths"].as_object().expect("paths");
    assert!(!paths.is_empty());
    for (path, item) in paths {
        let described = item.as_object().expect("operations");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let is_described = described.contains_key(&method.to_lowercase());
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let url = api.to(&path.replace("{id}", "1"));
            let response = api.client().request(method.clone(), url).send().await;
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

#[tokio::test]
async fn the_events_are_described_too_and_people_find_a_page() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let events: Value = api.get("/asyncapi.json").await.json().await.expect("JSON");
    let address = &events["channels"]["userEvents"]["address"];
    assert_eq!(*address, world.topic.subject.as_str());
    let schema: Value = api
        .get("/user-event.json")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(schema["title"], "UserEvent");

    let page = api.get("/docs/").await;
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .expect("text");
    assert!(policy.starts_with("default-src 'self'"), "{policy}");
    let page = page.text().await.expect("text");
    assert!(
        !page.contains("https://"),
        "it needs something from elsewhere: {page}"
    );
    for part in [
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "swagger-initializer.js",
    ] {
        assert!(page.contains(part), "{page}");
        assert_eq!(
            api.get(&format!("/docs/{part}")).await.status(),
            StatusCode::OK
        );
    }
}
