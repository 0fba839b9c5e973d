//! A rolling update from an earlier release, under load, on one database, stream and copy.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use crate::{
    arguments::Upgrade,
    proof::Proof,
    stack::{Machine, SERVICES, Stack},
};

/// Both releases work side by side for so long after each step.
const SIDE_BY_SIDE: Duration = Duration::from_secs(5);
const RECOVERY_DEADLINE: Duration = Duration::from_secs(90);
/// The longest that a migration may wait for a lock while writers wait behind it (3 s), and what a write
/// takes that came before and after.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// In which services are replaced.
pub(crate) const ORDERS: [[&str; 4]; 2] = [
    SERVICES,
    ["notifications-1", "notifications-2", "users-1", "users-2"],
];

/// From the start of the earlier release to the last check of this one.
///
/// # Errors
/// If something does not hold.
pub(crate) async fn update(
    arguments: &Upgrade,
    logs: &Path,
    order: [&'static str; 4],
) -> anyhow::Result<()> {
    let stack = Stack::start(&Machine::of(&arguments.from), logs, &[]).await?;
    let proof = Proof::start(&stack.endpoints, arguments.seed, arguments.load.rate).await?;
    sleep(SIDE_BY_SIDE).await;
    let mut violations = proof.check().await.context("the earlier release alone")?;
    let programs = arguments.machine.binaries()?;
    for name in order {
        let begin = Instant::now();
        stack.update(name, &programs).await?;
        stack.ready(RECOVERY_DEADLINE).await.context(name)?;
        let ready = begin.elapsed();
        sleep(SIDE_BY_SIDE).await;
        let pause = proof.longest_pause(begin);
        println!(
            "{name} was updated within {ready:.1?}; the longest time without an acknowledged write was {pause:.1?}"
        );
        if pause > MAX_PAUSE {
            violations.push(format!(
                "writes paused for {pause:?} while {name} was updated"
            ));
        }
        let unfit = proof.check().await?;
        violations.extend(
            unfit
                .into_iter()
                .map(|what| format!("after {name}: {what}")),
        );
    }
    for violation in &violations {
        println!("VIOLATION: {violation}");
    }
    let count = violations.len();
    ensure!(count == 0, "{count} violations");
    println!("{order:?}: {} writes acknowledged", proof.acknowledged());
    Ok(())
}
