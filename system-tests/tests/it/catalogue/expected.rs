//! What an answer is expected to be.

use serde::Deserialize;
use serde_json::Value;

use super::{connection::Answer, text::Values};

/// Says of an error what its problem is, or that there is none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    status: u16,
    /// The last part of the problem's type.
    problem: Option<String>,
    /// The parameters and the JSON pointers of the problem's errors, all of them.
    #[serde(default)]
    fields: Vec<String>,
    /// The server's own answer to what is no HTTP: it has no body.
    #[serde(default)]
    bare: bool,
    /// Headers, such as `allow: GET,HEAD`.
    #[serde(default)]
    headers: Vec<String>,
    /// Names of headers that are not there.
    #[serde(default)]
    without: Vec<String>,
    /// A part of the body.
    contains: Option<String>,
}

impl Expected {
    pub(super) fn is_bare(&self) -> bool {
        self.bare
    }

    /// What is wrong with the answer.
    pub(super) fn faults(&self, answer: &Answer, values: &Values) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |is_right: bool, fault: String| {
            if !is_right {
                faults.push(fault);
            }
        };
        check(
            answer.status == self.status,
            format!("status {}", answer.status),
        );
        let text = |text: &str| String::from_utf8_lossy(&values.expand(text)).into_owned();
        for header in &self.headers {
            let (name, value) = header.split_once(": ").expect("`name: value`");
            let found = answer.header(name);
            check(
                found == Some(&text(value)),
                format!("{name}: {found:?}, not {value}"),
            );
        }
        for name in &self.without {
            check(answer.header(name).is_none(), format!("it has {name}"));
        }
        let body = String::from_utf8_lossy(&answer.body);
        let contains = text(self.contains.as_deref().unwrap_or_default());
        check(
            body.contains(&contains),
            format!("no {contains:?} in the body"),
        );
        if self.status >= 400 {
            faults.extend(self.problem_faults(answer));
        }
        faults
    }

    fn problem_faults(&self, answer: &Answer) -> Vec<String> {
        let Some(slug) = &self.problem else {
            assert!(self.bare, "an error has a problem, or is bare");
            let is_bare = answer.body.is_empty();
            return if is_bare {
                vec![]
            } else {
                vec!["it has a body".to_owned()]
            };
        };
        if answer.header("content-type") != Some("application/problem+json") {
            return vec!["it is not problem+json".to_owned()];
        }
        let Ok(problem) = serde_json::from_slice::<Value>(&answer.body) else {
            return vec!["its problem is not JSON".to_owned()];
        };
        let mut faults = Vec::new();
        if problem["type"] != format!("/problems/{slug}") || problem["status"] != answer.status {
            faults.push(format!(
                "type {}, status {}",
                problem["type"], problem["status"]
            ));
        }
        let fields = fields(&problem);
        if fields != self.fields {
            faults.push(format!("fields {fields:?}"));
        }
        faults
    }
}

fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().into_iter().flatten();
    errors
        .filter_map(|error| error.get("pointer").or(error.get("parameter"))?.as_str())
        .collect()
}
