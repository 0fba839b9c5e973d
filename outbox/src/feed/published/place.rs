//! How far a stream was read, and where to go on.

use async_nats::{datetime::DateTime, jetstream::stream::Info};

/// What the stream has stored meanwhile is told up to so many messages.
const MAX_BEHIND: u64 = 1_000;
/// After so many readers in a row that brought nothing the next one leaps over what it would read
/// first: it may be a message that costs the client its connection.
const MAX_FRUITLESS: u32 = 2;

/// Outlives the readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The sequence of the last message that was seen; `None`: the last that is there.
    after: Option<u64>,
    /// When the stream was created.
    created: Option<DateTime>,
    /// Readers in a row that brought nothing.
    fruitless: u32,
    skipped: u64,
}

impl Place {
    pub(super) fn at_the_end() -> Self {
        Self {
            after: None,
            created: None,
            fruitless: 0,
            skipped: 0,
        }
    }

    pub(super) fn at_the_beginning() -> Self {
        Self {
            after: Some(0),
            ..Self::at_the_end()
        }
    }

    /// Where the next reader of this stream is to begin.
    pub(super) fn start(&mut self, info: &Info) -> u64 {
        self.start_at(info.created, info.state.last_sequence)
    }

    fn start_at(&mut self, created: DateTime, last: u64) -> u64 {
        let is_replaced = self
            .created
            .replace(created)
            .is_some_and(|it| it != created);
        if is_replaced {
            self.fruitless = 0;
        }
        let after = match self.after {
            Some(_) if is_replaced => 0,
            // Its end was lost: what comes there now is new.
            Some(after) => after.min(last),
            None => last,
        };
        let least = if self.fruitless >= MAX_FRUITLESS {
            self.fruitless = 0;
            last
        } else {
            last.saturating_sub(MAX_BEHIND)
        };
        self.fruitless += 1;
        self.skip(least.saturating_sub(after));
        let after = after.max(least);
        self.after = Some(after);
        after + 1
    }

    pub(super) fn seen(&mut self, sequence: u64) {
        self.after = Some(sequence);
        self.fruitless = 0;
    }

    pub(super) fn skip(&mut self, messages: u64) {
        self.skipped += messages;
    }

    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use async_nats::datetime::DateTime;

    use super::{MAX_BEHIND, Place};

    fn created(second: i64) -> DateTime {
        DateTime::from_unix_timestamp(second).expect("a time")
    }

    #[test]
    fn a_reader_goes_on_where_the_last_one_was() {
        let mut place = Place::at_the_end();
        assert_eq!(place.start_at(created(1), 7), 8);
        place.seen(9);
        assert_eq!(place.start_at(created(1), 12), 10);
        assert_eq!(place.take_skipped(), 0);
    }

    #[test]
    fn of_a_long_absence_only_the_end_is_read() {
        let mut place = Place::at_the_end();
        place.start_at(created(1), 7);
        assert_eq!(
            place.start_at(created(1), 10 * MAX_BEHIND),
            9 * MAX_BEHIND + 1
        );
        assert_eq!(place.take_skipped(), 9 * MAX_BEHIND - 7);
    }

    #[test]
    fn a_stream_that_was_replaced_is_read_from_its_beginning_and_one_without_its_end_from_there() {
        let mut place = Place::at_the_end();
        place.start_at(created(1), 70);
        assert_eq!(place.start_at(created(1), 40), 41);
        assert_eq!(place.start_at(created(2), 50), 1);
        assert_eq!(Place::at_the_beginning().start_at(created(1), 5), 1);
    }

    #[test]
    fn what_ends_readers_again_and_again_is_leapt_over() {
        let mut place = Place::at_the_end();
        let starts = (0..4).map(|_| place.start_at(created(1), 3));
        assert_eq!(starts.collect::<Vec<_>>(), [4, 4, 4, 4]);
        place.seen(4);
        let starts = (0..3).map(|_| place.start_at(created(1), 9));
        assert_eq!(starts.collect::<Vec<_>>(), [5, 5, 10]);
        assert_eq!(place.take_skipped(), 5);
    }
}
