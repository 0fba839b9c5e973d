//! Whether relays that had lost the lease have moved a cursor. Their logs don't tell when their
//! statements took effect; but a cursor that the next owner found must contain what they had saved
//! before, unless somebody has moved it back.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::Guard;

/// Of one stream.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    epochs: BTreeMap<i64, Epoch>,
    /// Those whose predecessor was found to have saved too much.
    reported: BTreeSet<i64>,
}

#[derive(Debug, Default)]
struct Epoch {
    /// The database, and the cursor that its first session found.
    began: Option<(String, i64)>,
    saved: i64,
    has_moved_back: bool,
}

impl Epochs {
    pub(super) fn began(&mut self, epoch: i64, database: &str, last_id: i64) {
        let began = &mut self.epoch(epoch).began;
        began.get_or_insert_with(|| (database.to_owned(), last_id));
    }

    pub(super) fn saved(&mut self, epoch: i64, last_id: i64) {
        self.epoch(epoch).saved = last_id;
    }

    pub(super) fn moved_back(&mut self, epoch: i64) {
        self.epoch(epoch).has_moved_back = true;
    }

    fn epoch(&mut self, epoch: i64) -> &mut Epoch {
        self.epochs.entry(epoch).or_default()
    }

    /// Once all logs were read up to the same time: what an epoch has done may be read after the next one.
    pub(super) fn violations(&mut self) -> Vec<Violation> {
        let begun = self.epochs.iter().filter(|(_, it)| it.began.is_some());
        let begun: Vec<_> = begun.map(|(epoch, _)| *epoch).collect();
        let overtaken = begun.windows(2).filter_map(|pair| {
            let [earlier, later] = *pair else { return None };
            let is_new = !self.reported.contains(&later);
            Some((later, self.compare(earlier, later).filter(|_| is_new)?))
        });
        let overtaken: Vec<_> = overtaken.collect();
        self.reported
            .extend(overtaken.iter().map(|(later, _)| *later));
        overtaken
            .into_iter()
            .map(|(_, violation)| violation)
            .collect()
    }

    fn compare(&self, earlier: i64, later: i64) -> Option<Violation> {
        let mut between = self.epochs.range(earlier..=later);
        if between.any(|(_, it)| it.has_moved_back) {
            return None;
        }
        let (before, after) = (self.epochs.get(&earlier)?, self.epochs.get(&later)?);
        let (database, found) = after.began.as_ref()?;
        let is_same = before.began.as_ref().is_some_and(|it| it.0 == *database);
        (is_same && before.saved > *found).then(|| Violation {
            rule: Guard::EpochFence.about(),
            what: format!(
                "epoch {earlier} has saved {}, but epoch {later} has begun at {found}",
                before.saved
            ),
        })
    }
}
