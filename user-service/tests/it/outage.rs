use reqwest::{StatusCode, header};
use serde_json::Value;
use testkit::{Proxy, eventually};

use crate::support::{World, user};

#[tokio::test]
async fn without_postgres_it_lives_says_so_and_recovers_by_itself() {
    let mut world = World::new().await;
    let direct = world.database.url.clone();
    let server = direct
        .split('@')
        .next_back()
        .and_then(|rest| rest.split('/').next());
    let server = server.expect("a host").to_owned();
    let proxy = Proxy::start(server.clone()).await;
    proxy.cut();
    world.database.url = direct.replace(&server, &proxy.address().to_string());
    let api = world.serve_unready(&[]).await;
    eventually("a line that says what it waits for", async || {
        let waits = |line: &String| line.contains("waiting") && line.contains("Postgres");
        api.service.process.output().iter().any(waits).then_some(())
    })
    .await;
    assert_eq!(api.get("/livez").await.status(), StatusCode::OK);
    assert_eq!(
        api.get("/readyz").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );

    proxy.pass();
    api.ready().await;
    api.create().await;
    world.published(1).await;

    proxy.cut();
    for _ in 0..3 {
        let refused = api.post(&user("Ada")).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        let problem: Value = refused.json().await.expect("a problem");
        assert_eq!(problem["detail"], "the users can't be reached now");
    }
    proxy.pass();
    eventually("a user to be created again", async || {
        (api.post(&user("Ada")).await.status() == StatusCode::CREATED).then_some(())
    })
    .await;
    world.published(2).await;
}
