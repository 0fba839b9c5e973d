//! The lists of metrics for people: docs/metrics.md.

use std::fmt::Write;

use super::{Description, Kind};

/// A table of these metrics, in their order.
#[must_use]
pub fn markdown(lists: &[&[Description]]) -> String {
    let mut table = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for it in lists.iter().copied().flatten() {
        let kind = match it.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = it.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = (
            it.name,
            kind,
            labels.join(", "),
            it.help.replace('|', "\\|"),
        );
        let (name, kind, labels, help) = row;
        // Writing to a string can't fail.
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {help} |");
    }
    table
}
