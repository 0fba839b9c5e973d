//! What it costs to be observed: the same work with and without, in turn.

use std::time::Duration;

use testkit::Collector;

use crate::{
    cpu::{Work, used_by},
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

fn variants(collector: &Collector) -> [Variant; 4] {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url().to_owned());
    let one_percent = ("OTEL_TRACES_SAMPLER_ARG", "0.01".to_owned());
    let variant = |name, settings| Variant { name, settings };
    let metrics = |on: &str| ("METRICS", on.to_owned());
    [
        variant("metrics off", vec![metrics("off")]),
        variant("the same again", vec![metrics("off")]),
        variant("metrics on", vec![metrics("on")]),
        variant(
            "metrics on, traces at 1 %",
            vec![metrics("on"), endpoint, one_percent],
        ),
    ]
}

/// Of each variant, in the order of [`variants`].
type Rounds = Vec<Vec<Work>>;

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, events, seconds) = if quick {
        (2, 20_000, 1)
    } else {
        (8, 60_000, 2)
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
        turns.rotate_left(round % variants.len());
        for turn in turns {
            let settings = &variants[turn].settings;
            posts[turn].push(post(settings, duration).await?);
            relayed[turn].push(relay_drains(settings, events).await?);
            projected[turn].push(projector_drains(settings, events).await?);
        }
    }
    let post = format!("POST, {CLIENTS} clients");
    let (relay, projector) = (
        format!("relay, {events} events"),
        format!("projector, {events} events"),
    );
    for (what, rounds) in [(post, posts), (relay, relayed), (projector, projected)] {
        tell(report, &variants, &what, &rounds);
    }
    Ok(())
}

fn tell(report: &mut Report, variants: &[Variant], what: &str, rounds: &Rounds) {
    compare(report, variants, what, "/s", rounds, |work| work.per_second);
    let what = format!("{what}, processor time of the service");
    compare(report, variants, &what, "µs", rounds, |it| it.cpu_micros);
}

fn compare(
    report: &mut Report,
    variants: &[Variant],
    what: &str,
    unit: &'static str,
    rounds: &Rounds,
    of: fn(&Work) -> f64,
) {
    let values = rounds.iter().map(|rounds| rounds.iter().map(of).collect());
    let values: Vec<Vec<f64>> = values.collect();
    let Some((without, with)) = values.split_first() else {
        return;
    };
    let base = variants[0].name;
    report.add(format!("{what}, {base}"), unit, without);
    for (variant, values) in variants[1..].iter().zip(with) {
        let name = format!("{what}, {}", variant.name);
        report.add_beside(name, unit, values, (base, without));
        // Of the two turns of one round, between which the machine has changed least.
        let shares: Vec<_> = (values.iter().zip(without))
            .map(|(with, without)| 100.0 * with / without)
            .collect();
        report.add("the same, in % of the same round without", "%", &shares);
    }
}

async fn post(settings: &[(&'static str, String)], duration: Duration) -> anyhow::Result<Work> {
    let stack = Stack::new().await?.with(settings);
    let mut service = stack.start("user-service", &["serve", "--no-relay"]);
    let address = ready(&service).await?;
    let pid = service.process.id().to_string();
    // The first second is for caches and connections.
    let warm_up = Duration::from_secs(1);
    write::post(
        address,
        CLIENTS,
        warm_up,
        &mut Rates::default(),
        &mut vec![],
    )
    .await?;
    let (before, mut rates) = (used_by(&pid), Rates::default());
    write::post(address, CLIENTS, duration, &mut rates, &mut vec![]).await?;
    let used = used_by(&pid) - before;
    service.process.stop().await;
    let per_second: f64 = rates.raw.iter().sum();
    Ok(Work {
        per_second,
        cpu_micros: 1e6 * used / (per_second * duration.as_secs_f64()),
    })
}

async fn relay_drains(settings: &[(&'static str, String)], events: i64) -> anyhow::Result<Work> {
    let stack = Stack::new().await?.with(settings);
    stack.fill_outbox(events, 1).await?;
    stack.trace_events().await?;
    relay::drain(&stack, events).await
}

async fn projector_drains(
    settings: &[(&'static str, String)],
    events: i64,
) -> anyhow::Result<Work> {
    let stack = Stack::new().await?;
    stack.fill_outbox(events, 1).await?;
    stack.trace_events().await?;
    stack.publish().await;
    read_side::drain(&stack.with(settings), "fresh", events).await
}
