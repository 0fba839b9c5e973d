//! Whether what services have decided is what the model allows. They record it if they are started with
//! `RUST_LOG=info,decision=trace`, as lines of JSON.
//!
//! The rules are those guards of the model of which decisions can tell. They hold whatever was lost,
//! killed, restored or delayed, so they can be checked after any run.

mod consumer;
mod decision;
mod epochs;
mod ranges;
mod relay;

use std::{collections::BTreeMap, fmt};

use self::{consumer::ConsumerLog, decision::Decision, relay::Relays};

/// Reads the logs of any number of services.
#[derive(Debug, Default)]
pub struct Conformance {
    relays: Relays,
    /// By log.
    consumers: BTreeMap<String, ConsumerLog>,
    decisions: u64,
    violations: Vec<Violation>,
}

/// A decision that the model does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl Conformance {
    /// The next line of a log. Each service has one of its own, across restarts; lines of different logs
    /// may come in any order. What is no decision is ignored.
    pub fn read(&mut self, log: &str, line: &str) {
        let decision = match Decision::of(line) {
            None => return,
            Some(Ok(decision)) => decision,
            Some(Err(error)) => {
                return self.violations.push(Violation {
                    rule: "decisions can be read",
                    what: format!("{log}: {error}: {line}"),
                });
            }
        };
        self.decisions += 1;
        let violations = match decision {
            Decision::OfRelay(decision) => self.relays.read(decision),
            Decision::OfConsumer(decision) => {
                let consumer = self.consumers.entry(log.to_owned()).or_default();
                consumer.read(&decision).into_iter().collect()
            }
        };
        self.violations
            .extend(violations.into_iter().map(|it| Violation {
                what: format!("{log}: {}", it.what),
                ..it
            }));
    }

    /// How many decisions were read.
    #[must_use]
    pub fn decisions(&self) -> u64 {
        self.decisions
    }

    /// Those that were found since this was asked last; all logs must have been read up to about the same
    /// time.
    pub fn violations(&mut self) -> Vec<Violation> {
        let mut violations = std::mem::take(&mut self.violations);
        violations.extend(self.relays.violations());
        violations
    }
}
