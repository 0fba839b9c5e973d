//! Reading what was written: from the users, and from the copy.

use reqwest::Method;

use super::{
    api::{Answer, Reply, send},
    client::Client,
    people::Person,
};

const MAX_DELETED: usize = 20;
/// How long the copy may wait for what it does not have yet.
const WAIT: &str = "1s";

impl Client {
    /// Somebody who was imported: it is known by the address alone.
    pub(super) async fn find_anonymous(&mut self) {
        let Some(anonymous) = self.anonymous.pop() else {
            return;
        };
        let path = format!("/users?email={}", anonymous.token.email());
        let request = self.api.users(&mut self.random, Method::GET, &path);
        let answer = match send(request).await {
            Reply::Done(answer) => answer,
            Reply::Refused(_) | Reply::Unknown => return self.anonymous.push(anonymous),
        };
        let found = &answer.body[0];
        match found["id"].as_i64() {
            Some(id) if found["version"] == 1 => {
                self.people
                    .push(Person::new(id, anonymous.token, &self.history));
            }
            _ if self.history.is_certain(anonymous.losses) => {
                let what = format!("{} was imported, and nobody changes it", anonymous.token);
                self.violation("what was acknowledged can be read", &answer, &what);
            }
            _ => {}
        }
    }

    /// The copy, at the version that was acknowledged.
    pub(super) async fn read_copy(&mut self) {
        let certain = self.people.iter().filter(|it| it.is_certain(&self.history));
        let Some(person) = self.random.choice(certain.collect::<Vec<_>>()).copied() else {
            return;
        };
        let Some(answer) = self.read(&person).await else {
            return;
        };
        let is_right = match answer.status {
            200 => answer.version() == Some(person.version),
            410 => false,
            _ => true,
        };
        if !is_right && person.is_certain(&self.history) {
            let what = format!("{person:?} was read from the copy");
            self.violation("the copy shows what was acknowledged", &answer, &what);
        }
    }

    /// The copy, at the version of the deletion.
    pub(super) async fn read_deleted(&mut self) {
        if self.deleted.len() > MAX_DELETED {
            self.deleted.remove(0);
        }
        let Some(person) = self.random.choice(&self.deleted).copied() else {
            return;
        };
        let Some(answer) = self.read(&person).await else {
            return;
        };
        if answer.status == 200 && person.is_certain(&self.history) {
            let what = format!("{person:?} was deleted at that version");
            self.violation("no deleted user is visible", &answer, &what);
        }
    }

    async fn read(&mut self, person: &Person) -> Option<Answer> {
        let Person { id, version, .. } = person;
        let path = format!("/notifications/user/{id}?min_version={version}&wait={WAIT}");
        match send(self.api.notifications(&mut self.random, &path)).await {
            Reply::Done(answer) | Reply::Refused(answer) => Some(answer),
            Reply::Unknown => None,
        }
    }
}
