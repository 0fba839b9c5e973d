//! What an import tells of each line, and at its end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use service_runtime::problem::Problem;

use crate::users::store::User;

/// What became of a line.
pub(super) type Outcome = (u64, Result<User, Problem>);

/// A chunk that was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Written {
    /// One JSON object a line, in their order.
    pub(super) results: String,
    pub(super) summary: Summary,
}

impl Written {
    pub(super) fn new(outcomes: &[Outcome]) -> Self {
        let mut summary = Summary::default();
        summary.add(outcomes);
        Self {
            results: outcomes.iter().map(tell).collect(),
            summary,
        }
    }
}

fn tell((line, outcome): &Outcome) -> String {
    #[derive(Serialize)]
    struct Created {
        line: u64,
        id: i64,
        version: i64,
    }
    let line = *line;
    match outcome {
        Ok(User { id, version, .. }) => to_line(&Created {
            line,
            id: *id,
            version: *version,
        }),
        Err(problem) => to_line(&Refused { line, problem }),
    }
}

#[derive(Serialize)]
struct Refused<'a> {
    line: u64,
    problem: &'a Problem,
}

/// The counts at the end: without this line an import is not done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    created: u64,
    refused: u64,
}

impl Summary {
    pub(super) fn add(&mut self, outcomes: &[Outcome]) {
        let refused = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.is_err())
            .count() as u64;
        self.refused += refused;
        self.created += outcomes.len() as u64 - refused;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.created += other.created;
        self.refused += other.refused;
    }

    pub(super) fn to_line(self) -> Bytes {
        #[derive(Serialize)]
        struct Done {
            done: Summary,
        }
        to_line(&Done { done: self }).into()
    }
}

/// Nothing from this line on was written.
pub(super) fn broken_off(line: u64, problem: &Problem) -> Bytes {
    #[derive(Serialize)]
    struct BrokenOff<'a> {
        broken_off: Refused<'a>,
    }
    let broken_off = Refused { line, problem };
    to_line(&BrokenOff { broken_off }).into()
}

fn to_line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("strings and numbers are JSON");
    line.push('\n');
    line
}
