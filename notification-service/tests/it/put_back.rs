//! A copy in the place of which an older one is put, or nothing.

use chrono::Utc;
use mongodb::bson::doc;
use shared_events::{UserEvent, UserState};
use testkit::{
    eventually,
    mongodb::{Backup, Database, Server},
};

use crate::{
    events::{created, state, updated},
    support::World,
};

async fn world(mongodb: &Server) -> World {
    World {
        database: Database::create_at(mongodb.uri()).await,
        ..World::new().await
    }
}

impl World {
    /// Waits until the position that is kept beside the copy is the end of the stream.
    async fn kept(&self) {
        self.settled().await;
        let last = self.stream().await.cached_info().state.last_sequence;
        eventually("the position to be kept", async || {
            let state = self.database.collection("projection_state");
            let position = state.find_one(doc! {}).await.ok()??;
            (position.get_i64("settled").ok()? == last.cast_signed()).then_some(())
        })
        .await;
    }

    /// Waits until the copy has the users of [`begin`] as they are in the end.
    async fn has_all(&self) {
        eventually("the copy to have what it lacked", async || {
            let is_there = self.version(1).await == Some(2) && self.version(3).await == Some(1);
            let tombstone = self.document(2).await?;
            (is_there && tombstone.contains_key("deleted_at")).then_some(())
        })
        .await;
    }
}

/// What is in the backup, and what comes after it.
async fn begin(world: &World) {
    world.publish_all(&[created(1), created(2)]).await;
    world.kept().await;
}

async fn go_on(world: &World) {
    // Tombstones expire by the time of their event.
    let deleted = UserEvent::UserDeleted(UserState {
        updated_at: Utc::now(),
        ..state(2, 2)
    });
    let later = [updated(1, 2), deleted, created(3)];
    world.publish_all(&later).await;
    world.kept().await;
}

/// As it was before what came last.
async fn backed_up(world: &World, mongodb: &mut Server) -> Backup {
    begin(world).await;
    let backup = mongodb.backup();
    go_on(world).await;
    backup
}

#[tokio::test]
async fn a_copy_that_is_put_back_under_a_running_service_gets_what_it_lacks() {
    let mut mongodb = Server::start().await;
    let world = world(&mongodb).await;
    let service = world.serve().await;
    let backup = backed_up(&world, &mut mongodb).await;

    mongodb.kill();
    mongodb.restore(backup).await;
    world.has_all().await;
    service.stop().await;
}

#[tokio::test]
async fn a_copy_that_is_put_back_while_no_service_runs_gets_what_it_lacks() {
    let mut mongodb = Server::start().await;
    let world = world(&mongodb).await;
    let service = world.serve().await;
    let backup = backed_up(&world, &mut mongodb).await;
    service.stop().await;

    mongodb.kill();
    mongodb.restore(backup).await;
    assert_eq!(world.version(1).await, Some(1));
    let service = world.serve().await;
    world.has_all().await;
    service.stop().await;
}

/// No server is restarted for it.
#[tokio::test]
async fn a_copy_that_is_dropped_is_made_again_from_the_stream() {
    let world = World::new().await;
    let service = world.serve().await;
    begin(&world).await;
    go_on(&world).await;

    world.database.database.drop().await.expect("dropped");
    world.has_all().await;
    service.stop().await;
}
