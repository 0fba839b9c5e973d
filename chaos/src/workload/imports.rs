//! Bulk imports, with and without a key, as a whole or line by line.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    api::{Lines, is_about_users, send_for_lines},
    client::{Anonymous, Client, Import, Keyed, Repeatable},
    creations::draft,
    people::Person,
};
use crate::history::{Token, Write};

const MAX_LINES: usize = 20;
const BAD_LINE: &str = "{\"name\":\"Nobody\",\"email\":\"nobody\"}";
/// Of a field that users do not have: with all lines above what is written in one transaction.
const PADDING: usize = 60_000;

impl Client {
    pub(super) async fn import(&mut self) {
        let import = self.draw_import();
        if self.random.bool() {
            return self.send_import(&import, None).await;
        }
        let key = import.lines.iter().flatten().next();
        let Some(key) = key.map(|token| format!("import-of-{}", token.email())) else {
            return;
        };
        let keyed = Keyed {
            key,
            request: Repeatable::Import(import),
            since: Instant::now(),
            losses: self.history.losses(),
        };
        self.send_keyed(keyed).await;
    }

    fn draw_import(&mut self) -> Import {
        let is_all_or_nothing = self.random.u8(..3) == 0;
        let has_bad_lines = self.random.u8(..4) == 0;
        let is_large = !is_all_or_nothing && self.random.u8(..8) == 0;
        let count = match is_large {
            true => MAX_LINES,
            false => self.random.usize(1..=MAX_LINES),
        };
        let (mut lines, mut body) = (Vec::new(), String::new());
        for number in 0..count {
            if has_bad_lines && number > 0 && self.random.u8(..4) == 0 {
                lines.push(None);
                body.push_str(BAD_LINE);
            } else {
                let token = self.history.begin(Write::creation);
                let mut line = draft(token, token);
                if is_large {
                    line["padding"] = json!("x".repeat(PADDING));
                }
                lines.push(Some(token));
                body.push_str(&line.to_string());
            }
            body.push('\n');
        }
        if !is_large {
            let tokens: Vec<_> = lines.iter().flatten().copied().collect();
            self.history.group(&tokens);
        }
        Import {
            lines,
            body,
            is_all_or_nothing,
        }
    }

    pub(super) async fn send_import(&mut self, import: &Import, key: Option<&str>) {
        let path = match import.is_all_or_nothing {
            true => "/users/import?mode=all-or-nothing",
            false => "/users/import",
        };
        let request = self.api.users(&mut self.random, Method::POST, path);
        let request = request.header("content-type", "application/x-ndjson");
        let request = match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        };
        let Some(lines) = send_for_lines(request.body(import.body.clone())).await else {
            return;
        };
        match lines.status {
            200 if import.is_all_or_nothing => self.imported_whole(import, &lines),
            200 => self.imported(import, &lines),
            // 409: the same is in progress.
            400..=499 if lines.status != 409 => self.not_imported(import, &lines),
            _ => {}
        }
    }

    fn imported_whole(&mut self, import: &Import, lines: &Lines) {
        let Ok(done) = serde_json::from_str::<Value>(&lines.text) else {
            return;
        };
        let (created, refused) = (&done["done"]["created"], &done["done"]["refused"]);
        if *created != import.lines.len() || *refused != 0 || import.has_bad_lines() {
            return self.wrong_import(import, lines);
        }
        let losses = self.history.losses();
        for token in import.lines.iter().flatten().copied() {
            if self.history.acknowledged(token, None, 1) {
                self.anonymous.push(Anonymous { token, losses });
            }
        }
    }

    /// As many lines as arrived.
    fn imported(&mut self, import: &Import, lines: &Lines) {
        let (mut created, mut refused) = (0_u64, 0_u64);
        let whole = lines
            .text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        for result in whole.filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let Some(done) = result.get("done") {
                let is_right = done["created"] == created && done["refused"] == refused;
                if !is_right || created + refused != import.lines.len() as u64 {
                    self.wrong_import(import, lines);
                }
            } else if let Some(broken_off) = result.get("broken_off") {
                self.broken_off(import, broken_off);
            } else if let Some(user) = result["id"].as_i64() {
                created += 1;
                self.line_imported(import, &result, user, lines);
            } else {
                refused += 1;
                self.line_refused(import, &result, lines);
            }
        }
    }

    fn line_imported(&mut self, import: &Import, result: &Value, user: i64, lines: &Lines) {
        match import.line(&result["line"]) {
            Some(Some(token)) if result["version"] == 1 => {
                if self.history.acknowledged(token, Some(user), 1) {
                    self.add(Person::new(user, token, &self.history));
                }
            }
            _ => self.wrong_import(import, lines),
        }
    }

    /// No line of ours has an address that was used before.
    fn line_refused(&self, import: &Import, result: &Value, lines: &Lines) {
        match import.line(&result["line"]) {
            Some(None) => {}
            Some(Some(token)) => {
                self.history.refused(token);
                self.wrong_import(import, lines);
            }
            None => self.wrong_import(import, lines),
        }
    }

    /// Nothing from this line on was written, unless nobody knows.
    fn broken_off(&self, import: &Import, broken_off: &Value) {
        let problem = &broken_off["problem"];
        // Another request under the same key is writing these lines, or has just written them.
        let is_in_progress = problem["type"] == "/problems/request-in-progress";
        let is_known = problem["status"].as_u64() < Some(500) && !is_in_progress;
        let line = broken_off["line"].as_u64().unwrap_or(u64::MAX);
        if !is_known {
            return;
        }
        for (number, token) in (1..).zip(&import.lines) {
            if number >= line
                && let Some(token) = token
            {
                self.history.refused(*token);
            }
        }
    }

    fn not_imported(&self, import: &Import, lines: &Lines) {
        for token in import.lines.iter().flatten() {
            self.history.refused(*token);
        }
        let is_right = import.is_all_or_nothing && import.has_bad_lines();
        if is_about_users(lines.status) && !is_right {
            self.wrong_import(import, lines);
        }
    }

    fn wrong_import(&self, import: &Import, Lines { status, text }: &Lines) {
        let text: String = text.chars().take(2_000).collect();
        let what = format!("{:?} was answered: {status} {text}", import.lines);
        self.history
            .violation("each line of an import has its result", what);
    }
}

impl Import {
    fn has_bad_lines(&self) -> bool {
        self.lines.contains(&None)
    }

    /// Counted from 1.
    fn line(&self, number: &Value) -> Option<Option<Token>> {
        let place = usize::try_from(number.as_u64()?).ok()?.checked_sub(1)?;
        self.lines.get(place).copied()
    }
}
