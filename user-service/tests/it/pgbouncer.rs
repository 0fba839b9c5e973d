//! Behind `PgBouncer` in transaction mode, which has fewer connections to the server than the service
//! has to it.

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use testkit::{Service, pgbouncer::PgBouncer};

use crate::{
    fail_over::Pair,
    import::{import, results, users},
    support::{Api, World, assert_in_order, unless_busy, user},
};

const WRITERS: usize = 12;

impl World {
    /// Services that are started from now on reach Postgres through a pooler. Migrations, and the test
    /// itself, go past it.
    async fn behind_pgbouncer(&mut self, settings: &[&str]) -> PgBouncer {
        let bouncer = PgBouncer::start(&self.database.url, settings).await;
        self.settings = vec![
            ("DATABASE_URL", bouncer.url()),
            ("DATABASE_POOLER", "transaction".to_owned()),
            ("MIGRATION_DATABASE_URL", self.database.url.clone()),
        ];
        bouncer
    }
}

async fn create_under_key(api: &Api, key: &str, body: &Value) -> (StatusCode, Value) {
    let send = async || {
        let request = api.client().post(api.to("/users")).json(body);
        let response = request.header("idempotency-key", key).send().await;
        response.expect("an answer")
    };
    let response = unless_busy(send).await;
    (response.status(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn behind_pgbouncer_every_part_works_under_load() {
    let mut world = World::new().await;
    let _bouncer = world.behind_pgbouncer(&["default_pool_size = 3"]).await;
    let api = world.serve(&["--no-relay"]).await;
    let _relay = Service::start("user-service", &["relay"], &world.environment());

    let writing = (0..WRITERS).map(async |writer| {
        let id = api.create().await;
        for round in 0..10 {
            api.rename(id, &format!("Ada {round}")).await;
            let listed = unless_busy(async || api.get("/users?limit=5").await).await;
            assert_eq!(listed.status(), StatusCode::OK);
        }
        let (key, body) = (format!("key-{writer}"), user("Eve"));
        let (first, again) = (
            create_under_key(&api, &key, &body).await,
            create_under_key(&api, &key, &body).await,
        );
        assert_eq!(first.0, StatusCode::CREATED);
        assert_eq!(first, again);
        let eve = first.1["id"].as_i64().expect("an id");
        let deleted = unless_busy(async || api.delete(eve).await).await;
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    });
    let importing = async {
        let send = async || import(&api, "", Some("an-import"), users(0..500)).await;
        let imported = unless_busy(send).await;
        assert_eq!(results(imported).await.len(), 501);
        let send = async || import(&api, "?mode=all-or-nothing", None, users(500..700)).await;
        let whole = unless_busy(send).await;
        assert_eq!(
            results(whole).await,
            [json!({"done": {"created": 200, "refused": 0}})]
        );
    };
    tokio::join!(join_all(writing), importing);
    let written = WRITERS * 13 + 700;
    assert_in_order(&world.published(written).await);

    let (done, output) = world.run(&["republish", "--all"]).await;
    assert!(done, "{output}");
    let living = WRITERS + 700;
    assert_in_order(&world.published(written + living).await);
    let (done, output) = world.run(&["outbox", "list"]).await;
    assert!(done, "{output}");
    api.ready().await;
}

/// As the shared statement of many creations relies on: 50 ms, then 250 ms.
#[tokio::test]
async fn behind_pgbouncer_an_address_that_is_held_costs_others_one_short_wait() {
    let mut world = World::new().await;
    let _bouncer = world.behind_pgbouncer(&["default_pool_size = 5"]).await;
    let api = world.serve(&[]).await;
    let mut holder = world.database.pool.begin().await.expect("a transaction");
    sqlx::query(
        "insert into users (name, email, normal_email, normal_email_set)
         values ('Eve', 'held@example.com', 'held@example.com', true)",
    )
    .execute(&mut *holder)
    .await
    .expect("a row");
    let held = json!({ "name": "Ada", "email": "held@example.com" });
    for _ in 0..3 {
        let (refused, others) = tokio::join!(
            api.post(&held),
            join_all((0..WRITERS).map(async |_| api.post(&user("Ada")).await.status()))
        );
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let problem: Value = refused.json().await.expect("a problem");
        let locked = "another change of the same is under way";
        assert_eq!(problem["detail"], locked);
        assert!(others.iter().all(|it| *it == StatusCode::CREATED));
    }
    holder.rollback().await.expect("a rollback");
}

#[tokio::test]
async fn a_pooler_that_is_killed_and_restarted_loses_no_write_and_readiness_tells() {
    let mut world = World::new().await;
    let mut bouncer = world.behind_pgbouncer(&["default_pool_size = 2"]).await;
    let api = world.serve(&[]).await;
    let mut written = BTreeSet::from([api.create().await]);
    for _ in 0..3 {
        bouncer.kill();
        api.check_is("postgres", "failed").await;
        let refused = api.post(&user("Ada")).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        bouncer.restart().await;
        api.ready().await;
        written.insert(api.create().await);
    }
    let events = world.published(written.len()).await;
    let published: BTreeSet<_> = events.iter().map(|it| it.event.state().id).collect();
    assert!(published.is_superset(&written));
    world.drained().await;
}

#[tokio::test]
async fn a_pooler_that_takes_no_more_clients_is_told_by_readiness() {
    let mut world = World::new().await;
    let bouncer = world.behind_pgbouncer(&["max_client_conn = 40"]).await;
    let mut others = Vec::new();
    for _ in 0..40 {
        others.push(bouncer.connect().await);
    }
    let api = world.serve_unready(&[]).await;
    api.check_is("postgres", "failed").await;
    assert_eq!(api.get("/livez").await.status(), StatusCode::OK);
    drop(others);
    api.ready().await;
    api.create().await;
}

/// The pooler keeps its connections to the server that was the primary; whoever is refused there has
/// them replaced.
#[tokio::test]
async fn behind_pgbouncer_the_service_follows_a_fail_over_by_itself() {
    let (mut pair, mut world) = Pair::start().await;
    let _bouncer = world.behind_pgbouncer(&["default_pool_size = 4"]).await;
    let api = world.serve(&[]).await;
    pair.lose_primary(&world, &api).await;
    // Connections that were made to the standby lead to it still, while another takes writes.
    let lagging = pair.standby.standby().await;
    pair.lead_to(&lagging, &api).await;
    pair.promote(&world, &api).await;
}

#[tokio::test]
async fn behind_pgbouncer_without_a_url_for_migrations_it_ends_and_says_why() {
    let mut world = World::new().await;
    let _bouncer = world.behind_pgbouncer(&[]).await;
    world
        .settings
        .retain(|(name, _)| *name != "MIGRATION_DATABASE_URL");
    for role in ["serve", "relay", "migrate"] {
        let (succeeded, output) = world.run(&[role]).await;
        assert!(!succeeded, "{output}");
        assert!(output.contains("MIGRATION_DATABASE_URL"), "{output}");
    }
}
