//! Explores the model within bounds of one's own, and prints what is violated:
//!
//! `cargo run -p protocol-model --example explore -- keys=2 writes=3 lost_acks=2 without=EpochFence`

use std::{env, process::ExitCode};

use protocol_model::{Bounds, Guard, Protocol};
use stateright::{Checker, HasDiscoveries, Model};

fn main() -> ExitCode {
    let mut bounds = Bounds::NOTHING;
    let mut without = Vec::new();
    for argument in env::args().skip(1) {
        let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
        let guard = Guard::ALL.into_iter().find(|it| format!("{it:?}") == value);
        let count = value
            .parse()
            .ok()
            .and_then(|count| bounds.with(name, count));
        match (name, guard, count) {
            ("without", Some(guard), _) => without.push(guard),
            (_, _, Some(changed)) => bounds = changed,
            _ => {
                eprintln!("{argument}: not BOUND=NUMBER or without=GUARD");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{}; without {without:?}", bounds.describe());
    let protocol = Protocol {
        bounds,
        without: without.leak(),
    };
    let checker = protocol.checker().finish_when(HasDiscoveries::Any);
    let explored = checker.threads(2).spawn_bfs().join();
    println!("{} states", explored.unique_state_count());
    let discoveries = explored.discoveries();
    for (invariant, path) in &discoveries {
        println!("violated: {invariant}");
        for action in path.clone().into_actions() {
            println!("    {action}");
        }
    }
    match discoveries.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
