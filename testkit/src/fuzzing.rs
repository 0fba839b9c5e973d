//! Bounded fuzzing in ordinary tests: a target runs on each input of its corpus, and on random changes
//! of them. `scripts/fuzz-parsers` runs the same targets for longer, guided by coverage.

mod change;
pub mod corpus;

use std::{
    panic,
    time::{Duration, Instant},
};

use crate::escape::escape;

/// For how long a target runs on changed inputs: many of a cheap one, fewer of another.
const BUDGET: Duration = Duration::from_secs(2);

/// The inputs of a target's corpus and some changes of them, for what is too slow to be a target.
#[must_use]
pub fn inputs(name: &str, changed: usize) -> Vec<Vec<u8>> {
    let corpus = corpus::read(name);
    let mut random = fastrand::Rng::new();
    let changes: Vec<_> = (0..changed)
        .map(|_| change::change(&mut random, &corpus))
        .collect();
    [corpus, changes].concat()
}

/// Runs `target` on the inputs of its corpus and on changes of them. The changes differ from run to run.
///
/// # Panics
/// If the target does; the message has the input as a line for the corpus.
pub fn replay(name: &str, target: fn(&[u8])) {
    let corpus = corpus::read(name);
    assert!(!corpus.is_empty(), "the corpus of {name} is empty");
    let run = |input: &[u8]| {
        let outcome = panic::catch_unwind(|| target(input));
        let line = || escape(input);
        assert!(outcome.is_ok(), "{name} fails on this input: {}", line());
    };
    for input in &corpus {
        run(input);
    }
    let mut random = fastrand::Rng::new();
    let started = Instant::now();
    while started.elapsed() < BUDGET {
        run(&change::change(&mut random, &corpus));
    }
}
