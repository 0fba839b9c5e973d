//! What clients were told, and whether it still holds.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use serde_json::Value;

use cluster_tests::cluster::Cluster;

/// A user as its client knows it.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) email: String,
    /// The highest that was acknowledged.
    pub(crate) version: i64,
    /// The name at that version.
    pub(crate) name: String,
    pub(crate) deleted: bool,
    /// Whether the deletion was answered only by its absence, after an attempt of unknown outcome.
    pub(crate) is_doubtful: bool,
}

impl User {
    pub(crate) fn of(answer: &Value) -> anyhow::Result<Self> {
        Ok(Self {
            id: answer["id"].as_i64().context("an id")?,
            email: answer["email"].as_str().context("an address")?.to_owned(),
            version: answer["version"].as_i64().context("a version")?,
            name: answer["name"].as_str().context("a name")?.to_owned(),
            deleted: false,
            is_doubtful: false,
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) users: Vec<User>,
}

impl History {
    /// Fails unless the user service has every acknowledged write at its version or a later one.
    pub(crate) async fn check(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let present = present(cluster).await?;
        let mut failures = Vec::new();
        for user in &self.users {
            let id = user.id;
            match (present.get(&id), user.deleted) {
                (None, true) => {}
                (None, false) => failures.push(format!("user {id} is lost")),
                (Some(_), true) => failures.push(format!("the deletion of user {id} is lost")),
                (Some(User { version, name, .. }), false) => {
                    if *version < user.version {
                        failures.push(format!("version {} of user {id} is lost", user.version));
                    } else if *version == user.version && *name != user.name {
                        failures.push(format!("version {version} of user {id} has other content"));
                    }
                }
            }
        }
        let lost = failures.len();
        failures.truncate(10);
        ensure!(
            lost == 0,
            "{lost} acknowledged writes do not hold: {failures:?}"
        );
        Ok(())
    }
}

/// All users by id.
async fn present(cluster: &Cluster) -> anyhow::Result<HashMap<i64, User>> {
    let mut users = HashMap::new();
    let mut url = format!("{}/users?limit=1000", cluster.users);
    loop {
        let answer = cluster.http.get(&url).send().await?.error_for_status()?;
        let next = answer
            .headers()
            .get("link")
            .map(|link| next_page(link.to_str().ok()));
        for user in answer.json::<Vec<Value>>().await? {
            let user = User::of(&user)?;
            users.insert(user.id, user);
        }
        match next.flatten() {
            Some(next) => url = format!("{}{next}", cluster.users),
            None => return Ok(users),
        }
    }
}

/// The path of `<…>; rel="next"`.
fn next_page(link: Option<&str>) -> Option<String> {
    let (target, _) = link?.strip_prefix('<')?.split_once(">; rel=\"next\"")?;
    Some(target[target.find("/users")?..].to_owned())
}
