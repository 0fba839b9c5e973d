use std::cell::Cell;

use futures::future::join_all;
use reqwest::{StatusCode, header};
use serde_json::Value;
use testkit::{Service, eventually};

use crate::support::{World, user};

#[tokio::test]
async fn without_postgres_it_lives_says_so_and_recovers_by_itself() {
    let mut world = World::new().await;
    let proxy = world.proxy_to_postgres().await;
    proxy.cut();
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

#[tokio::test]
async fn silent_connections_to_postgres_are_replaced_while_requests_are_in_flight() {
    const CONNECTIONS: usize = 4;
    let mut world = World::new().await;
    let proxy = world.proxy_to_postgres().await;
    let api = world
        .serve(&["--database-connections", &CONNECTIONS.to_string()])
        .await;
    let id = api.create().await;
    for round in 1..=2 {
        let mut held = world.database.pool.begin().await.expect("a transaction");
        sqlx::query("select from users where id = $1 for update")
            .bind(id)
            .execute(&mut *held)
            .await
            .expect("a lock");
        let is_silent = Cell::new(false);
        // One that has waited too long for the lock asks again.
        let requests = (0..CONNECTIONS).map(async |_| {
            while !is_silent.get() {
                let renamed = api.put(id, &user("Eve")).await;
                assert_ne!(renamed.status(), StatusCode::OK);
            }
        });
        let cut = async {
            world.lock_is_waited_for().await;
            proxy.black_hole();
            is_silent.set(true);
        };
        tokio::join!(cut, join_all(requests));
        held.rollback().await.expect("a rollback");

        eventually("as many requests at once as before", async || {
            let (ada, eve) = (user("Ada"), user("Eve"));
            let (created, read, changed) = tokio::join!(
                api.post(&ada),
                join_all((0..CONNECTIONS).map(|_| api.get("/users"))),
                join_all((0..CONNECTIONS).map(|_| api.put(id, &eve))),
            );
            let all = [read, changed].into_iter().flatten();
            let work = all.map(|it| it.status()).all(|it| it == StatusCode::OK);
            (work && created.status() == StatusCode::CREATED).then_some(())
        })
        .await;
        world.published(round).await;
        world.drained().await;
    }
}

#[tokio::test]
async fn a_relay_in_another_process_hears_of_writes_again_after_its_connections_fell_silent() {
    let mut world = World::new().await;
    let api = world.serve(&["--no-relay"]).await;
    let proxy = world.proxy_to_postgres().await;
    let arguments = ["relay", "--poll-interval", "1min"];
    let _relay = Service::start("user-service", &arguments, &world.environment());
    api.create().await;
    world.published(1).await;
    proxy.black_hole();
    for events in 2..=4 {
        api.create().await;
        world.published(events).await;
    }
}

/// With the driver's own settings it takes three minutes.
#[tokio::test]
async fn a_silent_connection_to_nats_is_noticed_and_replaced() {
    let (world, proxy) = World::with_proxy_to_nats().await;
    let api = world.serve(&[]).await;
    api.create().await;
    world.published(1).await;
    proxy.black_hole();
    api.create().await;
    world.published(2).await;
    world.drained().await;
}
