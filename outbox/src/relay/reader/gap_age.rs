//! For how long the reader has awaited the id that is missing for longest.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

const RESOLUTION: Duration = Duration::from_secs(1);
/// With more, every second one is dropped: then some ages are too short.
const MOST: usize = 600;

/// Up to which id had been read, and when. What is missing below was missing by then.
#[derive(Debug, Default)]
pub(super) struct GapAge(VecDeque<(i64, Instant)>);

impl GapAge {
    /// All is read up to `last_id`, but for what is missing from `lowest` on.
    pub(super) fn note(&mut self, last_id: i64, lowest: Option<i64>) {
        let Some(lowest) = lowest else {
            self.0.clear();
            return;
        };
        while self.0.front().is_some_and(|(up_to, _)| *up_to < lowest) {
            self.0.pop_front();
        }
        let is_due = (self.0.back())
            .is_none_or(|(up_to, at)| *up_to < last_id && at.elapsed() >= RESOLUTION);
        if is_due {
            self.0.push_back((last_id, Instant::now()));
        }
        if self.0.len() > MOST {
            let mut number = 0;
            self.0.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
    }

    pub(super) fn get(&self) -> Duration {
        let oldest = self.0.front();
        oldest.map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{GapAge, MOST};

    fn age_of(marks: &[(i64, u64)]) -> GapAge {
        let at = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        let marks = marks.iter();
        GapAge(
            marks
                .map(|(id, ago)| (*id, at(*ago).expect("a time")))
                .collect(),
        )
    }

    #[test]
    fn the_age_is_that_of_the_lowest_gap_that_is_still_open() {
        let mut age = GapAge::default();
        age.note(10, None);
        assert_eq!(age.get(), Duration::ZERO);
        let mut age = age_of(&[(10, 50), (20, 40), (30, 5)]);
        age.note(31, Some(7));
        assert_eq!(age.get().as_secs(), 50);
        age.note(32, Some(11));
        assert_eq!(age.get().as_secs(), 40);
        age.note(40, Some(38));
        assert!(age.get().as_secs() < 5, "it is new");
        age.note(41, None);
        assert_eq!(age.get(), Duration::ZERO);
    }

    #[test]
    fn it_keeps_a_bounded_number_of_marks_and_the_oldest_of_them() {
        let marks: Vec<_> = (1..=MOST).map(|it| (it as i64, 5000 - it as u64)).collect();
        let mut age = age_of(&marks);
        age.note(10_000, Some(1));
        assert!(age.0.len() <= MOST);
        assert_eq!(age.get().as_secs(), 4999);
    }
}
