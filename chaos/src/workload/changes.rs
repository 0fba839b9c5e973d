//! Changing and deleting users, with and without a condition.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{
    api::{Answer, Reply, is_about_users, send},
    client::Client,
    creations::draft,
    people::Person,
};
use crate::history::{Change, Token, Write};

/// Which version of the user is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Any,
    Current,
    Earlier,
}

impl Client {
    pub(super) async fn change(&mut self) {
        if self.people.is_empty() {
            return;
        }
        let place = self.random.usize(..self.people.len());
        let person = self.people[place];
        let condition = match self.random.u8(..10) {
            0..3 => Condition::Current,
            3 if person.version > 1 => Condition::Earlier,
            _ => Condition::Any,
        };
        let after = self.send_change(person, condition).await;
        self.put_back(place, after);
    }

    /// One whom others change at the same time, at the version that was just read.
    pub(super) async fn change_shared(&mut self) {
        let Some(mut person) = self.shared.any(&mut self.random) else {
            return;
        };
        if person.may_be_another(&self.history) {
            return;
        }
        let path = format!("/users/{}", person.id);
        let reading = self.api.users(&mut self.random, Method::GET, &path);
        let Reply::Done(answer) = send(reading).await else {
            return;
        };
        let email = answer.body["email"].as_str().and_then(Token::of_email);
        if let (Some(version), Some(email)) = (answer.version(), email) {
            (person.version, person.email) = (version, email);
            self.send_change(person, Condition::Current).await;
        }
    }

    /// The user as known afterwards; nothing if there is none any more.
    async fn send_change(&mut self, person: Person, condition: Condition) -> Option<Person> {
        let if_match = match condition {
            Condition::Any => None,
            Condition::Current => Some(person.version),
            Condition::Earlier => Some(person.version - 1),
        };
        let change = match self.random.u8(..10) {
            0..5 => Change::Replace {
                email: person.email,
            },
            5..8 => Change::Rename,
            _ => Change::Readdress,
        };
        let token = (self.history).begin(|_| Write::of_user(person.id, change, if_match));
        let request = self.change_request(&person, token, change);
        match send(on_condition(request, if_match)).await {
            Reply::Done(answer) => Some(self.changed(token, change, person, condition, &answer)),
            Reply::Refused(answer) => self.not_changed(token, person, condition, &answer),
            Reply::Unknown => Some(doubtful(person)),
        }
    }

    fn change_request(&mut self, person: &Person, token: Token, change: Change) -> RequestBuilder {
        let path = format!("/users/{}", person.id);
        if let Change::Replace { email } = change {
            let request = self.api.users(&mut self.random, Method::PUT, &path);
            return request.json(&draft(token, email));
        }
        let part = match change {
            Change::Readdress => json!({ "email": token.email() }),
            _ => json!({ "name": token.name() }),
        };
        let request = self.api.users(&mut self.random, Method::PATCH, &path);
        let request = request.header("content-type", "application/merge-patch+json");
        request.body(part.to_string())
    }

    fn changed(
        &self,
        token: Token,
        change: Change,
        person: Person,
        condition: Condition,
        answer: &Answer,
    ) -> Person {
        let what = format!("{token} ({change:?}, {condition:?} version) of {person:?}");
        if condition == Condition::Earlier && person.is_certain(&self.history) {
            self.violation("a condition is kept", answer, &what);
        }
        let Some(version) = answer.version() else {
            self.violation("answers say what was done", answer, &what);
            return doubtful(person);
        };
        let is_later = version > person.version || person.may_be_older(&self.history);
        let email = match change {
            Change::Readdress => token,
            _ => person.email,
        };
        let has_email = answer.body["email"] == email.email() || !person.is_certain(&self.history);
        let has_name = answer.body["name"] == token.name() || change == Change::Readdress;
        if !is_later || !has_email || !has_name {
            self.violation("answers say what was done", answer, &what);
        }
        (self.history).acknowledged(token, Some(person.id), version);
        Person {
            version,
            email,
            ..person
        }
    }

    fn not_changed(
        &self,
        token: Token,
        person: Person,
        condition: Condition,
        answer: &Answer,
    ) -> Option<Person> {
        self.history.refused(token);
        let is_right = match answer.status {
            412 => condition == Condition::Earlier,
            status => !is_about_users(status),
        };
        if !is_right && person.is_certain(&self.history) {
            let what = format!("{token} ({condition:?} version) of {person:?}");
            self.violation("what is right is not refused", answer, &what);
        }
        match answer.status {
            404 => None,
            409 | 412 if !is_right => Some(doubtful(person)),
            _ => Some(person),
        }
    }

    pub(super) async fn delete(&mut self) {
        if self.people.is_empty() {
            return;
        }
        let uncertain = |person: &Person| !person.is_certain(&self.history);
        let doubtful_one = self.people.iter().position(uncertain);
        let place = doubtful_one.unwrap_or_else(|| self.random.usize(..self.people.len()));
        let person = self.people[place];
        let after = self.send_deletion(person).await;
        self.put_back(place, after);
    }

    async fn send_deletion(&mut self, person: Person) -> Option<Person> {
        let condition = match self.random.u8(..4) {
            0 => Condition::Current,
            _ => Condition::Any,
        };
        let if_match = (condition == Condition::Current).then_some(person.version);
        let deletion = |_| Write::of_user(person.id, Change::Delete, if_match);
        let token = self.history.begin(deletion);
        let path = format!("/users/{}", person.id);
        let request = self.api.users(&mut self.random, Method::DELETE, &path);
        match send(on_condition(request, if_match)).await {
            Reply::Done(answer) => {
                self.deleted(token, person, &answer);
                None
            }
            Reply::Refused(answer) => self.not_changed(token, person, condition, &answer),
            Reply::Unknown => Some(doubtful(person)),
        }
    }

    fn deleted(&mut self, token: Token, person: Person, answer: &Answer) {
        let Some(version) = answer.tag() else {
            let what = format!("{token} deleted {person:?}");
            return self.violation("answers say what was done", answer, &what);
        };
        (self.history).acknowledged(token, Some(person.id), version);
        if person.is_certain(&self.history) {
            self.deleted.push(Person { version, ..person });
        }
    }

    fn put_back(&mut self, place: usize, person: Option<Person>) {
        match person {
            Some(person) => self.people[place] = person,
            None => drop(self.people.swap_remove(place)),
        }
    }
}

fn on_condition(request: RequestBuilder, if_match: Option<i64>) -> RequestBuilder {
    match if_match {
        Some(version) => request.header("if-match", format!("\"{version}\"")),
        None => request,
    }
}

fn doubtful(person: Person) -> Person {
    Person {
        is_doubtful: true,
        ..person
    }
}
