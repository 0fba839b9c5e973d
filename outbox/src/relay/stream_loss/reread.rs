//! Reading the stream: which messages are there, whatever the server counts.
//!
//! A server may not notice that a part of its disk is damaged. It delivers what it can read and says
//! nothing of the rest. What was on its disk when it was started is read once, slowly.

use std::{ops::RangeInclusive, time::Duration};

use async_nats::jetstream::{Context, stream::Info};
use postgres_pool::Pool;
use tokio::{sync::Mutex, time::sleep};

use super::{missing::unknown, store};
use crate::relay::{
    failure::Failure,
    look::Sight,
    stored_message::each,
    stream_info::{first_sequence, info},
};

/// Messages that are read in one go, and the rest after it: at most some 10,000 a second.
const CHUNK: i64 = 500;
const REST: Duration = Duration::from_millis(50);
/// After which what was absent is read again.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How far it is, since this relay is active: sessions end meanwhile.
#[derive(Debug, Default)]
pub(in crate::relay) struct Reread(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    /// The server that is asked, and the stream's leader.
    server: String,
    leader: Option<String>,
    /// All below it was read.
    next: i64,
    absent: Vec<i64>,
    is_done: bool,
}

impl Reread {
    /// The stream could not be had. If its leader is not the server that the client is connected to, it may have
    /// been started again without a word.
    pub(in crate::relay) async fn doubt(&self, jetstream: &Context) {
        let mut progress = self.0.lock().await;
        let connected = jetstream.client().server_info().server_name;
        if progress.leader.as_ref().is_some_and(|it| *it != connected) {
            *progress = Progress::default();
        }
    }

    /// Sequences that can't be read and are not known for it. Empty if there is nothing new to read.
    pub(super) async fn missing(
        &self,
        pool: &Pool,
        jetstream: &Context,
        stream: &str,
        sight: &Sight,
    ) -> Result<Vec<RangeInclusive<i64>>, Failure> {
        let mut progress = self.0.lock().await;
        let (server, leader) = (server(jetstream), leader(&sight.info));
        if progress.server != server || progress.leader != leader {
            *progress = Progress {
                server,
                leader,
                ..Progress::default()
            };
        }
        if progress.is_done {
            return Ok(Vec::new());
        }
        let tail = sight.saved.tail.sequence;
        progress.next = progress.next.max(first_sequence(&sight.info));
        while progress.next <= tail {
            let chunk = progress.next..=tail.min(progress.next + CHUNK - 1);
            let end = *chunk.end();
            let absent = absent(jetstream, stream, chunk).await?;
            progress.absent.extend(absent);
            progress.next = end + 1;
            sleep(REST).await;
        }
        let known = store::missing(pool, stream).await?;
        let mut missing = unknown(&single(&progress.absent), tail, &known);
        if !missing.is_empty() {
            // A server that is starting or stopping says so of messages that it has.
            sleep(SECOND_LOOK).await;
            let mut still_absent = Vec::new();
            for range in missing {
                still_absent.extend(absent(jetstream, stream, range).await?);
            }
            let info_after = info(jetstream, stream).await?;
            let is_same = progress.server == self::server(jetstream)
                && progress.leader == self::leader(&info_after);
            if !is_same {
                return Ok(Vec::new());
            }
            // What has expired meanwhile is not missing.
            let first = first_sequence(&info_after);
            still_absent.retain(|it| *it >= first);
            missing = unknown(&single(&still_absent), tail, &known);
            progress.absent = still_absent;
        }
        progress.is_done = missing.is_empty();
        Ok(missing)
    }
}

/// The messages may be others on another one, or after its start.
fn server(jetstream: &Context) -> String {
    jetstream.client().server_info().server_id
}

/// `None` without a cluster.
fn leader(info: &Info) -> Option<String> {
    info.cluster.as_ref()?.leader.clone()
}

async fn absent(
    jetstream: &Context,
    stream: &str,
    sequences: RangeInclusive<i64>,
) -> Result<Vec<i64>, Failure> {
    let mut absent = Vec::new();
    each(jetstream, stream, sequences, |sequence, found| {
        if found.is_none() {
            absent.push(sequence);
        }
    })
    .await?;
    Ok(absent)
}

fn single(sequences: &[i64]) -> Vec<RangeInclusive<i64>> {
    sequences.iter().map(|it| *it..=*it).collect()
}
