//! Declarations of metrics. Their names and labels are checked when they are compiled.

use metrics::{Key, Label, Level, Metadata};

/// Bounds for durations, from half a millisecond to half a minute.
pub const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Bounds for numbers of things, such as the events of a batch.
pub const COUNTS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0,
];

const METADATA: Metadata<'static> = Metadata::new("", Level::INFO, None);

/// What only grows, and begins at 0 with each process. Its name ends in `_total`.
#[derive(Debug, Clone, Copy)]
pub struct Counter<const N: usize>(Declared<N>);

/// What goes up and down.
#[derive(Debug, Clone, Copy)]
pub struct Gauge<const N: usize>(Declared<N>);

/// How often which values were seen.
#[derive(Debug, Clone, Copy)]
pub struct Histogram<const N: usize> {
    declared: Declared<N>,
    buckets: &'static [f64],
}

#[derive(Debug, Clone, Copy)]
struct Declared<const N: usize> {
    name: &'static str,
    labels: [&'static str; N],
    help: &'static str,
}

/// A declaration as documents and the recorder see it.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    /// Upper bounds; empty unless it is a histogram.
    pub buckets: &'static [f64],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl<const N: usize> Counter<N> {
    /// # Panics
    /// At compile time, if a name is not one of Prometheus in snake case, or lacks `_total`.
    #[must_use]
    pub const fn new(name: &'static str, labels: [&'static str; N], help: &'static str) -> Self {
        assert!(ends_with(name, "_total"), "a counter's name ends in _total");
        Self(Declared::new(name, labels, help))
    }

    /// The counter with these values of its labels.
    pub fn with(&self, values: [&str; N]) -> metrics::Counter {
        let key = self.0.key(values);
        metrics::with_recorder(|recorder| recorder.register_counter(&key, &METADATA))
    }

    #[must_use]
    pub const fn description(&'static self) -> Description {
        self.0.description(Kind::Counter, &[])
    }
}

impl<const N: usize> Gauge<N> {
    /// # Panics
    /// At compile time, if a name is not one of Prometheus in snake case, or that of a counter.
    #[must_use]
    pub const fn new(name: &'static str, labels: [&'static str; N], help: &'static str) -> Self {
        assert!(!ends_with(name, "_total"), "only a counter's name ends so");
        Self(Declared::new(name, labels, help))
    }

    /// The gauge with these values of its labels.
    pub fn with(&self, values: [&str; N]) -> metrics::Gauge {
        let key = self.0.key(values);
        metrics::with_recorder(|recorder| recorder.register_gauge(&key, &METADATA))
    }

    #[must_use]
    pub const fn description(&'static self) -> Description {
        self.0.description(Kind::Gauge, &[])
    }
}

impl<const N: usize> Histogram<N> {
    /// `buckets` are upper bounds, such as [`SECONDS`]; what is above the last is counted too.
    ///
    /// # Panics
    /// At compile time, if a name is not one of Prometheus in snake case, or that of a counter, or
    /// the bounds do not ascend.
    #[must_use]
    pub const fn new(
        name: &'static str,
        labels: [&'static str; N],
        buckets: &'static [f64],
        help: &'static str,
    ) -> Self {
        assert!(!ends_with(name, "_total"), "only a counter's name ends so");
        assert!(!buckets.is_empty(), "a histogram has buckets");
        let mut at = 1;
        while at < buckets.len() {
            assert!(buckets[at - 1] < buckets[at], "bounds ascend");
            at += 1;
        }
        Self {
            declared: Declared::new(name, labels, help),
            buckets,
        }
    }

    /// The histogram with these values of its labels.
    pub fn with(&self, values: [&str; N]) -> metrics::Histogram {
        let key = self.declared.key(values);
        metrics::with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
    }

    #[must_use]
    pub const fn description(&'static self) -> Description {
        self.declared.description(Kind::Histogram, self.buckets)
    }
}

impl<const N: usize> Declared<N> {
    const fn new(name: &'static str, labels: [&'static str; N], help: &'static str) -> Self {
        assert!(is_name(name), "names are in snake case");
        assert!(!help.is_empty(), "a metric says what it means");
        let mut at = 0;
        while at < N {
            assert!(is_name(labels[at]), "labels are in snake case");
            at += 1;
        }
        Self { name, labels, help }
    }

    fn key(&self, values: [&str; N]) -> Key {
        let labels = self.labels.iter().zip(values);
        let labels: Vec<_> = labels
            .map(|(label, value)| Label::new(*label, value.to_owned()))
            .collect();
        Key::from_parts(self.name, labels)
    }

    const fn description(&'static self, kind: Kind, buckets: &'static [f64]) -> Description {
        Description {
            name: self.name,
            kind,
            labels: &self.labels,
            help: self.help,
            buckets,
        }
    }
}

/// Lower-case letters, digits and single underscores between them, a letter first.
const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut at = 0;
    let mut may_separate = false;
    while at < bytes.len() {
        match bytes[at] {
            b'a'..=b'z' => may_separate = true,
            b'0'..=b'9' if at > 0 => may_separate = true,
            b'_' if may_separate => may_separate = false,
            _ => return false,
        }
        at += 1;
    }
    may_separate
}

const fn ends_with(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    if text.len() < end.len() {
        return false;
    }
    let begin = text.len() - end.len();
    let mut at = 0;
    while at < end.len() {
        if text[begin + at] != end[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{Counter, Description, Histogram, Kind, SECONDS, is_name};

    const COUNTED: Counter<2> = Counter::new("things_total", ["kind", "place"], "Things.");
    const MEASURED: Histogram<0> = Histogram::new("thing_seconds", [], SECONDS, "A thing.");
    const METRICS: &[Description] = &[COUNTED.description(), MEASURED.description()];

    #[test]
    fn a_description_says_what_was_declared() {
        let [counted, measured] = METRICS else {
            panic!("there are two")
        };
        assert_eq!(counted.labels, ["kind", "place"]);
        assert_eq!((counted.kind, counted.buckets), (Kind::Counter, &[][..]));
        assert_eq!(
            (measured.kind, measured.buckets),
            (Kind::Histogram, SECONDS)
        );
    }

    #[test]
    fn names_are_in_snake_case() {
        for good in ["a", "a_b", "http2_requests_total"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "_a", "a_", "a__b", "2a", "A", "a-b", "a:b", "ä"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn handles_without_a_recorder_do_nothing() {
        COUNTED.with(["a", "b"]).increment(1);
        MEASURED.with([]).record(0.1);
    }
}
