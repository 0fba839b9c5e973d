//! Whether relays that had lost the lease have moved a cursor. Their logs don't tell when their
//! statements took effect; but a cursor that the next owner found must contain what they had saved
//! before, unless somebody has moved it back.

use std::collections::BTreeMap;

use super::Violation;
use crate::Guard;

/// Of one stream, by epoch.
#[derive(Debug, Default)]
pub(super) struct Epochs(BTreeMap<i64, Epoch>);

#[derive(Debug, Default)]
struct Epoch {
    /// The database, and the cursor that its first session found.
    began: Option<(String, i64)>,
    saved: i64,
    has_moved_back: bool,
}

impl Epochs {
    pub(super) fn began(&mut self, epoch: i64, database: &str, last_id: i64) -> Option<Violation> {
        let began = &mut self.0.entry(epoch).or_default().began;
        if began.is_some() {
            return None;
        }
        *began = Some((database.to_owned(), last_id));
        let mut earlier = self.0.range(..epoch).rev();
        let (earlier, _) = earlier.find(|(_, it)| it.began.is_some())?;
        self.compare(*earlier, epoch)
    }

    pub(super) fn saved(&mut self, epoch: i64, last_id: i64) -> Option<Violation> {
        self.0.entry(epoch).or_default().saved = last_id;
        let mut later = self.0.range(epoch + 1..);
        let (later, _) = later.find(|(_, it)| it.began.is_some())?;
        self.compare(epoch, *later)
    }

    pub(super) fn moved_back(&mut self, epoch: i64) {
        self.0.entry(epoch).or_default().has_moved_back = true;
    }

    fn compare(&self, earlier: i64, later: i64) -> Option<Violation> {
        let mut between = self.0.range(earlier..=later);
        if between.any(|(_, it)| it.has_moved_back) {
            return None;
        }
        let (before, after) = (self.0.get(&earlier)?, self.0.get(&later)?);
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
