//! What was measured: a table for people, JSON for machines.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bench: String,
    machine: Value,
    results: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// The median of the rounds.
    value: f64,
    min: f64,
    max: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

impl Report {
    pub(crate) fn new(bench: String) -> Self {
        Self {
            bench,
            machine: machine(),
            results: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, unit: &'static str, rounds: &[f64]) {
        let (min, value, max) = spread(rounds);
        self.results.push(Row {
            name: name.into(),
            value,
            min,
            max,
            unit,
            limit: None,
            limit_name: None,
            ratio: None,
        });
    }

    /// As [`Report::add`], beside the limit: the ratio is that of the medians.
    pub(crate) fn add_beside(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        rounds: &[f64],
        limit: (impl Into<String>, &[f64]),
    ) {
        self.add(name, unit, rounds);
        let (limit_name, limit_rounds) = limit;
        let (_, limit, _) = spread(limit_rounds);
        if let Some(row) = self.results.last_mut() {
            row.limit = Some(limit);
            row.limit_name = Some(limit_name.into());
            row.ratio = Some(row.value / limit);
        }
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{:<52} {:>12} {:>23}  {:<8} ratio",
            "", "median", "min – max", "unit"
        );
        for row in &self.results {
            let ratio = match (row.ratio, &row.limit_name) {
                (Some(ratio), Some(limit)) => format!("{ratio:.2} of {limit}"),
                _ => String::new(),
            };
            let range = format!("{:.1} – {:.1}", row.min, row.max);
            println!(
                "{:<52} {:>12.1} {range:>23}  {:<8} {ratio}",
                row.name, row.value, row.unit
            );
        }
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}

/// Minimum, median and maximum.
fn spread(rounds: &[f64]) -> (f64, f64, f64) {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (
        at(0),
        at(sorted.len() / 2),
        at(sorted.len().saturating_sub(1)),
    )
}

/// The value below which the given share of the samples lies.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index below the length"
    )]
    let index = (last as f64 * share).round() as usize;
    samples.get(index).copied().unwrap_or(f64::NAN)
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let load = read("/proc/loadavg");
    let facts: BTreeMap<_, Value> = BTreeMap::from([
        ("cpu", json!(field(&read("/proc/cpuinfo"), "model name"))),
        (
            "cores",
            json!(std::thread::available_parallelism().map_or(0, usize::from)),
        ),
        ("memory", json!(field(&read("/proc/meminfo"), "MemTotal"))),
        ("kernel", json!(read("/proc/sys/kernel/osrelease").trim())),
        ("load_before", json!(load.split(' ').next())),
    ]);
    json!(facts)
}
