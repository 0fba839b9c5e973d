//! Explores the model: every scenario with all guards, and without each of them. What is found is compared
//! with docs/model.md.
//!
//! Write it anew with `UPDATE_SCHEMA=1 cargo test -p protocol-model --test model`.

use std::{fmt::Write as _, path::Path};

use protocol_model::{Action, Guard, NEEDED, Needed, Protocol, SCENARIOS, STEPS};
use stateright::{Checker, HasDiscoveries, Model};
use testkit::assert_published_section;

const DOCUMENT: &str = "docs/model.md";

#[test]
fn every_invariant_holds_in_every_scenario() {
    let mut section =
        String::from("| what | what may happen, and how often | states |\n|---|---|---:|\n");
    let mut all = 0;
    for scenario in SCENARIOS {
        let protocol = Protocol {
            bounds: scenario.bounds,
            without: &[],
        };
        let explored = protocol.checker().threads(2).spawn_bfs().join();
        let violated = explored.discoveries().into_iter().next();
        let violated =
            violated.map(|(it, path)| format!("not so: {it}:\n{}", steps(&path.into_actions())));
        assert_eq!(violated, None, "{}", scenario.name);
        let states = explored.unique_state_count();
        all += states;
        let (name, bounds) = (scenario.name, scenario.bounds.describe());
        line(&mut section, &[name, &bounds, &states.to_string()]);
    }
    line(&mut section, &["all", "", &all.to_string()]);
    assert_published_section(DOCUMENT, "Scenarios", &section);
}

#[test]
fn without_any_of_the_guards_an_invariant_does_not_hold() {
    let mut table = String::from("| without | in | violated | after steps |\n|---|---|---|---:|\n");
    let mut paths = String::new();
    for needed in NEEDED {
        let (names, files) = describe(needed);
        let Some((invariant, actions)) = violation(needed) else {
            let reason = (needed.reason)
                .unwrap_or_else(|| panic!("nothing is violated without {:?}", needed.guards));
            line(&mut table, &[&names, &files, reason, ""]);
            continue;
        };
        assert!(
            needed.reason.is_none(),
            "without {:?} {invariant} is violated",
            needed.guards
        );
        let count = actions.len().to_string();
        line(&mut table, &[&names, &files, invariant, &count]);
        let steps = steps(&actions);
        let _ = writeln!(
            paths,
            "\n- **Without** {names}: {steps}. Violated: {invariant}."
        );
    }
    let section = format!("{table}\nThe shortest ways there:\n{paths}");
    assert_published_section(DOCUMENT, "Guards", &section);
}

#[test]
fn every_guard_is_switched_off_and_every_step_names_a_file_that_is_there() {
    for guard in Guard::ALL {
        let is_off = NEEDED.iter().any(|it| it.guards == [guard]);
        assert!(is_off, "{guard:?} is never switched off by itself");
        assert_is_there(guard.file());
    }
    let mut section = String::from("| step | in |\n|---|---|\n");
    for step in STEPS {
        assert_is_there(step.file);
        line(&mut section, &[step.name, &format!("`{}`", step.file)]);
    }
    assert_published_section(DOCUMENT, "Steps", &section);
}

/// The shortest way to the first violation, if there is any.
fn violation(needed: &Needed) -> Option<(&'static str, Vec<Action>)> {
    let protocol = Protocol {
        bounds: needed.bounds,
        without: needed.guards,
    };
    // One thread: of the shortest ways always the same.
    let checker = protocol.checker().finish_when(HasDiscoveries::Any);
    let explored = checker.threads(1).spawn_bfs().join();
    let discoveries = explored.discoveries().into_iter();
    let paths = discoveries.map(|(name, path)| (name, path.into_actions()));
    paths.min_by_key(|(name, actions)| (actions.len(), *name))
}

fn describe(needed: &Needed) -> (String, String) {
    let join = |parts: Vec<String>| parts.join("; ");
    let guards = needed.guards.iter();
    let names = guards.clone().map(|it| it.about().to_owned()).collect();
    let mut files: Vec<_> = guards.map(|it| format!("`{}`", it.file())).collect();
    files.dedup();
    (join(names), join(files))
}

fn steps(actions: &[Action]) -> String {
    let steps: Vec<_> = actions.iter().map(ToString::to_string).collect();
    steps.join(", ")
}

fn line(table: &mut String, cells: &[&str]) {
    let _ = writeln!(table, "| {} |", cells.join(" | "));
}

fn assert_is_there(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    assert!(path.is_file(), "{file} is not there");
}
