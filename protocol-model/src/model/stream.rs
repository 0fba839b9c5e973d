//! `JetStream`: a stream with a window in which it recognizes repeats by their message ids, and the
//! metadata that tell readers where it went on after a loss.

use crate::model::{Action, State, ids::Ids};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    /// The event id: never given out twice.
    pub(crate) number: u8,
    /// Its place in the ledger.
    pub(crate) id: u8,
    pub(crate) key: u8,
    pub(crate) version: u8,
    pub(crate) deletes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Stream {
    /// By their sequences, from 1 on; `None`: lost.
    messages: Vec<Option<Event>>,
    /// The duplicate window: where the message of each event number stands, 0 if it is not in it.
    window: [u8; Ids::END as usize],
    /// Where each incarnation began, in the metadata.
    pub(crate) incarnations: Vec<u8>,
    /// Every event that was ever stored.
    pub(crate) acknowledged: Ids,
    /// Whether an event came for the first time after a later one of its aggregate.
    pub(crate) is_out_of_order: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ack {
    pub(crate) sequence: u8,
    pub(crate) is_duplicate: bool,
}

impl Stream {
    pub(crate) fn end(&self) -> u8 {
        u8::try_from(self.messages.len()).expect("few messages")
    }

    /// The sequence of the first message, or of the next one if there is none.
    pub(crate) fn first(&self) -> u8 {
        let first = (1..=self.end()).find(|it| self.get(*it).is_some());
        first.unwrap_or(self.end() + 1)
    }

    pub(crate) fn get(&self, sequence: u8) -> Option<Event> {
        *self.messages.get(usize::from(sequence).checked_sub(1)?)?
    }

    pub(crate) fn has(&self, event: u8) -> bool {
        self.events().any(|it| it.number == event)
    }

    /// The sequences that hold nothing any more.
    pub(crate) fn missing(&self) -> Ids {
        let sequences = 1..=self.end();
        sequences.filter(|it| self.get(*it).is_none()).collect()
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.messages.iter().flatten()
    }
}

/// Under its own message id, or under another one because the stream has lost the first.
pub(crate) fn publish(state: &mut State, event: Event, has_new_id: bool) -> Ack {
    let is_known = state.database.has(event);
    let stream = &mut state.stream;
    let known_at = stream.window[usize::from(event.number)];
    if !has_new_id && known_at > 0 {
        return Ack {
            sequence: known_at,
            is_duplicate: true,
        };
    }
    let is_first = !stream.acknowledged.contains(event.number);
    // What a restore has undone may come late from a relay of before. It counts once it is looked up, and
    // its aggregate restated.
    let (database, looked_up_to) = (&state.database, state.database.looked_up_to);
    let is_later = |(it, sequence): (&Option<Event>, u8)| {
        it.is_some_and(|it| {
            let is_later = it.key == event.key && it.version >= event.version;
            is_later && (sequence <= looked_up_to || database.has(it))
        })
    };
    let is_late = is_first && is_known && stream.messages.iter().zip(1..).any(is_later);
    stream.is_out_of_order |= is_late;
    stream.acknowledged.insert(event.number);
    stream.messages.push(Some(event));
    let sequence = stream.end();
    if !has_new_id {
        stream.window[usize::from(event.number)] = sequence;
    }
    Ack {
        sequence,
        is_duplicate: false,
    }
}

pub(crate) fn faults(state: &State, actions: &mut Vec<Action>) {
    let (stream, left) = (&state.stream, &state.left);
    if left.lost_tails > 0 {
        actions.extend((1..=stream.end()).map(|messages| Action::LoseTail { messages }));
    }
    if left.lost_in_the_middle > 0 {
        let there = (1..=stream.end()).filter(|it| stream.get(*it).is_some());
        actions.extend(there.map(|sequence| Action::LoseMessageOfStream { sequence }));
    }
    if left.forgotten_duplicates > 0 && stream.window.iter().any(|it| *it > 0) {
        actions.push(Action::ForgetDuplicates);
    }
    if left.late_messages > 0 {
        let late = state.late_messages.iter();
        actions.extend(late.map(|it| Action::ArriveLate { number: it.number }));
    }
}

pub(crate) fn arrive_late(state: &mut State, number: u8) {
    state.left.late_messages -= 1;
    let index = (state.late_messages.iter()).position(|it| it.number == number);
    if let Some(index) = index {
        let event = state.late_messages.remove(index);
        publish(state, event, false);
    }
}

/// What was acknowledged before it was on the disk: the server starts with less. It knows of no message
/// id that it does not have.
pub(crate) fn lose_tail(state: &mut State, messages: u8) {
    state.left.lost_tails -= 1;
    let stream = &mut state.stream;
    let end = stream.end() - messages;
    stream.messages.truncate(end.into());
    for sequence in &mut stream.window {
        if *sequence > end {
            *sequence = 0;
        }
    }
    if !state.left.has_old_server {
        state.consumer.server_started(end);
    }
}

/// Deleted or damaged. The window still has its message id.
pub(crate) fn lose(state: &mut State, sequence: u8) {
    state.left.lost_in_the_middle -= 1;
    state.stream.messages[usize::from(sequence) - 1] = None;
}

pub(crate) fn forget_duplicates(state: &mut State) {
    state.left.forgotten_duplicates -= 1;
    state.stream.window = Default::default();
}
