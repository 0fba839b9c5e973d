//! A stream of events: its settings, and what its metadata says of it.

mod metadata;
mod server_time;

use std::time::Duration;

use async_nats::jetstream::{
    Context,
    context::CreateStreamError,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};

pub use self::metadata::{
    Incarnation, Incarnations, LedgerIdentity, Refill, Refills, StreamMetadata,
};
pub use self::server_time::server_time;
use super::Topic;

/// How the stream keeps what it holds. Its owner, the relay, keeps it to this; a consumer that
/// comes first creates it with the defaults.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Copies of the stream in a NATS cluster: 1, 3 or 5.
    pub replicas: usize,
    /// How long an event stays. Readers that were away for longer need a republish.
    pub max_age: Duration,
    /// How long `JetStream` remembers message ids; above what a take-over and its retries need.
    pub duplicate_window: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            replicas: 1,
            max_age: Duration::from_hours(7 * 24),
            duplicate_window: Duration::from_mins(15),
        }
    }
}

impl StreamSettings {
    /// Writes these settings into a configuration, and leaves alone what they say nothing of: an
    /// operator may have set it.
    fn apply(&self, name: &str, subjects: Vec<String>, config: Config) -> Config {
        Config {
            name: name.to_owned(),
            subjects,
            // A full stream refuses what is new, and the relay waits. The other policy would
            // silently drop events that nobody has read yet.
            discard: DiscardPolicy::New,
            num_replicas: self.replicas,
            max_age: self.max_age,
            duplicate_window: self.duplicate_window,
            ..config
        }
    }

    fn new_config(&self, name: &str, subjects: Vec<String>) -> Config {
        let kind = Config {
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            ..Config::default()
        };
        self.apply(name, subjects, kind)
    }
}

/// Creates the stream or brings it up to date: for its owner.
///
/// # Errors
/// If `JetStream` can't be reached or refuses the settings.
pub async fn create_or_update(
    jetstream: &Context,
    topic: &Topic,
    settings: &StreamSettings,
) -> anyhow::Result<()> {
    keep(jetstream, &topic.stream, topic.subjects(), settings).await
}

/// The same for the stream of messages on `topic` that its consumers rejected. It captures the
/// subjects of all consumers; letters of earlier releases, on another subject, stay on it.
///
/// # Errors
/// If `JetStream` can't be reached or refuses the settings.
pub async fn create_or_update_dead_letters(
    jetstream: &Context,
    topic: &Topic,
    settings: &StreamSettings,
) -> anyhow::Result<()> {
    let Topic { stream, subject } = topic.dead_letters();
    keep(jetstream, &stream, vec![format!("{subject}.*")], settings).await
}

async fn keep(
    jetstream: &Context,
    name: &str,
    subjects: Vec<String>,
    settings: &StreamSettings,
) -> anyhow::Result<()> {
    let stream = jetstream
        .get_or_create_stream(settings.new_config(name, subjects.clone()))
        .await?;
    let info = stream.cached_info();
    let wanted = settings.apply(name, subjects, info.config.clone());
    if wanted != info.config {
        jetstream.update_stream(wanted).await?;
    }
    tracing::info!(
        stream = name,
        messages = info.state.messages,
        "stream is up to date"
    );
    Ok(())
}

/// The stream as it is, or a new one with default settings if there is none: for its readers,
/// who may come first but own nothing of it.
///
/// # Errors
/// If `JetStream` can't be reached or refuses the stream.
pub async fn get_or_create(
    jetstream: &Context,
    topic: &Topic,
) -> Result<Stream, CreateStreamError> {
    let config = StreamSettings::default().new_config(&topic.stream, topic.subjects());
    jetstream.get_or_create_stream(config).await
}
