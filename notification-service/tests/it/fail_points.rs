//! A MongoDB that leaves commands unanswered.

use mongodb::bson::{Document, doc};
use testkit::mongodb::{Database, Server};

use crate::support::World;

/// A world with a MongoDB of its own, whose fail points can be set.
pub(crate) async fn world() -> (Server, World) {
    let mongodb = Server::start_with(&["--setParameter", "enableTestCommands=1"]).await;
    let mut world = World::new().await;
    world.database = Database::create_at(mongodb.uri()).await;
    (mongodb, world)
}

/// Commands that get no answer.
pub(crate) struct Silence {
    admin: mongodb::Database,
    /// Others before them.
    before: i32,
}

impl Silence {
    /// The service's next ones, so many, and in one collection only if its namespace is given.
    pub(crate) async fn begin(
        world: &World,
        command: &str,
        times: i32,
        namespace: Option<String>,
    ) -> Self {
        let admin = world.database.database.client().database("admin");
        let mut which = doc! {
            "failCommands": [command], "appName": "notification-service",
            "blockConnection": true, "blockTimeMS": 600_000,
        };
        which.extend(namespace.map(|it| ("namespace".to_owned(), it.into())));
        let fail_point: Document = doc! {
            "configureFailPoint": "failCommand", "mode": { "times": times }, "data": which,
        };
        let reply = admin.run_command(fail_point).await.expect("a fail point");
        let before = reply.get_i32("count").expect("a count");
        Self { admin, before }
    }

    /// Waits until so many were received.
    pub(crate) async fn has_met(&self, commands: i32) {
        let met = doc! {
            "waitForFailPoint": "failCommand", "timesEntered": self.before + commands,
            "maxTimeMS": 60_000,
        };
        let met = self.admin.run_command(met).await;
        met.expect("commands without an answer");
    }
}
