//! Incarnations of a stream: one begins whenever its relay moves back to an earlier sequence,
//! because the stream has lost what stood above it. Other messages may stand there since.

/// As many are kept; readers that have seen none of them start over.
const MOST: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    pub number: u64,
    /// The messages up to this sequence are those of the incarnation before.
    pub sequence: u64,
}

/// The newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incarnations(Vec<Incarnation>);

impl Incarnations {
    /// Of the newest; 0 before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.first().map_or(0, |it| it.number)
    }

    /// The relay has moved back to this sequence. Numbers that are not above those that are there
    /// begin nothing.
    pub fn begin(&mut self, incarnation: Incarnation) {
        if incarnation.number > self.number() {
            self.0.insert(0, incarnation);
            self.0.truncate(MOST);
        }
    }

    /// Up to where the messages are the same as in the incarnation that a reader has seen; `None` if
    /// it has seen the newest. 0 if nothing is known of its own.
    #[must_use]
    pub fn common_up_to(&self, seen: u64) -> Option<u64> {
        if seen == self.number() {
            return None;
        }
        // 0 is listed nowhere: it is known as long as no number has been dropped.
        let is_known = match seen {
            0 => self.0.len() < MOST,
            seen => self.0.iter().any(|it| it.number == seen),
        };
        let newer = self.0.iter().take_while(|it| it.number > seen);
        let lowest = newer.map(|it| it.sequence).min();
        Some(lowest.filter(|_| is_known).unwrap_or_default())
    }

    pub(super) fn parse(text: &str) -> Self {
        let parse = |entry: &str| {
            let (number, sequence) = entry.split_once(' ')?;
            Some(Incarnation {
                number: number.parse().ok()?,
                sequence: sequence.parse().ok()?,
            })
        };
        Self(text.split(',').filter_map(parse).collect())
    }

    pub(super) fn to_text(&self) -> Option<String> {
        let entries = self.0.iter();
        let entries: Vec<_> = entries
            .map(|it| format!("{} {}", it.number, it.sequence))
            .collect();
        (!entries.is_empty()).then(|| entries.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::{Incarnation, Incarnations, MOST};

    fn incarnations(of: &[(u64, u64)]) -> Incarnations {
        let mut incarnations = Incarnations::default();
        for &(number, sequence) in of {
            incarnations.begin(Incarnation { number, sequence });
        }
        incarnations
    }

    #[test]
    fn a_reader_goes_back_to_the_lowest_sequence_of_those_that_it_has_not_seen() {
        let incarnations = incarnations(&[(1, 40), (2, 10), (3, 70)]);
        assert_eq!(incarnations.common_up_to(3), None);
        assert_eq!(incarnations.common_up_to(2), Some(70));
        assert_eq!(incarnations.common_up_to(1), Some(10));
        assert_eq!(incarnations.common_up_to(0), Some(10));
    }

    #[test]
    fn a_reader_of_whose_incarnation_nothing_is_known_starts_over() {
        let some = incarnations(&[(5, 40), (6, 50)]);
        assert_eq!(some.common_up_to(0), Some(40));
        assert_eq!(some.common_up_to(4), Some(0));
        assert_eq!(some.common_up_to(9), Some(0), "one from the future");
        assert_eq!(Incarnations::default().common_up_to(0), None);
        assert_eq!(Incarnations::default().common_up_to(3), Some(0));
        let many: Vec<_> = (1..=2 * MOST as u64).map(|it| (it, 100)).collect();
        let many = incarnations(&many);
        assert_eq!(many.common_up_to(MOST as u64 + 1), Some(100));
        assert_eq!(many.common_up_to(MOST as u64), Some(0));
        assert_eq!(many.common_up_to(0), Some(0));
    }

    #[test]
    fn numbers_only_grow() {
        let mut some = incarnations(&[(5, 40)]);
        some.begin(Incarnation {
            number: 5,
            sequence: 1,
        });
        assert_eq!(some, incarnations(&[(5, 40)]));
    }
}
