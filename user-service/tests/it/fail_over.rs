//! A standby that takes the place of the primary, behind one address.

use reqwest::StatusCode;
use testkit::{
    Proxy, eventually,
    postgres::{Database, Server},
};

use crate::support::{Api, World, user};

/// A primary and its standby.
pub(crate) struct Pair {
    primary: Server,
    pub(crate) standby: Server,
    /// The address of the one that clients shall reach.
    pub(crate) proxy: Proxy,
}

impl Pair {
    /// With a world that reaches them by their one address.
    pub(crate) async fn start() -> (Self, World) {
        let primary = Server::start().await;
        let standby = primary.standby().await;
        let proxy = Proxy::start(primary.address()).await;
        let mut world = World::new().await;
        world.database = Database::at(format!("postgres://postgres@{}/postgres", proxy.address()));
        let pair = Self {
            primary,
            standby,
            proxy,
        };
        (pair, world)
    }

    /// The primary dies once a first user is on the standby, which takes reads only.
    pub(crate) async fn lose_primary(&mut self, world: &World, api: &Api) {
        api.create().await;
        world.published(1).await;
        let copied = self.standby.database().pool;
        eventually("the user on the standby", async || {
            let users: i64 = sqlx::query_scalar("select count(*) from users")
                .fetch_one(&copied)
                .await
                .ok()?;
            (users == 1).then_some(())
        })
        .await;
        self.primary.kill();
        self.lead_to(&self.standby, api).await;
        let refused = api.post(&user("Ada")).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    /// Waits until the service reads there.
    pub(crate) async fn lead_to(&self, server: &Server, api: &Api) {
        self.proxy.redirect(server.address());
        eventually("reads from a standby", async || {
            (api.get("/users").await.status() == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// The standby becomes the primary, and takes a second user.
    pub(crate) async fn promote(&self, world: &World, api: &Api) {
        self.standby.promote().await;
        self.proxy.redirect(self.standby.address());
        eventually("a new user", async || {
            (api.post(&user("Ada")).await.status() == StatusCode::CREATED).then_some(())
        })
        .await;
        world.published(2).await;
        world.drained().await;
    }
}

#[tokio::test]
async fn behind_one_address_the_service_follows_a_fail_over_by_itself() {
    let (mut pair, world) = Pair::start().await;
    let api = world.serve(&[]).await;
    pair.lose_primary(&world, &api).await;
    pair.promote(&world, &api).await;
}
