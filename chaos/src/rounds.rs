//! Rounds of faults, each followed by healing and a check.

use std::{convert::Infallible, time::Duration};

use anyhow::Context;
use futures::future::try_join_all;
use tokio::time::{Instant, sleep, sleep_until};

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
const MOST_PRINTED: usize = 20;
const POLL_INTERVAL: Duration = Duration::from_millis(500);

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
            for violation in round.violations.iter().take(MOST_PRINTED) {
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
    let (mut ready, mut is_reconciled_by_hand) = (Duration::ZERO, false);
    let recovering = async {
        let recovered = stack.ready(RECOVERY_DEADLINE).await;
        ready = healed.elapsed();
        violations.extend(recovered.err().map(|error| format!("not ready {error:#}")));
        violations.extend(proof.check().await?);
        anyhow::Ok(())
    };
    let loses_messages = faults.iter().any(|fault| fault.kind.loses_messages());
    tokio::select! {
        recovered = recovering => recovered?,
        failed = reconcile(stack, &mut is_reconciled_by_hand), if loses_messages => match failed? {},
    }
    Ok(Round {
        faults: faults.iter().map(Struck::of).collect(),
        acknowledged: proof.acknowledged(),
        ready,
        checked: healed.elapsed() - ready,
        is_reconciled_by_hand,
        violations,
    })
}

/// Messages that leave the stream before the relay has looked them up are left to an operator: they are
/// compared by the check. Ends only if it fails; notes whether it had to.
async fn reconcile(stack: &Stack, is_reconciled: &mut bool) -> anyhow::Result<Infallible> {
    loop {
        if stack.is_unreconciled().await? {
            stack.reconcile().await?;
            *is_reconciled = true;
        }
        sleep(POLL_INTERVAL).await;
    }
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
