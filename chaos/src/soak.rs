//! Hours under a steady load with one fault a minute, to see what grows.

mod sample;

use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    time::{Instant, MissedTickBehavior, interval},
};

use self::sample::Sampler;
use crate::{
    arguments::{MINUTE, Soak},
    faults,
    plan::{self, Kind},
    proof::Proof,
    report::{Report, Round, Struck},
    rounds,
    stack::Stack,
};

/// What is kept for days is kept for minutes or an hour, so that it stops growing within the run.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("OUTBOX_RETENTION", "10min"),
    ("OUTBOX_PARTITION_EVENTS", "50000"),
    ("STREAM_MAX_AGE", "15min"),
    ("TOMBSTONE_TTL", "1h"),
    ("IDEMPOTENCY_RETENTION", "10min"),
    ("RUST_LOG", "warn"),
];
/// In minutes: what the checks have not looked at must not be forgotten.
const CHECK_EVERY: u32 = 5;
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) async fn run(
    stack: &Stack,
    proof: &Proof,
    arguments: &Soak,
    report: &mut Report,
) -> anyhow::Result<()> {
    proof.tombstones_expire();
    tokio::select! {
        outcome = strike_each_minute(stack, proof, arguments, report) => outcome?,
        outcome = sample(stack, proof, arguments) => outcome?,
    }
    let round = rounds::round(stack, proof, &[]).await?;
    println!("at the end: {round}");
    for violation in &round.violations {
        println!("VIOLATION: {violation}");
    }
    report.add(&round);
    Ok(())
}

async fn strike_each_minute(
    stack: &Stack,
    proof: &Proof,
    arguments: &Soak,
    report: &mut Report,
) -> anyhow::Result<()> {
    // With what is lost the sizes would change.
    let is_wanted =
        |kind: &Kind| !kind.loses_messages() && !kind.loses_writes() && *kind != Kind::Outage;
    let kinds = Kind::value_variants().iter().copied().filter(is_wanted);
    let kinds: Vec<_> = kinds.collect();
    let mut clock = interval(MINUTE);
    clock.tick().await;
    for number in 1..arguments.minutes {
        clock.tick().await;
        if number % CHECK_EVERY == 0 {
            let round = rounds::round(stack, proof, &[]).await?;
            report.add(&round);
            ensure!(round.violations.is_empty(), "{:?}", round.violations);
        }
        for fault in plan::round(arguments.seed, u64::from(number), &kinds, plan::MOST, 1) {
            println!("minute {number}: {fault}");
            faults::strike(stack, proof, &fault).await?;
            let healed = Instant::now();
            let ended = stack.heal().await?;
            stack.ready(MINUTE).await?;
            report.add(&Round {
                faults: vec![Struck::of(&fault)],
                acknowledged: proof.acknowledged(),
                ready: healed.elapsed(),
                checked: Duration::ZERO,
                is_reconciled_by_hand: false,
                violations: ended
                    .iter()
                    .map(|name| format!("{name} has ended by itself"))
                    .collect(),
            });
        }
    }
    clock.tick().await;
    Ok(())
}

async fn sample(stack: &Stack, proof: &Proof, arguments: &Soak) -> anyhow::Result<()> {
    let mut sampler = Sampler::new(stack)?;
    let mut file = File::create(&arguments.csv).await?;
    file.write_all(format!("{}\n", sampler.header()).as_bytes())
        .await?;
    let mut clock = interval(SAMPLE_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        clock.tick().await;
        let line = sampler.sample(proof.acknowledged()).await;
        file.write_all(format!("{line}\n").as_bytes()).await?;
        file.flush().await?;
    }
}
