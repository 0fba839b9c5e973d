//! From where on the messages of the stream are enough to build a whole copy.
//!
//! The relay knows and writes it into the stream's metadata; nobody else can tell. A stream that
//! was lost and created again begins at sequence 1 as well, and lacks what the outbox had dropped.

use async_nats::jetstream::stream::{Config, Info};

const KEY: &str = "complete-from";

/// The sequence that the stream is complete from; `None` if that is not known.
///
/// It counts for the very stream that it was written for: one that was created from a saved
/// configuration has the metadata of the other and another time of creation.
#[must_use]
pub fn complete_from(info: &Info) -> Option<u64> {
    let (sequence, created) = info.config.metadata.get(KEY)?.split_once(' ')?;
    let is_of_this_stream = created == created_at(info);
    sequence.parse().ok().filter(|_| is_of_this_stream)
}

/// The stream's configuration with this in its metadata; `None` if it is there already.
#[must_use]
pub fn with_complete_from(info: &Info, sequence: Option<u64>) -> Option<Config> {
    let wanted = sequence.map(|sequence| format!("{sequence} {}", created_at(info)));
    if info.config.metadata.get(KEY) == wanted.as_ref() {
        return None;
    }
    let mut config = info.config.clone();
    match wanted {
        Some(wanted) => config.metadata.insert(KEY.to_owned(), wanted),
        None => config.metadata.remove(KEY),
    };
    Some(config)
}

fn created_at(info: &Info) -> String {
    info.created.unix_timestamp_nanos().to_string()
}
