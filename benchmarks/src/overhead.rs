//! What it costs to be observed: the same work with and without, in turn.

use std::time::Duration;

use testkit::Collector;

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
    settings: Vec<(&'static str, String)>,
}

fn variants(collector: &Collector) -> [Variant; 3] {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url().to_owned());
    let one_percent = ("OTEL_TRACES_SAMPLER_ARG", "0.01".to_owned());
    let variant = |name, settings| Variant { name, settings };
    let metrics = |on: &str| ("METRICS", on.to_owned());
    [
        variant("metrics off", vec![metrics("off")]),
        variant("metrics on", vec![metrics("on")]),
        variant(
            "metrics on, traces at 1 %",
            vec![metrics("on"), endpoint, one_percent],
        ),
    ]
}

/// The rates of each variant, in the order of [`variants`].
type Rounds = Vec<Vec<f64>>;

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, events, seconds) = if quick {
        (2, 20_000, 1)
    } else {
        (8, 200_000, 5)
    };
    let duration = Duration::from_secs(seconds);
    let collector = Collector::start().await;
    let variants = variants(&collector);
    let mut posts = vec![Vec::new(); variants.len()];
    let mut relayed = posts.clone();
    let mut projected = posts.clone();
    for round in 0..rounds {
        // Who goes first has it easier, or harder: each does as often.
        let mut turns: Vec<_> = (0..variants.len()).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            let settings = &variants[turn].settings;
            posts[turn].push(post(settings, duration).await?);
            relayed[turn].push(relay_drains(settings, events).await?);
            projected[turn].push(projector_drains(settings, events).await?);
        }
    }
    tell(
        report,
        &variants,
        &format!("POST, {CLIENTS} clients"),
        &posts,
    );
    tell(
        report,
        &variants,
        &format!("relay, {events} events"),
        &relayed,
    );
    tell(
        report,
        &variants,
        &format!("projector, {events} events"),
        &projected,
    );
    Ok(())
}

fn tell(report: &mut Report, variants: &[Variant], what: &str, rounds: &Rounds) {
    let Some((without, with)) = rounds.split_first() else {
        return;
    };
    let base = variants[0].name;
    report.add(format!("{what}, {base}"), "/s", without);
    for (variant, rates) in variants[1..].iter().zip(with) {
        let name = format!("{what}, {}", variant.name);
        report.add_beside(name, "/s", rates, (base, without));
        // Of the two turns of one round, between which the machine has changed least.
        let shares: Vec<_> = (rates.iter().zip(without))
            .map(|(with, without)| 100.0 * with / without)
            .collect();
        report.add("the same, in % of the same round without", "%", &shares);
    }
}

async fn post(settings: &[(&'static str, String)], duration: Duration) -> anyhow::Result<f64> {
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

async fn relay_drains(settings: &[(&'static str, String)], events: i64) -> anyhow::Result<f64> {
    let stack = Stack::new().await?.with(settings);
    stack.fill_outbox(events, 1).await?;
    stack.trace_events().await?;
    Ok(relay::drain(&stack, events).await?.per_second)
}

async fn projector_drains(settings: &[(&'static str, String)], events: i64) -> anyhow::Result<f64> {
    let stack = Stack::new().await?;
    stack.fill_outbox(events, 1).await?;
    stack.trace_events().await?;
    stack.publish().await;
    read_side::drain(&stack.with(settings), "fresh", events).await
}
