//! Each guarantee of ARCHITECTURE.md names the tests that would fail without its mechanism.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{read, report};

const HEADER: &str = "| guarantee | mechanism | the test that fails without it |";

#[test]
fn every_test_that_a_guarantee_names_is_there() {
    let root = Path::new("..");
    let document = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let named = document
        .lines()
        .skip_while(|line| *line != HEADER)
        .take_while(|line| line.starts_with('|'))
        .flat_map(tests_of)
        .collect::<BTreeSet<_>>();
    assert!(named.len() > 100, "the table was not found: {named:?}");
    let tests: BTreeSet<_> = (read().iter())
        .map(|source| fs::read_to_string(root.join(&source.path)).expect("text"))
        .flat_map(|text| tests(&text))
        .collect();
    let is_there = |name: &str| match name.split_once('…') {
        None => tests.contains(name),
        Some((begin, end)) => (tests.iter()).any(|it| it.starts_with(begin) && it.ends_with(end)),
    };
    let faults = named.into_iter().filter(|name| !is_there(name));
    let faults = faults.map(|name| format!("ARCHITECTURE.md: there is no test {name}"));
    report(&faults.collect::<Vec<_>>());
}

/// What the last column of a row names that reads like a function.
fn tests_of(row: &str) -> Vec<&str> {
    let column = row.trim_end_matches([' ', '|']).rsplit(" | ").next();
    let quoted = column.unwrap_or_default().split('`').skip(1).step_by(2);
    let is_function = |name: &&str| {
        let mut characters = name.chars();
        characters
            .all(|it| it == '_' || it == '…' || it.is_ascii_lowercase() || it.is_ascii_digit())
    };
    quoted
        .filter(is_function)
        .filter(|name| name.matches('_').count() > 1)
        .collect()
}

/// The functions under `#[test]` and `#[tokio::test]`.
fn tests(text: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        let signature = line.strip_prefix("async ").unwrap_or(line);
        if let Some(function) = signature.strip_prefix("fn ") {
            let name = function.split(['(', '<']).next().filter(|_| is_test);
            tests.extend(name.map(str::to_owned));
        }
        let is_attribute = line.starts_with("#[");
        is_test = line.starts_with("#[test]")
            || line.starts_with("#[tokio::test")
            || (is_test && is_attribute);
    }
    tests
}
