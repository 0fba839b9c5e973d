//! Keeps the layout that ARCHITECTURE.md describes. The rules are data, in `rules.rs`; each test says
//! which rule is broken, where, and why there is such a rule.

mod files;
mod fuzzing;
mod guarantees;
mod manifests;
mod modules;
mod paths;
mod places;
mod rules;
mod source;
mod workspace;

use self::{source::Source, workspace::Workspace};

fn read() -> Vec<Source> {
    source::read_all(&Workspace::load())
}

fn production(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| is_production(source))
}

fn is_production(source: &Source) -> bool {
    !source.is_test() && source.module.is_some()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n\n{}\n", faults.join("\n"));
}
