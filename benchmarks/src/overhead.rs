//! What it costs to be observed: the same work with and without, in short turns.

use std::{net::SocketAddr, time::Duration};

use testkit::{Collector, Service};

use crate::{
    cpu::used_by,
    read_side,
    report::Report,
    stack::{Stack, ready},
    write::{self, Rates},
};

const CLIENTS: usize = 32;
const CONSUMER: &str = "overhead";

type Settings = Vec<(&'static str, String)>;

/// A way to be observed; the first is compared with the others.
fn variants(collector: &Collector) -> [(&'static str, Settings); 4] {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url().to_owned());
    let one_percent = ("OTEL_TRACES_SAMPLER_ARG", "0.01".to_owned());
    let metrics = |on: &str| ("METRICS", on.to_owned());
    [
        ("metrics off", vec![metrics("off")]),
        ("the same again", vec![metrics("off")]),
        ("metrics on", vec![metrics("on")]),
        (
            "metrics on, traces at 1 %",
            vec![metrics("on"), endpoint, one_percent],
        ),
    ]
}

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, events, milliseconds) = if quick {
        (2, 10_000, 200)
    } else {
        (32, 20_000, 400)
    };
    let duration = Duration::from_millis(milliseconds);
    let collector = Collector::start().await;
    let mut contestants = Vec::new();
    for (name, settings) in variants(&collector) {
        contestants.push(Contestant::start(name, &settings).await?);
    }
    // The first turn is for caches and connections.
    for contestant in &mut contestants {
        contestant.take_turn(duration, events).await?;
        contestant.turns.clear();
    }
    let mut order: Vec<_> = (0..contestants.len()).collect();
    for round in 0..rounds {
        // Who goes first, and after whom, changes.
        order.rotate_left(1);
        if round % order.len() == 0 {
            order.reverse();
        }
        for place in &order {
            contestants[*place].take_turn(duration, events).await?;
        }
    }
    let works: [(String, Part); 3] = [
        (format!("POST, {CLIENTS} clients"), |turn| &turn.post),
        (format!("relay, {events} events"), |turn| &turn.relay),
        (format!("projector, {events} events"), |turn| {
            &turn.projector
        }),
    ];
    for (what, of) in works {
        compare(report, &contestants, &what, "/s", |turn| {
            of(turn).per_second
        });
        let what = format!("{what}, processor time");
        compare(report, &contestants, &what, "µs", |turn| {
            of(turn).cpu_micros
        });
    }
    Ok(())
}

fn compare(
    report: &mut Report,
    contestants: &[Contestant],
    what: &str,
    unit: &'static str,
    of: impl Fn(&Turn) -> f64,
) {
    let values = |it: &Contestant| -> Vec<f64> { it.turns.iter().map(&of).collect() };
    let Some((base, others)) = contestants.split_first() else {
        return;
    };
    let without = values(base);
    report.add(format!("{what}, {}", base.name), unit, &without);
    for other in others {
        let with = values(other);
        let name = format!("{what}, {}", other.name);
        report.add_beside(name, unit, &with, (base.name, &without));
        // Of the two turns of one round, between which the machine has changed least.
        let shares: Vec<_> = (with.iter().zip(&without))
            .map(|(with, without)| 100.0 * with / without)
            .collect();
        report.add("the same, in % of the same round without", "%", &shares);
    }
}

struct Turn {
    post: Work,
    relay: Work,
    projector: Work,
}

type Part = fn(&Turn) -> &Work;

/// How fast a service did what it had to do, and what each piece of work cost it.
struct Work {
    per_second: f64,
    cpu_micros: f64,
}

/// Services that are observed in one way, for all turns: on databases of their own.
struct Contestant {
    name: &'static str,
    api: Service,
    address: SocketAddr,
    relay: Service,
    projector: Service,
    /// Of the relay and the projector.
    stack: Stack,
    /// What the API writes stays where it is.
    _written: Stack,
    turns: Vec<Turn>,
}

impl Contestant {
    async fn start(name: &'static str, settings: &Settings) -> anyhow::Result<Self> {
        let written = Stack::new().await?.with(settings);
        let api = written.start("user-service", &["serve", "--no-relay"]);
        let stack = Stack::new().await?.with(settings);
        let relay = stack.start("user-service", &["relay"]);
        let projector = stack.start("notification-service", &["serve", "--consumer", CONSUMER]);
        ready(&projector).await?;
        Ok(Self {
            name,
            address: ready(&api).await?,
            api,
            relay,
            projector,
            stack,
            _written: written,
            turns: Vec::new(),
        })
    }

    async fn take_turn(&mut self, duration: Duration, events: i64) -> anyhow::Result<()> {
        let post = self.post(duration).await?;
        // The relay has the processors to itself.
        self.projector.process.freeze();
        let relay = self.relay(events).await?;
        self.projector.process.thaw();
        let projector = self.project(events).await?;
        self.turns.push(Turn {
            post,
            relay,
            projector,
        });
        Ok(())
    }

    async fn post(&self, duration: Duration) -> anyhow::Result<Work> {
        let (before, mut rates) = (cpu(&self.api), Rates::default());
        write::post(self.address, CLIENTS, duration, &mut rates, &mut vec![]).await?;
        let used = cpu(&self.api) - before;
        let per_second: f64 = rates.raw.iter().sum();
        Ok(Work {
            per_second,
            cpu_micros: 1e6 * used / (per_second * duration.as_secs_f64()),
        })
    }

    /// By JetStream's clock, from the first message stored to the last.
    async fn relay(&self, events: i64) -> anyhow::Result<Work> {
        let mut stream = self.stack.stream().await?;
        let first = stream.info().await?.state.last_sequence + 1;
        let before = cpu(&self.relay);
        self.stack.write_traced_events(events).await?;
        self.stack.drained().await;
        let used = cpu(&self.relay) - before;
        let last = stream.info().await?.state.last_sequence;
        let written = events.unsigned_abs();
        anyhow::ensure!(last + 1 - first == written, "{first} to {last}");
        let at = async |sequence| anyhow::Ok(stream.get_raw_message(sequence).await?.time);
        let seconds = (at(last).await? - at(first).await?).as_seconds_f64();
        Ok(Work {
            per_second: events as f64 / seconds,
            cpu_micros: micros_each(events, used),
        })
    }

    async fn project(&self, events: i64) -> anyhow::Result<Work> {
        let stream = self.stack.stream().await?;
        let before = cpu(&self.projector);
        let per_second = read_side::until_applied(&stream, CONSUMER, events).await?;
        Ok(Work {
            per_second,
            cpu_micros: micros_each(events, cpu(&self.projector) - before),
        })
    }
}

fn micros_each(events: i64, seconds: f64) -> f64 {
    1e6 * seconds / events as f64
}

fn cpu(service: &Service) -> f64 {
    used_by(&service.process.id().to_string())
}
