//! Comparing the copy with the users.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use mongodb::bson::doc;
use serde_json::{Value, json};
use service_runtime::page::Page;
use shared_events::{UserEvent, UserState};
use testkit::eventually;
use tokio::net::TcpListener;

use crate::{
    events::{created, deleted, named, state, updated},
    holes,
    support::{Service, World},
    users_api::UsersApi,
};

/// What the user service would answer.
#[derive(Clone)]
struct Users {
    users: Arc<Vec<UserState>>,
    looks: Arc<AtomicUsize>,
    /// The ids that were to be published again, request by request.
    republished: Arc<Mutex<Vec<Vec<i64>>>>,
}

impl Users {
    /// In the order of ids; and where they are served.
    async fn serve(users: Vec<UserState>) -> (Self, String) {
        let users = Self {
            users: Arc::new(users),
            looks: Arc::default(),
            republished: Arc::default(),
        };
        let routes = Router::new()
            .route("/users", get(Self::list))
            .route("/users/republish", post(Self::republish))
            .route("/users/{id}", get(Self::one))
            .with_state(users.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async { axum::serve(listener, routes).await });
        (users, url)
    }

    async fn list(State(it): State<Self>, page: Page) -> Response {
        let users = it.users.iter().filter(|user| user.id > page.after);
        let users: Vec<_> = users.take(page.limit.into()).collect();
        page.respond(&users, |user| user.id)
    }

    /// Refuses user 3, whoever else is named.
    async fn republish(State(it): State<Self>, Json(body): Json<Value>) -> Response {
        let users = body["users"].as_array().expect("users");
        let ids: Vec<_> = users.iter().filter_map(|it| it["id"].as_i64()).collect();
        let (is_refused, republished) = (ids.contains(&3), ids.len());
        it.republished.lock().expect("no panic").push(ids);
        if is_refused {
            return StatusCode::UNPROCESSABLE_ENTITY.into_response();
        }
        Json(json!({ "republished": republished })).into_response()
    }

    async fn one(State(it): State<Self>, Path(id): Path<i64>) -> Response {
        it.looks.fetch_add(1, Ordering::Relaxed);
        let user = it.users.iter().find(|user| user.id == id);
        user.map_or(StatusCode::NOT_FOUND.into_response(), |user| {
            Json(user).into_response()
        })
    }
}

async fn verify(world: &World, users: &str, service: &Service, settle: &str) -> (bool, Vec<Value>) {
    let copies = service.url();
    let arguments = [
        "verify",
        "--json",
        "--users",
        users,
        "--notifications",
        &copies,
        "--settle",
        settle,
    ];
    let (agree, output) = world.run(&arguments).await;
    let lines = output
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    (agree, lines.collect())
}

#[tokio::test]
async fn two_sides_that_agree_are_found_to_over_many_pages() {
    let world = World::new().await;
    let service = world.serve().await;
    let events: Vec<_> = (1..=2_500).map(created).collect();
    world.publish_all(&events).await;
    world.publish(&deleted(2_600, 2)).await;
    world.settled().await;
    let (_, users) = Users::serve(events.iter().map(|it| it.state().clone()).collect()).await;

    let (agree, lines) = verify(&world, &users, &service, "0s").await;
    assert!(agree, "{lines:?}");
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["agree"], true);
    assert_eq!(
        (&lines[0]["users"], &lines[0]["copies"]),
        (&2500.into(), &2500.into())
    );
    service.stop().await;
}

#[tokio::test]
async fn a_table_is_compared_by_digests_unless_all_is_to_be_read() {
    let world = World::new().await;
    let service = world.serve().await;
    let events: Vec<_> = (1..=300).map(created).collect();
    world.publish_all(&events).await;
    world.settled().await;
    let users = (1..=301).map(|id| state(id, if id == 7 { 2 } else { 1 }));
    let (api, users) = UsersApi::serve(users).await;

    let copies = service.url();
    let sides = [
        "--users",
        &users,
        "--notifications",
        &copies,
        "--settle",
        "0s",
    ];
    let expected = "\
        stale     user 7  version 2  copy 1\n\
        missing   user 301  version 1  copy -\n\
        301 users, 300 copies: 0 ahead, 0 conflict, 0 damaged, 0 extra, 1 missing, 1 stale\n";
    let (agree, output) = world.run(&[&["verify"], &sides[..]].concat()).await;
    assert!(!agree && output.starts_with(expected), "{output}");
    assert_eq!(api.pages.load(Ordering::Relaxed), 0);

    let digests = api.asked(16_384).len();
    let (agree, output) = world
        .run(&[&["verify", "--full"], &sides[..]].concat())
        .await;
    assert!(!agree && output.starts_with(expected), "{output}");
    assert_eq!(api.asked(16_384).len(), digests);
    service.stop().await;
}

