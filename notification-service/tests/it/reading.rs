//! The read API.

use mongodb::bson::{DateTime, Document, doc};
use serde_json::{Value, json};
use testkit::eventually;

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
    // The copy has not come to what was written after that.
    problem(&service, "/notifications/user/1?min_version=3", 503).await;
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

fn ids(page: &[Value]) -> Vec<i64> {
    let ids = page.iter().map(|user| user["user_id"].as_i64());
    ids.map(|id| id.expect("an id")).collect()
}

#[tokio::test]
async fn a_damaged_document_is_left_out_of_lists_and_named() {
    let world = World::new().await;
    let service = world.serve().await;
    let events: Vec<_> = (1..=9).map(created).collect();
    world.publish_all(&events).await;
    world.settled().await;
    let damages = [
        (2, doc! { "version": "7" }),
        (3, doc! { "version": i64::MAX }),
        (4, doc! { "name": 7 }),
        (5, doc! { "user_id": 50_i64 }),
        (9, doc! { "version": 1.5 }),
    ];
    for (id, damage) in damages {
        let copy = world.collection();
        let update = copy.update_one(doc! { "_id": id }, doc! { "$set": damage });
        assert_eq!(update.await.expect("a write").modified_count, 1);
    }

    let (mut seen, mut damaged) = (Vec::new(), Vec::new());
    let mut next = Some("/notifications?limit=2".to_owned());
    while let Some(path) = next {
        let response = service.get(&path).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        let header = |name: &str| Some(headers.get(name)?.to_str().expect("text").to_owned());
        let ids_of_page = header("x-damaged-users").unwrap_or_default();
        damaged.extend(
            ids_of_page
                .split(',')
                .filter_map(|id| id.parse::<i64>().ok()),
        );
        next = header("link").map(|link| link[1..link.find('>').expect("a link")].to_owned());
        let page: Vec<Value> = response.json().await.expect("an array");
        seen.extend(ids(&page));
    }
    assert_eq!(seen, [1, 6, 7, 8]);
    damaged.sort_unstable();
    assert_eq!(damaged, [2, 3, 4, 5, 9]);

    for id in damaged {
        let body = problem(&service, &format!("/notifications/user/{id}"), 500).await;
        assert_eq!(body["type"], "/problems/damaged");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_list_reads_no_tombstones_however_many_come_first() {
    const TOMBSTONES: i64 = 3_000;
    let world = World::new().await;
    let service = world.serve().await;
    let tombstones = (1..=TOMBSTONES).map(|id| {
        doc! { "_id": id, "user_id": id, "version": 2_i64, "deleted_at": DateTime::now() }
    });
    let inserted = world.collection().insert_many(tombstones).await;
    inserted.expect("a write");
    let events: Vec<_> = (TOMBSTONES + 1..=TOMBSTONES + 40).map(created).collect();
    world.publish_all(&events).await;
    world.settled().await;
    let has_index = async || {
        let names = world.collection().list_index_names().await.ok()?;
        names.contains(&"living_users".to_owned()).then_some(())
    };
    eventually("the index", has_index).await;

    let database = &world.database.database;
    let profile = async |level: i32| {
        let set = database.run_command(doc! { "profile": level }).await;
        set.expect("a profiler");
    };
    profile(2).await;
    let response = service.get("/notifications?limit=10").await;
    let page: Vec<Value> = response.json().await.expect("an array");
    assert_eq!(ids(&page), (3_001..=3_010).collect::<Vec<_>>());
    profile(0).await;
    let reads = world.database.collection("system.profile");
    let read = doc! { "op": "query", "command.find": world.collection().name() };
    let read: Document = (reads.find_one(read).await.expect("a read")).expect("a profile");
    let examined = read.get_i32("keysExamined").expect("a count");
    assert!((10..=11).contains(&examined), "{examined}: {read}");

    // While the index is being made, or after somebody has dropped it.
    let dropped = world.collection().drop_index("living_users").await;
    dropped.expect("dropped");
    let response = service.get("/notifications?limit=10").await;
    assert_eq!(response.status(), 200);
    let page: Vec<Value> = response.json().await.expect("an array");
    assert_eq!(ids(&page), (3_001..=3_010).collect::<Vec<_>>());
    service.stop().await;
}
