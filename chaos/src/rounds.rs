//! Rounds of faults, each followed by healing and a check.

use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use tokio::time::{Instant, sleep_until};

use crate::{
    faults,
    plan::Fault,
    proof::Proof,
    report::{Report, Round, Struck},
    stack::Stack,
};

/// What decides the faults, and when to end.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub(crate) seed: u64,
    /// The number of the first round.
    pub(crate) first: u64,
    pub(crate) faults: usize,
    pub(crate) time: Duration,
}

/// A service that is not ready by then never will be.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(90);

impl Course {
    /// Until it is over, or something does not hold. `round` gets its number, and how many faults are
    /// left.
    pub(crate) async fn run(
        &self,
        report: &mut Report,
        mut round: impl AsyncFnMut(u64, usize) -> anyhow::Result<Round>,
    ) -> anyhow::Result<()> {
        let seed = self.seed;
        let started = Instant::now();
        for number in self.first.. {
            let left = self.faults.saturating_sub(report.faults());
            if left == 0 || started.elapsed() >= self.time || report.violations() > 0 {
                break;
            }
            let round = round(number, left).await;
            let round = round.with_context(|| format!("in round {number} of seed {seed}"))?;
            println!("round {number}: {round}");
            for violation in &round.violations {
                println!("VIOLATION in round {number} of seed {seed}: {violation}");
            }
            report.add(&round);
        }
        Ok(())
    }
}

/// One round on the small stack.
pub(crate) async fn round(stack: &Stack, proof: &Proof, faults: &[Fault]) -> anyhow::Result<Round> {
    strike_all(stack, proof, faults).await?;
    let healed = Instant::now();
    let ended = stack.heal().await?;
    let mut violations: Vec<_> = (ended.iter())
        .map(|name| format!("{name} has ended by itself"))
        .collect();
    let recovered = stack.ready(RECOVERY_DEADLINE).await;
    let ready = healed.elapsed();
    violations.extend(recovered.err().map(|error| format!("not ready {error:#}")));
    violations.extend(proof.check().await?);
    Ok(Round {
        faults: faults.iter().map(Struck::of).collect(),
        acknowledged: proof.acknowledged(),
        ready,
        checked: healed.elapsed() - ready,
        violations,
    })
}

/// Each at its time; returns when all are over.
async fn strike_all(stack: &Stack, proof: &Proof, faults: &[Fault]) -> anyhow::Result<()> {
    let begin = Instant::now();
    let strikes = faults.iter().map(async |fault| {
        sleep_until(begin + fault.after).await;
        faults::strike(stack, proof, fault).await
    });
    try_join_all(strikes).await.map(drop)
}
