//! The read API.

use serde_json::{Value, json};

use crate::{
    events::{created, deleted, state, updated},
    support::{Service, World},
};

#[tokio::test]
async fn pages_lead_through_all_living_users_in_order() {
    let world = World::new().await;
    let service = world.serve().await;
    let mut events: Vec<_> = [9, 3, 7, 1, 5].map(created).to_vec();
    events.push(deleted(4, 2));
    world.publish_all(&events).await;
    world.settled().await;

    let mut seen = Vec::new();
    let mut next = Some("/notifications?limit=2".to_owned());
    while let Some(path) = next {
        let response = service.get(&path).await;
        assert_eq!(response.status(), 200);
        next = response.headers().get("link").map(|link| {
            let link = link.to_str().expect("text");
            let target = link.strip_prefix('<').and_then(|it| it.split_once('>'));
            let (target, rest) = target.expect("a link");
            assert_eq!(rest, "; rel=\"next\"");
            target.to_owned()
        });
        let page: Vec<Value> = response.json().await.expect("an array");
        assert!(page.len() <= 2);
        seen.extend(
            page.iter()
                .map(|user| user["user_id"].as_i64().expect("an id")),
        );
    }
    assert_eq!(seen, [1, 3, 5, 7, 9]);

    let all = service.get("/notifications").await;
    let all: Vec<Value> = all.json().await.expect("an array");
    let ada = state(1, 1);
    assert_eq!(all.len(), 5);
    assert_eq!(
        all[0],
        json!({
            "user_id": 1, "name": ada.name, "email": ada.email,
            "updated_at": ada.updated_at, "version": 1,
        })
    );
    service.stop().await;
}

#[tokio::test]
async fn a_wrong_request_is_told_what_is_wrong() {
    let world = World::new().await;
    let service = world.serve().await;

    for id in ["0", "-1", "one", "1.5", "9223372036854775808", "%20"] {
        let body = problem(&service, &format!("/notifications/user/{id}"), 400).await;
        assert_eq!(body["errors"][0]["parameter"], "id", "{body}");
    }
    for (query, parameter) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=7", "cursor"),
    ] {
        let body = problem(&service, &format!("/notifications?{query}"), 400).await;
        assert_eq!(body["errors"][0]["parameter"], parameter, "{body}");
    }
    problem(&service, "/notifications/user/1", 404).await;
    problem(&service, "/nowhere", 404).await;
    for path in ["/notifications", "/notifications/user/1"] {
        let response = service.post(path).await;
        assert_eq!(response.status(), 405);
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(response.headers()["allow"], "GET,HEAD");
    }
    service.stop().await;
}

#[tokio::test]
async fn an_empty_list_is_an_empty_array() {
    let world = World::new().await;
    let service = world.serve().await;
    let response = service.get("/notifications").await;
    assert_eq!(response.headers().get("link"), None);
    assert_eq!(response.text().await.expect("a body"), "[]");
    service.stop().await;
}

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish(&created(1)).await;
    world.settled().await;
    let path = "/notifications/user/1";

    let first = service.get(path).await;
    let tag = first.headers()["etag"].to_str().expect("text").to_owned();
    assert_eq!(tag, "\"1\"");
    for known in [tag.as_str(), "W/\"1\"", "\"7\", \"1\"", "*"] {
        let again = service.get_with(path, "if-none-match", known).await;
        assert_eq!(again.status(), 304, "{known}");
        assert_eq!(again.headers()["etag"], tag);
        assert_eq!(again.text().await.expect("a body"), "");
    }

    world.publish(&updated(1, 2)).await;
    world.settled().await;
    let changed = service.get_with(path, "if-none-match", &tag).await;
    assert_eq!(changed.status(), 200);
    assert_eq!(changed.headers()["etag"], "\"2\"");
    service.stop().await;
}

#[tokio::test]
async fn a_deleted_user_is_told_from_one_that_is_not_there() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish_all(&[created(1), deleted(1, 2)]).await;
    world.settled().await;

    problem(&service, "/notifications/user/1", 410).await;
    problem(&service, "/notifications/user/1?min_version=2", 410).await;
    problem(&service, "/notifications/user/2", 404).await;
    service.stop().await;
}

async fn problem(service: &Service, path: &str, status: u16) -> Value {
    let response = service.get(path).await;
    assert_eq!(response.status(), status, "{path}");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["status"], status);
    body
}
