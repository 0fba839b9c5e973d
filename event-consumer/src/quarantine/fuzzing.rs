//! Fuzzing of the sweeps for messages with headers that the client can't read.

use std::collections::BTreeSet;

use super::Suspects;

/// Whatever the consumer acknowledges, and however short of time sweeps are: no pending message is left
/// out, and none comes twice in one sweep. Three bytes are a sweep: how many messages were stored before
/// it and acknowledged, how many it reaches, and which of these can't be set aside.
///
/// # Panics
/// If it is not so.
pub fn quarantine(bytes: &[u8]) {
    let mut suspects = Suspects::default();
    let (mut floor, mut last) = (0, 0);
    let mut done = BTreeSet::new();
    for step in bytes.chunks_exact(3) {
        let [stream, reach, failing] = [step[0], step[1], step[2]];
        if stream == u8::MAX {
            // The stream was replaced.
            (floor, last) = (0, last / 2);
            done.clear();
        } else {
            last += u64::from(stream & 0x0f);
            floor = (floor + u64::from(stream >> 4)).min(last);
        }
        sweep(&mut suspects, floor, last, usize::from(reach), |sequence| {
            let is_set_aside = failing == 0 || sequence % u64::from(failing) != 0;
            if is_set_aside {
                done.insert(sequence);
            }
            is_set_aside
        });
    }
    let mut seen = BTreeSet::new();
    sweep(&mut suspects, floor, last, usize::MAX, |sequence| {
        assert!(seen.insert(sequence), "{sequence} comes twice");
        true
    });
    let left_out: Vec<_> = (floor + 1..=last)
        .filter(|it| !done.contains(it) && !seen.contains(it))
        .collect();
    assert!(left_out.is_empty(), "{left_out:?} were left out");
}

fn sweep(
    suspects: &mut Suspects,
    floor: u64,
    last: u64,
    reach: usize,
    mut set_aside: impl FnMut(u64) -> bool,
) {
    let sequences = suspects.begin(floor, last).take(reach);
    let sequences: Vec<_> = sequences.collect();
    for sequence in sequences {
        assert!(
            (floor + 1..=last).contains(&sequence),
            "{sequence} is not pending"
        );
        let is_done = set_aside(sequence);
        suspects.checked(sequence, is_done);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sweeps_survive_fuzzing() {
        testkit::fuzzing::replay("quarantine", super::quarantine);
    }
}
