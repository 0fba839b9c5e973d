//! Messages that left a stream before their time, and that its relay has published again.

use std::ops::RangeInclusive;

/// The events that stood at some sequences are on the stream again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refill {
    /// Where they stood.
    pub missing: RangeInclusive<u64>,
    /// They stand again at this sequence or before it.
    pub through: u64,
}

/// The newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refills(Vec<Refill>);

impl Refills {
    /// As many are kept; what is dropped stays missing for readers until they are verified.
    pub const MOST: usize = 100;

    pub fn iter(&self) -> impl Iterator<Item = &Refill> {
        self.0.iter()
    }

    /// Nothing changes if it is there.
    pub fn add(&mut self, refill: Refill) {
        if !self.0.contains(&refill) {
            self.0.insert(0, refill);
            self.0.truncate(Self::MOST);
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        let parse = |entry: &str| {
            let (missing, through) = entry.split_once('@')?;
            let (first, last) = missing.split_once('-')?;
            Some(Refill {
                missing: first.parse().ok()?..=last.parse().ok()?,
                through: through.parse().ok()?,
            })
        };
        Self(text.split(',').filter_map(parse).collect())
    }

    pub(super) fn to_text(&self) -> Option<String> {
        let text = |Refill { missing, through }: &Refill| {
            format!("{}-{}@{through}", missing.start(), missing.end())
        };
        let entries: Vec<_> = self.0.iter().map(text).collect();
        (!entries.is_empty()).then(|| entries.join(","))
    }
}
