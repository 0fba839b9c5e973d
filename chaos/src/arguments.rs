//! The command line.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    plan::{self, Kind},
    rounds::Course,
    stack::Machine,
};

#[derive(Debug, Parser)]
#[command(
    name = "scripts/chaos",
    about = "Injects faults drawn from a seed while clients write, and checks that nothing is lost"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a small stack, and strike it round after round
    Run(Run),
    /// Strike the cluster that scripts/cluster has started
    Cluster(ClusterRun),
    /// Start a small stack and strike it once a minute, under a steady load, and note what grows
    Soak(Soak),
    /// Replace the services of an earlier release one by one, under load, in both orders
    Upgrade(Upgrade),
    /// Print the kinds of faults
    List,
}

#[derive(Debug, Args)]
pub(crate) struct CourseArguments {
    /// Decides the faults of every round; drawn and printed unless given
    #[arg(long)]
    seed: Option<u64>,
    /// The number of the first round, to begin with a later one
    #[arg(long, default_value_t = 1)]
    first_round: u64,
    /// End after so many faults [default: 100, or no limit with --minutes]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    faults: Option<u32>,
    /// End after so many minutes
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    minutes: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Requests a second, of all clients together; most of them write
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub(crate) rate: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) course: CourseArguments,
    /// Only faults of these kinds (see `list`)
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    only: Vec<Kind>,
    /// Faults of a round, at most; more strike faster, and more of them at once
    #[arg(long, default_value_t = plan::MOST, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) per_round: u32,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Do not have services record their decisions, nor compare these with the model
    #[arg(long)]
    pub(crate) only_from_outside: bool,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// Directory with the programs of the earlier release
    #[arg(long)]
    pub(crate) from: PathBuf,
    /// Decides what clients write
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterRun {
    #[command(flatten)]
    pub(crate) course: CourseArguments,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Directory that the cluster was started with
    #[arg(long, env = "STATE_DIR")]
    pub(crate) state_dir: PathBuf,
    /// The script that starts members again
    #[arg(long, env = "CLUSTER", default_value = "scripts/cluster")]
    pub(crate) cluster: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// Decides the faults
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) minutes: u32,
    /// Requests a second, of all clients together; most of them write
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub(crate) rate: u32,
    /// File for the samples, one line every ten seconds
    #[arg(long, default_value = "soak.csv")]
    pub(crate) csv: PathBuf,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

const DEFAULT_FAULTS: u32 = 100;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

impl CourseArguments {
    pub(crate) fn course(&self) -> Course {
        let faults = match (self.faults, self.minutes) {
            (Some(faults), _) => faults,
            (None, None) => DEFAULT_FAULTS,
            (None, Some(_)) => u32::MAX,
        };
        Course {
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
            first: self.first_round,
            faults: faults as usize,
            time: self.minutes.map_or(Duration::MAX, |it| MINUTE * it),
        }
    }
}

impl Run {
    /// The wanted ones, as far as this machine has what they need.
    pub(crate) fn kinds(&self) -> anyhow::Result<Vec<Kind>> {
        let wanted = match self.only.is_empty() {
            true => Kind::value_variants(),
            false => &self.only,
        };
        let is_possible = |kind: &Kind| *kind != Kind::DiskFull || self.machine.disks.is_some();
        let kinds: Vec<_> = wanted.iter().copied().filter(is_possible).collect();
        ensure!(!kinds.is_empty(), "disk-full needs --disks");
        Ok(kinds)
    }
}
