//! Databases that take the place of one which had more: afterwards both sides have what the new one
//! has, whatever was lost and however its ids and versions were used again. The procedures are those
//! of docs/restore.md.

mod dump;
mod point_in_time;
mod promotion;
mod replication;

use std::collections::{BTreeMap, BTreeSet};

use reqwest::StatusCode;
use shared_events::UserEvent;
use testkit::{
    Proxy, Service,
    postgres::{Database, Server},
};

use crate::{
    repair::verify,
    support::{Api, Stack, User},
};

const DATABASE: &str = "users_db";

/// A stack whose Postgres can be replaced behind one address. The relay runs apart, so that writes can
/// come before it.
struct Pipeline {
    stack: Stack,
    address: Proxy,
    users: Api,
    relay: Service,
    notifications: Api,
}

impl Pipeline {
    async fn on(server: &Server) -> Self {
        server.execute(&["create database users_db"]).await;
        let address = Proxy::start(server.address()).await;
        let mut stack = Stack::new().await;
        let url = format!("postgres://postgres@{}/{DATABASE}", address.address());
        stack.postgres = Database::at(url);
        Self {
            users: stack.users(&["--no-relay"]).await,
            relay: stack.relay().await,
            notifications: stack.notifications().await,
            address,
            stack,
        }
    }

    /// Ends whatever writes, as before a restore.
    async fn stop_writers(&mut self) {
        self.users.service.process.stop().await;
        self.relay.process.stop().await;
    }

    /// The user service alone, at the server that took the place of the former one.
    async fn start_users_at(&mut self, server: &Server) {
        self.lead_to(server);
        self.users = self.stack.users(&["--no-relay"]).await;
    }

    fn lead_to(&mut self, server: &Server) {
        self.address.redirect(server.address());
        // The test's own connections to the former server may still be there.
        self.stack.postgres = Database::at(self.stack.postgres.url.clone());
    }

    /// Whether both sides agree once all is published, without a repair.
    async fn agrees(&self) {
        self.stack.converged().await;
        let (agree, output) = verify(&self.stack, &self.users, &self.notifications, &[]).await;
        assert!(agree, "{output}");
        assert_versions_only_increase(&self.stack.events().await);
    }
}

/// Fails if consumers have seen a version of a user after a higher one, or a second time with other
/// content. What was sent again because the stream had lost it, at its end, is no news: it has a message id
/// of its own (`<event id>/…`).
fn assert_versions_only_increase(events: &[(String, UserEvent)]) {
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    let mut latest: BTreeMap<i64, &UserEvent> = BTreeMap::new();
    let first_seen = events
        .iter()
        .filter(|(id, _)| !id.contains('/') && seen.insert(id));
    for (_, event) in first_seen {
        let Some(before) = latest.insert(event.state().id, event) else {
            continue;
        };
        let is_repeat = event.state() == before.state();
        let is_newer = event.state().version > before.state().version;
        assert!(is_newer || is_repeat, "{event:?} comes after {before:?}");
    }
}

/// 20 users, some of them changed, two of them deleted.
async fn write(users: &Api) -> Vec<User> {
    let mut all = Vec::new();
    for number in 0..20 {
        let user = users.create(&format!("Ada {number}")).await;
        all.push(match number % 3 {
            0 => users.rename(&user, &format!("Ada L. {number}")).await,
            _ => user,
        });
    }
    for user in all.drain(18..) {
        users.delete(&user).await;
    }
    all
}

/// What a restore undoes: creations, changes and deletions of those who were there before.
async fn write_what_is_lost(users: &Api, before: &[User]) {
    for number in 0..10 {
        let lost = users.create(&format!("lost {number}")).await;
        if number < 5 {
            users
                .rename(&lost, &format!("lost, changed {number}"))
                .await;
        }
        if number == 0 {
            users.delete(&lost).await;
        }
    }
    for user in &before[..10] {
        let changed = users
            .rename(user, &format!("lost name of {}", user.id))
            .await;
        users.rename(&changed, "lost for the second time").await;
    }
    for user in &before[10..14] {
        users.delete(user).await;
    }
}

/// What is written instead, before any relay runs: it takes ids and versions that were given out.
async fn write_instead(users: &Api, before: &[User]) {
    for number in 0..5 {
        users.create(&format!("new {number}")).await;
    }
    for user in &before[..4] {
        users
            .rename(user, &format!("new name of {}", user.id))
            .await;
    }
    for user in &before[4..6] {
        users.delete(user).await;
    }
    users.rename(&before[10], "not deleted after all").await;
}

async fn is_gone(users: &Api, user: &User) -> bool {
    let url = format!("{}/users?email={}", users.url, user.email);
    let found = users.client.get(url).send().await.expect("an answer");
    assert_eq!(found.status(), StatusCode::OK);
    found.json::<Vec<User>>().await.expect("users").is_empty()
}
