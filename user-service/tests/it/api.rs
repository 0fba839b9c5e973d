use std::convert::Infallible;

use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use testkit::eventually;

use crate::support::{World, unless_busy, user};

#[tokio::test]
async fn a_user_is_created_read_changed_and_deleted() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;

    let created = api
        .post(&json!({"name": " Ada ", "email": "Ada@example.com"}))
        .await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let location = created.headers()[header::LOCATION]
        .to_str()
        .expect("text")
        .to_owned();
    let created: Value = created.json().await.expect("a user");
    assert_eq!(created["name"], "Ada");
    assert_eq!(created["email"], "Ada@example.com");
    assert_eq!(created["version"], 1);
    assert_eq!(location, format!("/users/{}", created["id"]));

    let found: Value = api.get(&location).await.json().await.expect("a user");
    assert_eq!(found, created);

    let id = created["id"].as_i64().expect("an id");
    let changed = api
        .put(id, &json!({"name": "Ada L.", "email": "ada@example.com"}))
        .await;
    assert_eq!(changed.status(), StatusCode::OK);
    let changed: Value = changed.json().await.expect("a user");
    assert_eq!(changed["version"], 2);

    assert_eq!(api.delete(id).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(api.delete(id).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(api.get(&location).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_put_that_changes_nothing_writes_nothing() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let body = user("Ada");
    let created: Value = api.post(&body).await.json().await.expect("a user");
    let id = created["id"].as_i64().expect("an id");
    let unchanged: Value = api.put(id, &body).await.json().await.expect("a user");
    assert_eq!(unchanged, created);
    assert_eq!(events(&world).await, 1);
}

#[tokio::test]
async fn a_taken_address_is_a_conflict_and_leaves_neither_row_nor_event() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let first = json!({"name": "Ada", "email": "ada@example.com"});
    assert_eq!(api.post(&first).await.status(), StatusCode::CREATED);
    let conflict = api
        .post(&json!({"name": "Eve", "email": "ADA@example.com"}))
        .await;
    assert_problem(conflict, StatusCode::CONFLICT, "/email").await;

    let id = api.create().await;
    let conflict = api.put(id, &first).await;
    assert_problem(conflict, StatusCode::CONFLICT, "/email").await;
    assert_eq!(events(&world).await, 2);
    let users: Vec<Value> = api.get("/users").await.json().await.expect("users");
    assert_eq!(users.len(), 2);
}

#[tokio::test]
async fn an_address_held_by_an_open_transaction_holds_up_no_other_user() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let mut open = world.database.pool.begin().await.expect("a transaction");
    sqlx::query("insert into users (name, email) values ('Eve', 'held@example.com')")
        .execute(&mut *open)
        .await
        .expect("a user");
    let held = json!({"name": "Ada", "email": "held@example.com"});
    let asking = futures::future::join_all((0..8).map(async |_| api.post(&held).await));
    let others = futures::future::join_all((0..20).map(async |_| {
        let other = user("Ada");
        // It may be refused because the service is busy, and not because of the address.
        eventually("another user", async || {
            let answer = api.post(&other).await;
            if answer.status() == StatusCode::CREATED {
                return Some(());
            }
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            let problem: Value = answer.json().await.expect("a problem");
            let locked = "another change of the same is under way";
            assert_ne!(problem["detail"], locked);
            None
        })
        .await;
    }));
    let (answers, others) = tokio::join!(asking, others);
    assert_eq!(others.len(), 20);
    for answer in answers {
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        assert_problem(answer, StatusCode::SERVICE_UNAVAILABLE, "").await;
    }
    open.rollback().await.expect("a rollback");
    assert_eq!(api.post(&held).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn changes_that_wait_for_a_lock_hold_up_no_read() {
    let world = World::new().await;
    let api = world
        .serve(&["--no-relay", "--database-connections", "2"])
        .await;
    let id = api.create().await;
    let mut open = world.database.pool.begin().await.expect("a transaction");
    sqlx::query("select from users where id = $1 for update")
        .bind(id)
        .execute(&mut *open)
        .await
        .expect("a lock");
    let change = user("Eve");
    // Each is refused after a while, and another one waits then.
    let changes = (0..8).map(async |_| -> Infallible {
        loop {
            let refused = api.put(id, &change).await;
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    });
    let reads = async {
        for path in ["/users", "/readyz"] {
            world.lock_is_waited_for().await;
            assert_eq!(api.get(path).await.status(), StatusCode::OK);
        }
    };
    tokio::select! {
        _ = futures::future::join_all(changes) => unreachable!("they go on"),
        () = reads => {}
    }
}

#[tokio::test]
async fn users_asked_for_at_once_are_all_created_and_each_address_once() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let drafts: Vec<_> = (0..200)
        .map(|number| json!({"name": format!("Ada {number}"), "email": format!("{}@example.com", number % 150)}))
        .collect();
    let answers = futures::future::join_all(drafts.iter().map(async |draft| {
        let answer = unless_busy(async || api.post(draft).await).await;
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    }));
    let answers = answers.await;
    let created = answers
        .iter()
        .filter(|(status, _)| *status == StatusCode::CREATED);
    assert_eq!(created.count(), 150);
    for ((status, body), draft) in answers.iter().zip(&drafts) {
        match *status {
            StatusCode::CREATED => assert_eq!(body["name"], draft["name"], "each gets its own"),
            status => assert_eq!(status, StatusCode::CONFLICT),
        }
    }
    assert_eq!(events(&world).await, 150);
}

#[tokio::test]
async fn bad_input_gets_a_problem_that_names_the_field() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let long = "é".repeat(256);
    for (body, pointer) in [
        (json!({"email": "a@b.c"}), "/name"),
        (json!({"name": " ", "email": "a@b.c"}), "/name"),
        (json!({"name": "a\u{0}", "email": "a@b.c"}), "/name"),
        (json!({"name": long, "email": "a@b.c"}), "/name"),
        (json!({"name": "a", "email": "nobody"}), "/email"),
        (json!({"name": "a", "email": 7}), "/email"),
        (json!([]), ""),
    ] {
        assert_problem(
            api.post(&body).await,
            StatusCode::UNPROCESSABLE_ENTITY,
            pointer,
        )
        .await;
    }
    for path in [
        "/users/0",
        "/users/-1",
        "/users/ada",
        "/users/9223372036854775808",
    ] {
        assert_problem(api.get(path).await, StatusCode::BAD_REQUEST, "id").await;
    }
    let bad_page = api.get("/users?limit=0").await;
    assert_problem(bad_page, StatusCode::BAD_REQUEST, "limit").await;
    assert_eq!(events(&world).await, 0);
}

#[tokio::test]
async fn what_is_not_json_not_there_or_not_allowed_is_a_problem_too() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let send = async |content_type: &str, body: String| {
        let request = api
            .client()
            .post(api.to("/users"))
            .header(header::CONTENT_TYPE, content_type);
        request.body(body).send().await.expect("an answer")
    };
    let json = "application/json";
    assert_problem(send(json, "{".into()).await, StatusCode::BAD_REQUEST, "").await;
    assert_problem(
        send("text/plain", "{}".into()).await,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "",
    )
    .await;
    let huge = format!("\"{}\"", "a".repeat(5_000_000));
    assert_problem(send(json, huge).await, StatusCode::PAYLOAD_TOO_LARGE, "").await;
    assert_problem(api.get("/nowhere").await, StatusCode::NOT_FOUND, "").await;
    let patch = api
        .client()
        .patch(api.to("/users"))
        .send()
        .await
        .expect("an answer");
    assert!(
        patch.headers()[header::ALLOW]
            .to_str()
            .expect("text")
            .contains("POST")
    );
    assert_problem(patch, StatusCode::METHOD_NOT_ALLOWED, "").await;
}

