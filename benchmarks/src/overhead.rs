//! What it costs to be observed: the same work with and without, in turn.

use std::time::Duration;

use crate::{
    read_side, relay,
    report::Report,
    stack::{Stack, ready},
    write::{self, Rates},
};

const CLIENTS: usize = 32;

/// A way to be observed; the first is compared with the others.
struct Variant {
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
}

const VARIANTS: &[Variant] = &[
    Variant {
        name: "metrics off",
        settings: &[("METRICS", "off")],
    },
    Variant {
        name: "metrics on",
        settings: &[("METRICS", "on")],
    },
];

/// The rates of each variant, in the order of [`VARIANTS`].
type Rounds = Vec<Vec<f64>>;

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, events, seconds) = if quick {
        (2, 20_000, 1)
    } else {
        (8, 200_000, 5)
    };
    let duration = Duration::from_secs(seconds);
    let mut posts = vec![Vec::new(); VARIANTS.len()];
    let mut relayed = posts.clone();
    let mut projected = posts.clone();
    for round in 0..rounds {
        // Who goes first has it easier, or harder: each does as often.
        let mut turns: Vec<_> = (0..VARIANTS.len()).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            let settings = VARIANTS[turn].settings;
            posts[turn].push(post(settings, duration).await?);
            relayed[turn].push(relay_drains(settings, events).await?);
            projected[turn].push(projector_drains(settings, events).await?);
        }
    }
    tell(report, &format!("POST, {CLIENTS} clients"), &posts);
    tell(report, &format!("relay, {events} events"), &relayed);
    tell(report, &format!("projector, {events} events"), &projected);
    Ok(())
}

fn tell(report: &mut Report, what: &str, rounds: &Rounds) {
    let Some((without, with)) = rounds.split_first() else {
        return;
    };
    let base = VARIANTS[0].name;
    report.add(format!("{what}, {base}"), "/s", without);
    for (variant, rates) in VARIANTS[1..].iter().zip(with) {
        let name = format!("{what}, {}", variant.name);
        report.add_beside(name, "/s", rates, (base, without));
        // Of the two turns of one round, between which the machine has changed least.
        let shares: Vec<_> = (rates.iter().zip(without))
            .map(|(with, without)| 100.0 * with / without)
            .collect();
        report.add("the same, in % of the same round without", "%", &shares);
    }
}

async fn post(
    settings: &[(&'static str, &'static str)],
    duration: Duration,
) -> anyhow::Result<f64> {
    let stack = Stack::new().await?.with(settings);
    let mut service = stack.start("user-service", &["serve", "--no-relay"]);
    let address = ready(&service).await?;
    let mut rates = Rates::default();
    // The first second is for caches and connections.
    for duration in [Duration::from_secs(1), duration] {
        rates = Rates::default();
        write::post(address, CLIENTS, duration, &mut rates, &mut Vec::new()).await?;
    }
    service.process.stop().await;
    Ok(rates.raw.iter().sum())
}

async fn relay_drains(
    settings: &[(&'static str, &'static str)],
    events: i64,
) -> anyhow::Result<f64> {
    let stack = Stack::new().await?.with(settings);
    stack.fill_outbox(events, 1).await?;
    Ok(relay::drain(&stack, events).await?.per_second)
}

async fn projector_drains(
    settings: &[(&'static str, &'static str)],
    events: i64,
) -> anyhow::Result<f64> {
    let stack = Stack::new().await?;
    stack.fill_stream(events, 1).await?;
    read_side::drain(&stack.with(settings), "fresh", events).await
}
