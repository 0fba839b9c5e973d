//! The live page as browsers get it.

use reqwest::{StatusCode, header};
use serde_json::Value;

use crate::support::World;

#[tokio::test]
async fn the_page_needs_no_token_and_may_call_the_two_services_only() {
    let world = World::new().await;
    let arguments = [
        "--no-relay",
        "--tokens=read reader-reader-reader",
        "--live-copy-url=https://copy.example",
    ];
    let api = world.serve(&arguments).await;
    let page = api.get("/live").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(
        page.headers()[header::CONTENT_TYPE],
        "text/html; charset=utf-8"
    );
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].clone();
    insta::assert_snapshot!(policy.to_str().expect("text"), @"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' https://copy.example; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    let page = page.text().await.expect("text");
    assert!(!page.contains("<style"), "{page}");
    for part in ["src=\"", "href=\""] {
        for path in page
            .split(part)
            .skip(1)
            .filter_map(|it| it.split('"').next())
        {
            if path.starts_with("/live/") {
                assert_eq!(api.get(path).await.status(), StatusCode::OK, "{path}");
            }
        }
    }
    let config: Value = api
        .get("/live/config.json")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(config["copy_url"], "https://copy.example");
    let script = api.get("/live/live.js").await;
    let content_type = &script.headers()[header::CONTENT_TYPE];
    assert_eq!(content_type, "text/javascript; charset=utf-8");
    assert_eq!(script.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");

    for path in ["/live/config.rs", "/live/../users", "/live/", "/users"] {
        let status = api.get(path).await.status();
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_sent_again_only_if_it_has_changed() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay", "--live-copy-url=none"]).await;
    let first = api.get("/live/theme.css").await;
    let tag = first.headers()[header::ETAG].clone();
    let ask = |tag: &str| {
        let request = api.client().get(api.to("/live/theme.css"));
        request.header(header::IF_NONE_MATCH, tag.to_owned()).send()
    };
    let known = ask(tag.to_str().expect("text")).await.expect("an answer");
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(known.headers()[header::CACHE_CONTROL], "no-cache");
    assert_eq!(
        ask("\"7\"").await.expect("an answer").status(),
        StatusCode::OK
    );
    let config: Value = api
        .get("/live/config.json")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(config["copy_url"], Value::Null);

    let rebound = api.client().get(api.to("/live"));
    let rebound = rebound.header(header::HOST, "evil.example").send().await;
    let status = rebound.expect("an answer").status();
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
}
