//! Creating users, with and without a key.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    api::{Answer, Reply, is_about_users, send},
    client::{Client, Keyed, Repeatable},
    people::Person,
};
use crate::history::{Token, Write};

const MAX_KEYED: usize = 12;
/// One in so many users is for all clients.
const SHARED: u8 = 20;
const KEY: &str = "idempotency-key";
/// Services forget keys, in a soak run after ten minutes.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

impl Client {
    pub(super) async fn create(&mut self) {
        let token = self.history.begin(Write::creation);
        let request = self.api.users(&mut self.random, Method::POST, "/users");
        match send(request.json(&draft(token, token))).await {
            Reply::Done(answer) => self.created(token, &answer),
            Reply::Refused(answer) => self.not_created(token, &answer),
            Reply::Unknown => {}
        }
    }

    pub(super) async fn create_under_key(&mut self) {
        let token = self.history.begin(Write::creation);
        let keyed = Keyed {
            key: format!("key-of-{}", token.email()),
            request: Repeatable::Creation { token, user: None },
            since: Instant::now(),
            losses: self.history.losses(),
        };
        self.send_keyed(keyed).await;
    }

    /// One of the last requests that had a key, whatever became of it.
    pub(super) async fn repeat(&mut self) {
        if !self.keyed.is_empty() {
            let place = self.random.usize(..self.keyed.len());
            let keyed = self.keyed.swap_remove(place);
            // Whom it created before a loss may have changed since, or be somebody else.
            if self.history.is_certain(keyed.losses) {
                self.send_keyed(keyed).await;
            }
        }
    }

    pub(super) async fn send_keyed(&mut self, mut keyed: Keyed) {
        match &mut keyed.request {
            Repeatable::Creation { token, user } => {
                *user = self.send_creation(&keyed.key, *token, *user).await;
            }
            Repeatable::Import(import) => self.send_import(import, Some(&keyed.key)).await,
        }
        // A database of before may not know the key.
        let is_known = keyed.losses == self.history.losses();
        if is_known && keyed.since.elapsed() < MAX_AGE {
            self.keyed.push(keyed);
            if self.keyed.len() > MAX_KEYED {
                self.keyed.remove(0);
            }
        }
    }

    /// Whom it has created, as far as that is known. `before` is what an earlier answer said.
    async fn send_creation(&mut self, key: &str, token: Token, before: Option<i64>) -> Option<i64> {
        let request = self.api.users(&mut self.random, Method::POST, "/users");
        let losses = self.history.losses();
        let answer = match send(request.header(KEY, key).json(&draft(token, token))).await {
            Reply::Done(answer) => answer,
            Reply::Refused(answer) if is_about_users(answer.status) => {
                self.not_created(token, &answer);
                return before;
            }
            Reply::Refused(_) | Reply::Unknown => return before,
        };
        let id = answer.body["id"].as_i64();
        let is_replayed = answer.headers.contains_key("idempotency-replayed");
        let is_known = before.is_some() && self.history.is_certain(losses);
        if is_known && (before != id || !is_replayed) {
            let what = format!("{token} was repeated under its key; user {before:?} was created");
            self.violation("a key is for one request", &answer, &what);
        }
        self.created(token, &answer);
        id
    }

    /// The same key with other content.
    pub(super) async fn reuse_key(&mut self) {
        let known = |keyed: &&Keyed| {
            matches!(keyed.request, Repeatable::Creation { user: Some(_), .. })
                && self.history.is_certain(keyed.losses)
        };
        let Some(keyed) = self.keyed.iter().find(known).cloned() else {
            return;
        };
        let token = self.history.begin(Write::creation);
        let request = self.api.users(&mut self.random, Method::POST, "/users");
        match send(request.header(KEY, &keyed.key).json(&draft(token, token))).await {
            Reply::Done(answer) if self.history.is_certain(keyed.losses) => {
                let what = format!("{token} was done under a key that was used before");
                self.violation("a key is for one request", &answer, &what);
            }
            Reply::Done(answer) => self.created(token, &answer),
            Reply::Refused(_) => self.history.refused(token),
            Reply::Unknown => {}
        }
    }

    /// An address that another user has.
    pub(super) async fn create_taken(&mut self) {
        let certain = self.people.iter().filter(|it| it.is_certain(&self.history));
        let Some(person) = self.random.choice(certain.collect::<Vec<_>>()).copied() else {
            return;
        };
        let token = self.history.begin(|_| Write::creation(person.email));
        let mut draft = draft(token, person.email);
        if self.random.bool() {
            draft["email"] = json!(person.email.email().to_uppercase());
        }
        let request = self.api.users(&mut self.random, Method::POST, "/users");
        match send(request.json(&draft)).await {
            Reply::Done(answer) if person.is_certain(&self.history) => {
                let what = format!("{token} has the address of user {}", person.id);
                self.violation("an address is of one user", &answer, &what);
            }
            Reply::Done(answer) => self.created(token, &answer),
            Reply::Refused(_) => self.history.refused(token),
            Reply::Unknown => {}
        }
    }

    fn created(&mut self, token: Token, answer: &Answer) {
        let draft = draft(token, token);
        let same = |field: &str| answer.body[field] == draft[field];
        let id = answer.body["id"].as_i64();
        let is_right = answer.version() == Some(1) && same("name") && same("email");
        let (Some(id), true) = (id, is_right) else {
            let what = format!("{token} was created");
            return self.violation("answers say what was done", answer, &what);
        };
        if !self.history.acknowledged(token, Some(id), 1) {
            return;
        }
        self.add(Person::new(id, token, &self.history));
    }

    pub(super) fn add(&mut self, person: Person) {
        let added = match self.random.u8(..SHARED) {
            0 => self.shared.add(&mut self.random, person),
            _ => Some(person),
        };
        self.people.extend(added);
    }

    /// Its address was never used before.
    fn not_created(&self, token: Token, answer: &Answer) {
        self.history.refused(token);
        if is_about_users(answer.status) {
            let what = format!("{token} is of a new user");
            self.violation("what is right is not refused", answer, &what);
        }
    }
}

pub(super) fn draft(name: Token, email: Token) -> Value {
    json!({ "name": name.name(), "email": email.email() })
}
