//! A standby that takes the place of the primary, behind one address.

use reqwest::StatusCode;
use testkit::{
    Proxy, eventually,
    postgres::{Database, Server},
};

use crate::support::{World, user};

#[tokio::test]
async fn behind_one_address_the_service_follows_a_fail_over_by_itself() {
    let mut primary = Server::start().await;
    let standby = primary.standby().await;
    let proxy = Proxy::start(primary.address()).await;
    let mut world = World::new().await;
    world.database = Database::at(format!("postgres://postgres@{}/postgres", proxy.address()));
    let api = world.serve(&[]).await;
    api.create().await;
    world.published(1).await;
    let copied = standby.database().pool;
    eventually("the user on the standby", async || {
        let users: i64 = sqlx::query_scalar("select count(*) from users")
            .fetch_one(&copied)
            .await
            .ok()?;
        (users == 1).then_some(())
    })
    .await;

    primary.kill();
    proxy.redirect(standby.address());
    eventually("reads from the standby", async || {
        (api.get("/users").await.status() == StatusCode::OK).then_some(())
    })
    .await;
    let refused = api.post(&user("Ada")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);

    standby.promote().await;
    eventually("a new user", async || {
        (api.post(&user("Ada")).await.status() == StatusCode::CREATED).then_some(())
    })
    .await;
    world.published(2).await;
    world.drained().await;
}
