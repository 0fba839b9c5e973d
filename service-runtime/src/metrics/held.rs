//! Counting what is there now.

use metrics::Gauge;

/// Counts for one in a gauge for as long as it lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
