//! `POST /users/republish`: mending a copy, user by user.

use reqwest::StatusCode;
use serde_json::{Value, json};
use shared_events::UserEvent;
use testkit::eventually;

use crate::{
    api::assert_problem,
    support::{Api, World, user},
};

async fn republish(api: &Api, users: &Value) -> Value {
    let response = api
        .post_to("/users/republish", &json!({ "users": users }))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.expect("JSON")
}

/// The answer if nobody was left alone.
fn published(users: u64) -> Value {
    json!({"republished": users, "left_alone": {"maybe_in_creation": 0, "out_of_reach": 0}})
}

#[tokio::test]
async fn each_user_is_published_above_the_version_of_the_copy() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let (stale, ahead, gone) = (api.create().await, api.create().await, api.create().await);
    api.delete(gone).await;
    world.published(4).await;
    let wanted = json!([
        {"id": stale}, {"id": ahead, "above": 7.0}, {"id": ahead, "above": 3}, {"id": gone, "above": 2}
    ]);
    let answer = republish(&api, &wanted).await;
    assert_eq!(answer, published(3));

    let events = world.published(7).await;
    let told: Vec<_> = events[4..].iter().map(|it| &it.event).collect();
    let version_of = |id| {
        let event = told.iter().find(|event| event.state().id == id);
        event.map(|event| {
            (
                event.state().version,
                matches!(event, UserEvent::UserDeleted(_)),
            )
        })
    };
    assert_eq!(version_of(stale), Some((1, false)));
    assert_eq!(version_of(ahead), Some((8, false)));
    assert_eq!(version_of(gone), Some((3, true)));

    let user = api
        .get(&format!("/users/{ahead}"))
        .await
        .json::<Value>()
        .await;
    assert_eq!(
        user.expect("a user")["version"],
        8,
        "both sides count alike"
    );
    let users: Vec<Value> = api.get("/users").await.json().await.expect("users");
    assert_eq!(users.len(), 2);
}

#[tokio::test]
async fn a_deletion_that_the_ledger_knows_is_published_above_its_version() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let gone = api.create().await;
    api.rename(gone, "Grace").await;
    api.delete(gone).await;
    // The copy, or the stream, has something in the place of these versions.
    let answer = republish(&api, &json!([{"id": gone, "above": 1}])).await;
    assert_eq!(answer, published(1));
    let events = world.published(4).await;
    let versions: Vec<_> = events.iter().map(|it| it.event.state().version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    assert!(matches!(events[3].event, UserEvent::UserDeleted(_)));
}

#[tokio::test]
async fn an_id_beyond_the_sequence_is_published_as_deleted_and_never_given_out() {
    let world = World::new().await;
    let api = world.serve(&[]).await;
    let answer = republish(&api, &json!([{"id": 40, "above": 9}])).await;
    assert_eq!(answer, published(1), "no id was given out yet");
    let id = api.create().await;
    assert!(id > 40, "{id} was the copy's");
    let events = world.published(2).await;
    let UserEvent::UserDeleted(deleted) = &events[0].event else {
        panic!("{}", events[0].body);
    };
    assert_eq!((deleted.id, deleted.version), (40, 10));
}

#[tokio::test]
async fn an_id_far_beyond_the_sequence_is_left_alone_and_uses_up_no_ids() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    let wanted = json!([{"id": i64::MAX / 2}, {"id": 2_000_000_000}, {"id": id}]);
    let answer = republish(&api, &wanted).await;
    let left_alone = json!({"maybe_in_creation": 0, "out_of_reach": 2});
    assert_eq!(answer, json!({"republished": 1, "left_alone": left_alone}));
    assert_eq!(api.create().await, id + 1);
}

