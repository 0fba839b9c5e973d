//! What came out.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::plan::Fault;

/// A fault that has struck.
#[derive(Debug, Clone)]
pub(crate) struct Struck {
    pub(crate) kind: String,
    /// With its target and times.
    pub(crate) what: String,
}

impl Struck {
    pub(crate) fn of(fault: &Fault) -> Self {
        Self {
            kind: fault.kind.name(),
            what: fault.to_string(),
        }
    }
}

/// One round of faults.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) faults: Vec<Struck>,
    /// Writes since the beginning of the run.
    pub(crate) acknowledged: u64,
    /// From the end of the last fault until every service was ready.
    pub(crate) ready: Duration,
    /// From then until both sides had become idle, and were checked.
    pub(crate) checked: Duration,
    /// Whether an operator had to say that both sides were compared.
    pub(crate) is_reconciled_by_hand: bool,
    pub(crate) violations: Vec<String>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.faults.iter().map(|it| it.what.as_str()).collect();
        write!(
            f,
            "{} faults, {} acknowledged writes, ready after {:.1?}, checked {:.1?} later ({})",
            faults.len(),
            self.acknowledged,
            self.ready,
            self.checked,
            faults.join(", ")
        )
    }
}

#[derive(Debug)]
pub(crate) struct Report {
    seed: u64,
    rounds: usize,
    kinds: BTreeMap<String, usize>,
    acknowledged: u64,
    recoveries: Vec<Duration>,
    reconciled_by_hand: usize,
    violations: usize,
}

impl Report {
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            seed,
            rounds: 0,
            kinds: BTreeMap::new(),
            acknowledged: 0,
            recoveries: Vec::new(),
            reconciled_by_hand: 0,
            violations: 0,
        }
    }

    pub(crate) fn add(&mut self, round: &Round) {
        self.rounds += 1;
        for fault in &round.faults {
            *self.kinds.entry(fault.kind.clone()).or_default() += 1;
        }
        self.acknowledged = round.acknowledged;
        self.recoveries.push(round.ready);
        self.reconciled_by_hand += usize::from(round.is_reconciled_by_hand);
        self.violations += round.violations.len();
    }

    pub(crate) fn faults(&self) -> usize {
        self.kinds.values().sum()
    }

    pub(crate) fn violations(&self) -> usize {
        self.violations
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| fault | times |\n|---|---|")?;
        for (kind, times) in &self.kinds {
            writeln!(f, "| {kind} | {times} |")?;
        }
        let mut recoveries = self.recoveries.clone();
        recoveries.sort_unstable();
        let median = recoveries.get(recoveries.len() / 2);
        writeln!(
            f,
            "\nseed {}: {} faults in {} rounds, {} acknowledged writes, {} violations; \
             all services ready after {:.1?} (median), {:.1?} at most; {} times reconciled by hand",
            self.seed,
            self.faults(),
            self.rounds,
            self.acknowledged,
            self.violations,
            median.copied().unwrap_or_default(),
            recoveries.last().copied().unwrap_or_default(),
            self.reconciled_by_hand,
        )
    }
}
