//! Sets of ids, event numbers or sequences.

use std::ops::RangeInclusive;

/// As bits: states are copied and hashed millions of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Ids(u16);

impl Ids {
    /// Bounds are chosen so that no id reaches this.
    pub(crate) const END: u8 = 16;

    pub(crate) fn insert(&mut self, id: u8) {
        self.0 |= bit(id);
    }

    pub(crate) fn remove(&mut self, id: u8) {
        self.0 &= !bit(id);
    }

    pub(crate) fn contains(self, id: u8) -> bool {
        self.0 & bit(id) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::END).filter(move |it| self.contains(*it))
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// 0 if there is none.
    pub(crate) fn highest(self) -> u8 {
        self.iter().last().unwrap_or_default()
    }

    /// Those up to this one.
    pub(crate) fn up_to(self, last: u8) -> Self {
        self.iter().filter(|it| *it <= last).collect()
    }
}

fn bit(id: u8) -> u16 {
    assert!(id < Ids::END, "the bounds let ids grow to {id}");
    1 << id
}

impl From<RangeInclusive<u8>> for Ids {
    fn from(ids: RangeInclusive<u8>) -> Self {
        ids.collect()
    }
}

impl FromIterator<u8> for Ids {
    fn from_iter<T: IntoIterator<Item = u8>>(ids: T) -> Self {
        ids.into_iter().fold(Self::default(), |mut all, id| {
            all.insert(id);
            all
        })
    }
}