/// Asks again if it has left the user alone, since the creation took too long.
async fn republished(api: &Api, users: &Value) {
    eventually("a user that is published again", async || {
        (republish(api, users).await == published(1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_who_is_being_created_is_not_taken_for_deleted() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let pool = &world.database.pool;
    let mut open = pool.begin().await.expect("a transaction");
    let id: i64 = sqlx::query_scalar(
        "insert into users (name, email) values ('Ada', 'ada@example.com') returning id",
    )
    .fetch_one(&mut *open)
    .await
    .expect("a user");
    let wanted = json!([{"id": id, "above": 3}]);
    let commit_once_waited_for = async {
        a_republish_waits(&world).await;
        open.commit().await.expect("a commit");
    };
    tokio::join!(republished(&api, &wanted), commit_once_waited_for);
    let (r#type, version): (String, i64) =
        sqlx::query_as("select event_type, version from outbox.event")
            .fetch_one(pool)
            .await
            .expect("one event");
    assert_eq!((r#type.as_str(), version), ("user_updated", 4));
}

/// It has drawn its id, but waits for its address before it inserts its row.
#[tokio::test]
async fn a_user_whose_creation_waits_for_its_address_is_not_taken_for_deleted() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let pool = &world.database.pool;
    let mut holder = pool.begin().await.expect("a transaction");
    sqlx::query("insert into users (name, email) values ('Eve', 'ada@example.com')")
        .execute(&mut *holder)
        .await
        .expect("a user");
    let creating = sqlx::query_scalar::<_, i64>(
        "insert into users (name, email) select 'Ada', 'ada@example.com'
         on conflict (lower(email)) do nothing returning id",
    )
    .fetch_one(pool);
    let republishing = async {
        world.lock_is_waited_for().await;
        republished(&api, &json!([{"id": 2, "above": 3}])).await;
    };
    let giving_way = async {
        a_republish_waits(&world).await;
        holder.rollback().await.expect("a rollback");
    };
    let (id, (), ()) = tokio::join!(creating, republishing, giving_way);
    assert_eq!(id.expect("a user"), 2);
    let (r#type, version): (String, i64) =
        sqlx::query_as("select event_type, version from outbox.event")
            .fetch_one(pool)
            .await
            .expect("one event");
    assert_eq!((r#type.as_str(), version), ("user_updated", 4));
}

#[tokio::test]
async fn an_absent_user_is_left_alone_while_somebody_may_be_creating_it() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    api.delete(id).await;
    let mut open = world.database.pool.begin().await.expect("a transaction");
    sqlx::query("insert into users (name, email) values ('Ada', 'ada@example.com')")
        .execute(&mut *open)
        .await
        .expect("a user");
    let wanted = json!([{"id": id, "above": 3}]);
    let left_alone = json!({"maybe_in_creation": 1, "out_of_reach": 0});
    assert_eq!(
        republish(&api, &wanted).await,
        json!({"republished": 0, "left_alone": left_alone})
    );
    open.commit().await.expect("a commit");
    assert_eq!(republish(&api, &wanted).await, published(1));
}

/// Waits until a republish waits for those who may be creating users.
async fn a_republish_waits(world: &World) {
    eventually("a republish that waits", async || {
        let looking: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where query like '%restate_each%' and wait_event = 'PgSleep'
                 and datname = current_database()",
        )
        .fetch_one(&world.database.pool)
        .await
        .ok()?;
        (looking > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_list_of_users_is_refused_whole() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    for (users, pointer) in [
        (json!([]), "/users"),
        (json!([{"id": 0}]), "/users/0/id"),
        (json!([{"id": 1.5}]), "/users/0/id"),
        (json!([{"id": 1, "above": -1}]), "/users/0/above"),
        (json!([{"id": 1, "above": i64::MAX}]), "/users/0/above"),
        (json!(vec![json!({"id": 1}); 1001]), "/users"),
    ] {
        let answer = api
            .post_to("/users/republish", &json!({ "users": users }))
            .await;
        assert_problem(answer, StatusCode::UNPROCESSABLE_ENTITY, pointer).await;
    }
}

#[tokio::test]
async fn publishing_users_again_needs_a_token_of_its_own_scope() {
    let world = World::new().await;
    let (writer, repairer) = ("writer-writer-writer", "repairer-repairer");
    let tokens = format!("--tokens=write {writer},repair {repairer}");
    let api = world.serve(&["--no-relay", &tokens]).await;
    let status = async |path: &str, body: &Value, token| {
        let request = api.client().post(api.to(path)).json(body);
        let response = request.bearer_auth(token).send().await;
        response.expect("an answer").status()
    };
    let (repair, create) = (json!({"users": [{"id": 1}]}), user("Ada"));
    let forbidden = StatusCode::FORBIDDEN;
    assert_eq!(status("/users/republish", &repair, writer).await, forbidden);
    assert_eq!(status("/users", &create, repairer).await, forbidden);
    assert_eq!(
        status("/users/republish", &repair, repairer).await,
        StatusCode::OK
    );
    assert_eq!(status("/users", &create, writer).await, StatusCode::CREATED);
}

/// What a message on the stream may claim.
#[tokio::test]
async fn what_no_user_can_have_is_refused_at_once_and_uses_up_nothing() {
    let world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let id = api.create().await;
    let pool = &world.database.pool;
    let restate = async |id: &str, version: i64| {
        let restated =
            sqlx::query_scalar::<_, String>("select restate_users(array[$1], array[$2])")
                .bind(id)
                .bind(version)
                .fetch_all(pool)
                .await;
        restated.map_err(|error| {
            let code = error.as_database_error().and_then(|it| it.code());
            code.unwrap_or_default().into_owned()
        })
    };
    let user = id.to_string();
    for (id, version) in [
        ("abc", 1),
        ("0", 1),
        ("9000000000000000000", 1),
        ("2000000000", 1),
        (user.as_str(), (1 << 62) - 2),
    ] {
        assert_eq!(restate(id, version).await, Err("22000".to_owned()), "{id}");
    }
    assert_eq!(restate(&user, 1 << 53).await, Ok(vec![user.clone()]));
    assert_eq!(api.create().await, id + 1);
}
