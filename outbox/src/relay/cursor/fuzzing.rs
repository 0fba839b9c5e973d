//! Fuzzing of the cursor: what is done, and what of it is saved.

use std::{collections::BTreeSet, ops::Range};

use super::{Cursor, CursorRow, Position, bounds, ranges};

/// Against the obvious model, the set of the ids that are open: the cursor has just these, and what is
/// saved of it has all of them. Three bytes are a step: what is done, the first id, and how many.
///
/// # Panics
/// If it is not so.
pub fn cursor(bytes: &[u8]) {
    let mut position = Position::default();
    let (mut last_id, mut open) = (0, BTreeSet::new());
    for step in bytes.chunks_exact(3) {
        let first = i64::from(step[1]).max(1);
        let ids = first..first + i64::from(step[2] % 16);
        match step[0] % 4 {
            // None is passed that is not there.
            _ if ids.is_empty() => continue,
            0 | 1 => {
                position.pass_all(ids.clone());
                open.extend(last_id + 1..ids.start);
                open.retain(|id| !ids.contains(id));
                last_id = last_id.max(ids.end - 1);
            }
            2 => {
                position.abandon(ids.clone());
                open.retain(|id| !ids.contains(id));
            }
            _ => {
                position.reopen(ids.clone());
                open.extend(ids.filter(|id| *id <= last_id));
            }
        }
        assert_eq!(position.last_id(), last_id);
        assert!(is_in_order(position.gaps()));
        assert_eq!(position.gaps().flatten().collect::<BTreeSet<_>>(), open);
        assert_eq!(saved(&position), position);
        let limit = usize::from(step[0]);
        let joined = position.gaps_at_most(limit);
        assert!(joined.len() <= limit.max(1) && is_in_order(joined.iter().cloned()));
        assert!(
            open.iter()
                .all(|id| joined.iter().any(|gap| gap.contains(id)))
        );
    }
}

/// Neither empty nor touching each other.
fn is_in_order(gaps: impl Iterator<Item = Range<i64>>) -> bool {
    let mut end = 0;
    let mut gaps = gaps;
    gaps.all(|gap| {
        let is_behind = gap.start > end && gap.start < gap.end;
        end = gap.end;
        is_behind
    })
}

fn saved(position: &Position) -> Position {
    let gaps = ranges(position);
    assert!(gaps.iter().all(|gap| bounds(gap).is_some()));
    let row = CursorRow {
        last_id: position.last_id(),
        gaps,
        last_event_id: None,
        stream_sequence: 0,
        stream_event_id: None,
    };
    Cursor::from(row).position
}

#[cfg(test)]
mod tests {
    #[test]
    fn cursors_survive_fuzzing() {
        testkit::fuzzing::replay("cursor", super::cursor);
    }
}
