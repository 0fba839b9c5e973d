//! Versions as entity tags, and changes that depend on them.

use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    api::{assert_problem, events},
    support::{Api, World, unless_busy, user},
};

async fn send(api: &Api, method: Method, id: i64, tag: Option<&str>, body: &Value) -> Response {
    let media_type = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let mut request = api
        .client()
        .request(method, api.to(&format!("/users/{id}")))
        .header(header::CONTENT_TYPE, media_type)
        .body(body.to_string());
    if let Some(tag) = tag {
        request = request.header(header::IF_MATCH, tag);
    }
    request.send().await.expect("an answer")
}

fn tag(response: &Response) -> &str {
    response.headers()[header::ETAG].to_str().expect("text")
}

#[tokio::test]
async fn each_write_tells_the_version_that_it_made() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let created = api.post(&user("Ada")).await;
    assert_eq!(tag(&created), "\"1\"");
    let created: Value = created.json().await.expect("a user");
    let id = created["id"].as_i64().expect("an id");

    let replaced = api.put(id, &user("Ada L.")).await;
    assert_eq!(tag(&replaced), "\"2\"");
    let unchanged = send(&api, Method::PATCH, id, None, &json!({"name": "Ada L."})).await;
    assert_eq!(tag(&unchanged), "\"2\"");
    let patched = send(&api, Method::PATCH, id, None, &json!({"name": "Ada"})).await;
    assert_eq!(tag(&patched), "\"3\"");
    let patched: Value = patched.json().await.expect("a user");
    assert_eq!(
        (&patched["name"], &patched["version"]),
        (&json!("Ada"), &json!(3))
    );

    let found = api.get(&format!("/users/{id}")).await;
    assert_eq!(tag(&found), "\"3\"");
    assert_eq!(found.json::<Value>().await.expect("a user"), patched);
    let deleted = api.delete(id).await;
    assert_eq!(
        (deleted.status(), tag(&deleted)),
        (StatusCode::NO_CONTENT, "\"4\"")
    );
    assert_eq!(events(&world).await, 4);
}

#[tokio::test]
async fn what_the_client_knows_is_not_sent_again() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    let ask = async |tag: &str| {
        let request = api.client().get(api.to(&format!("/users/{id}")));
        let request = request.header(header::IF_NONE_MATCH, tag);
        request.send().await.expect("an answer")
    };
    let known = ask("\"1\"").await;
    assert_eq!(tag(&known), "\"1\"");
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    api.rename(id, "Ada L.").await;
    assert_eq!(ask("\"1\"").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_change_meant_for_another_version_is_not_made() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    api.rename(id, "Ada L.").await;
    let whole = user("Eve");
    let part = json!({"name": "Eve"});
    for stale in ["\"1\"", "W/\"2\"", "\"x\""] {
        for (method, body) in [
            (Method::PUT, &whole),
            (Method::PATCH, &part),
            (Method::DELETE, &Value::Null),
        ] {
            let answer = send(&api, method, id, Some(stale), body).await;
            assert_problem(answer, StatusCode::PRECONDITION_FAILED, "").await;
        }
    }
    assert_eq!(events(&world).await, 2);
    let answer = send(&api, Method::PATCH, id + 1, Some("\"1\""), &part).await;
    assert_problem(answer, StatusCode::NOT_FOUND, "").await;

    let changed = send(&api, Method::PATCH, id, Some("\"1\", \"2\""), &part).await;
    assert_eq!((changed.status(), tag(&changed)), (StatusCode::OK, "\"3\""));
    let deleted = send(&api, Method::DELETE, id, Some("*"), &Value::Null).await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn of_many_changes_meant_for_one_version_one_is_made() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    let answers = futures::future::join_all((0..30).map(async |number| {
        let body = json!({"name": format!("Ada {number}")});
        let change = async || send(&api, Method::PATCH, id, Some("\"1\""), &body).await;
        unless_busy(change).await.status()
    }));
    let answers = answers.await;
    let made = answers.iter().filter(|it| **it == StatusCode::OK).count();
    let refused = |it: &&StatusCode| **it == StatusCode::PRECONDITION_FAILED;
    assert_eq!((made, answers.iter().filter(refused).count()), (1, 29));
    assert_eq!(events(&world).await, 2);
}

#[tokio::test]
async fn a_service_can_insist_on_knowing_what_is_to_be_changed() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay", "--require-if-match"]).await;
    let id = api.create().await;
    let part = json!({"name": "Eve"});
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let body = if method == Method::PUT {
            user("Eve")
        } else {
            part.clone()
        };
        let answer = send(&api, method, id, None, &body).await;
        assert_problem(answer, StatusCode::PRECONDITION_REQUIRED, "").await;
    }
    let changed = send(&api, Method::PATCH, id, Some("\"1\""), &part).await;
    assert_eq!(changed.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_patch_that_is_none_says_what_would_be_one() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    let request = api.client().patch(api.to(&format!("/users/{id}")));
    let plain = request.json(&json!({})).send().await.expect("an answer");
    assert_eq!(
        plain.headers()["accept-patch"],
        "application/merge-patch+json"
    );
    assert_problem(plain, StatusCode::UNSUPPORTED_MEDIA_TYPE, "").await;
    let removal = send(&api, Method::PATCH, id, None, &json!({"email": null})).await;
    assert_problem(removal, StatusCode::UNPROCESSABLE_ENTITY, "/email").await;
    let other = api.create().await;
    let other: Value = api
        .get(&format!("/users/{other}"))
        .await
        .json()
        .await
        .expect("a user");
    let taken = send(
        &api,
        Method::PATCH,
        id,
        None,
        &json!({"email": other["email"]}),
    )
    .await;
    assert_problem(taken, StatusCode::CONFLICT, "/email").await;
    assert_eq!(events(&world).await, 2);
}

#[tokio::test]
async fn a_user_is_found_by_the_address_in_whatever_case() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    api.create().await;
    let id = api.create().await;
    let user: Value = api
        .get(&format!("/users/{id}"))
        .await
        .json()
        .await
        .expect("a user");
    let email = user["email"].as_str().expect("an address").to_uppercase();
    let found: Value = api
        .get(&format!("/users?email={email}"))
        .await
        .json()
        .await
        .expect("users");
    assert_eq!(found, json!([user]));
    let none = api.get("/users?email=nobody@example.com").await;
    assert_eq!(none.text().await.expect("text"), "[]");
    assert_problem(
        api.get("/users?email=nobody").await,
        StatusCode::BAD_REQUEST,
        "email",
    )
    .await;
}