#[tokio::test]
async fn each_difference_is_named_for_what_it_is() {
    let world = World::new().await;
    let service = world.serve().await;
    let events = [
        created(1),
        named(2, 1, "other content"),
        updated(3, 1),
        updated(4, 3),
        created(6),
        deleted(7, 2),
    ];
    world.publish_all(&events).await;
    world.settled().await;
    let users = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 1), (7, 1)];
    let users = users.map(|(id, version)| state(id, version)).into();
    let (_, users) = Users::serve(users).await;

    let (agree, mut lines) = verify(&world, &users, &service, "0s").await;
    assert!(!agree);
    let summary = lines.pop().expect("a summary");
    assert_eq!(summary["agree"], false);
    let found: Vec<_> = lines
        .iter()
        .map(|it| (it["user_id"].as_i64(), it["difference"].as_str()))
        .collect();
    let expected = [
        (2, "conflict"),
        (3, "stale"),
        (4, "ahead"),
        (5, "missing"),
        (6, "extra"),
        (7, "missing"),
    ];
    assert_eq!(found, expected.map(|(id, kind)| (Some(id), Some(kind))));
    assert_eq!(summary["counts"]["conflict"], 1);
    assert_eq!(summary["counts"]["missing"], 2);
    service.stop().await;
}

#[tokio::test]
async fn what_is_only_late_is_no_difference() {
    let world = World::new().await;
    let service = world.serve().await;
    world.publish_all(&[created(1), created(3)]).await;
    world.settled().await;
    let (users, url) = Users::serve(vec![state(1, 2), state(2, 1)]).await;

    let late = async {
        eventually("a second look", async || {
            (users.looks.load(Ordering::Relaxed) > 3).then_some(())
        })
        .await;
        let events: [UserEvent; 3] = [updated(1, 2), created(2), deleted(3, 2)];
        world.publish_all(&events).await;
    };
    let ((agree, lines), ()) = tokio::join!(verify(&world, &url, &service, "30s"), late);
    assert!(agree, "{lines:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_user_who_can_not_be_repaired_keeps_no_other_from_it() {
    let world = World::new().await;
    let service = world.serve().await;
    let (users, url) = Users::serve((1..=9).map(|id| state(id, 1)).collect()).await;

    let copies = service.url();
    let sides = [
        "--users",
        &url,
        "--notifications",
        &copies,
        "--settle",
        "0s",
    ];
    let (agree, output) = world
        .run(&[&["verify", "--repair"], &sides[..]].concat())
        .await;
    assert!(!agree);
    assert!(
        output.contains("a user was not published again"),
        "{output}"
    );
    assert!(output.contains("9 missing"), "{output}");
    let requests = users.republished.lock().expect("no panic").clone();
    let mut accepted: Vec<_> = (requests.iter())
        .filter(|ids| !ids.contains(&3))
        .flatten()
        .copied()
        .collect();
    accepted.sort_unstable();
    assert_eq!(accepted, [1, 2, 4, 5, 6, 7, 8, 9]);
    service.stop().await;
}

#[tokio::test]
async fn a_damaged_document_is_a_difference_whether_its_user_exists_or_not() {
    let world = World::new().await;
    let service = world.serve().await;
    let events: Vec<_> = (1..=3).map(created).collect();
    world.publish_all(&events).await;
    world.settled().await;
    let damage = doc! { "$set": { "version": "1" } };
    let copy = world.collection();
    let damaged = copy.update_many(doc! { "_id": { "$gt": 1 } }, damage);
    assert_eq!(damaged.await.expect("a write").modified_count, 2);
    let (_, users) = Users::serve(vec![state(1, 1), state(2, 1)]).await;

    let (agree, lines) = verify(&world, &users, &service, "0s").await;
    assert!(!agree);
    let found: Vec<_> = lines[..lines.len() - 1]
        .iter()
        .map(|it| (it["user_id"].as_i64(), it["difference"].as_str()))
        .collect();
    assert_eq!(
        found,
        [(Some(2), Some("damaged")), (Some(3), Some("damaged"))]
    );
    assert_eq!(lines.last().expect("a summary")["counts"]["damaged"], 2);
    service.stop().await;
}

#[tokio::test]
async fn agreement_makes_up_for_events_that_left_the_stream_unread() {
    let world = World::new().await;
    let service = holes::missed_second(&world).await;

    let (_, users) = Users::serve(vec![state(1, 1), state(2, 1)]).await;
    let (agree, _) = verify(&world, &users, &service, "0s").await;
    assert!(!agree);
    assert_eq!(holes::holes(&service).await, [(2, 2)]);

    let (_, users) = Users::serve(vec![state(1, 1)]).await;
    let (agree, lines) = verify(&world, &users, &service, "0s").await;
    assert!(agree, "{lines:?}");
    assert_eq!(holes::holes(&service).await, []);
    service.stop().await;
}
