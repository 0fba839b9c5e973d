//! The stream that a copy is rebuilt from, and whether it holds every user.

use anyhow::{bail, ensure};
use async_nats::{
    datetime::DateTime,
    jetstream::{
        Context,
        stream::{Info, Stream},
    },
};
use service_runtime::nats::stream::{Incarnations, StreamMetadata};

pub(super) struct Source {
    stream: Stream,
    /// Tells this stream from another one that was created under its name.
    created: DateTime,
    /// Tells that messages were replaced by others.
    incarnations: Incarnations,
    /// Whether it need not be known to hold every user.
    force: bool,
}

impl Source {
    /// # Errors
    /// If it is not known to hold every user, unless forced.
    pub(super) async fn open(jetstream: &Context, name: &str, force: bool) -> anyhow::Result<Self> {
        let stream = jetstream.get_stream(name).await?;
        let info = stream.cached_info();
        if !force {
            ensure_complete(info)?;
        }
        Ok(Self {
            created: info.created,
            incarnations: StreamMetadata::of(info).incarnations,
            stream,
            force,
        })
    }

    /// When the first message that it has was stored.
    pub(super) fn began_at(&self) -> chrono::DateTime<chrono::Utc> {
        let first = self.stream.cached_info().state.first_timestamp;
        chrono::DateTime::from_timestamp(first.unix_timestamp(), 0).unwrap_or_default()
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// # Errors
    /// If the stream is another one by now, or has turned out to have lost events, or others stand where
    /// some were read, up to `passed`.
    pub(super) async fn ensure_same(&self, passed: u64) -> anyhow::Result<()> {
        let info = self.stream.get_info().await?;
        ensure!(
            info.created == self.created,
            "the stream was created again during the rebuild: run `user-service republish --all`, \
             then this again"
        );
        let metadata = StreamMetadata::of(&info);
        ensure!(
            metadata.incarnations == self.incarnations && info.state.last_sequence >= passed,
            "messages of the stream were replaced during the rebuild: run this again"
        );
        if !self.force && metadata.complete_from.is_none() {
            bail!("the stream has lost events during the rebuild; {INCOMPLETE}");
        }
        Ok(())
    }

    /// # Errors
    /// If events from `sequence` on have expired.
    pub(super) async fn ensure_kept(&self, sequence: u64) -> anyhow::Result<()> {
        let first = self.stream.get_info().await?.state.first_sequence;
        ensure!(
            self.force || first <= sequence,
            "events from sequence {sequence} to {first} expired before they were read; {INCOMPLETE}"
        );
        Ok(())
    }
}

const INCOMPLETE: &str = "run `user-service republish --all`, then this again";

fn ensure_complete(info: &Info) -> anyhow::Result<()> {
    let first = info.state.first_sequence;
    match StreamMetadata::of(info).complete_from {
        None => bail!("the stream is not known to hold every user; {INCOMPLETE}"),
        Some(needed) if first > needed => bail!(
            "the stream begins at sequence {first}, and users are missing unless it is read from \
             {needed} on; {INCOMPLETE}"
        ),
        Some(_) => Ok(()),
    }
}
