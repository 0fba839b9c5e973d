//! The answer to an import: a line for each of its lines, and one at its end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use service_runtime::problem::Problem;

use crate::users::store::User;

/// What became of a line.
pub(super) type LineResult = (u64, Result<User, Problem>);

/// What is answered to a chunk that was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ChunkResults {
    /// One JSON object a line, in their order.
    #[serde(rename = "results")]
    pub(super) lines: String,
    pub(super) summary: Summary,
}

impl ChunkResults {
    pub(super) fn new(results: &[LineResult]) -> Self {
        let mut summary = Summary::default();
        summary.add(results);
        Self {
            lines: results.iter().map(describe).collect(),
            summary,
        }
    }
}

fn describe((line, result): &LineResult) -> String {
    #[derive(Serialize)]
    struct Created {
        line: u64,
        id: i64,
        version: i64,
    }
    let line = *line;
    match result {
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
    pub(super) fn add(&mut self, results: &[LineResult]) {
        let refused = (results.iter())
            .filter(|(_, result)| result.is_err())
            .count() as u64;
        self.refused += refused;
        self.created += results.len() as u64 - refused;
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

/// The import ended before this line; the problem says whether later ones may have been written.
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