#[tokio::test]
async fn pages_lead_to_each_other_and_an_empty_list_is_an_empty_array() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    assert_eq!(api.get("/users").await.text().await.expect("text"), "[]");
    let mut created = Vec::new();
    for _ in 0..5 {
        created.push(api.create().await);
    }
    let mut found = Vec::new();
    let mut next = Some("/users?limit=2".to_owned());
    while let Some(path) = next {
        let page = api.get(&path).await;
        let link = page
            .headers()
            .get(header::LINK)
            .map(|link| link.to_str().expect("text"));
        next = link.map(|link| {
            let target = link.strip_prefix('<').and_then(|link| link.split_once('>'));
            target.expect("a target").0.to_owned()
        });
        let users: Vec<Value> = page.json().await.expect("users");
        found.extend(users.iter().filter_map(|user| user["id"].as_i64()));
    }
    assert_eq!(found, created);
}

pub(crate) async fn assert_problem(response: reqwest::Response, status: StatusCode, place: &str) {
    assert_eq!(response.status(), status);
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/problem+json"
    );
    let problem: Value = response.json().await.expect("a problem");
    assert_eq!(problem["status"], status.as_u16());
    if !place.is_empty() {
        let error = &problem["errors"][0];
        let named = [&error["pointer"], &error["parameter"]];
        assert!(named.contains(&&json!(place)), "{problem}");
    }
}

pub(crate) async fn events(world: &World) -> i64 {
    sqlx::query_scalar("select count(*) from outbox.event")
        .fetch_one(&world.database.pool)
        .await
        .expect("a count")
}
