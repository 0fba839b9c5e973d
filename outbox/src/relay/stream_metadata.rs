//! The only way in which the relay changes a stream's metadata: one change at a time, so that none
//! undoes another.

use async_nats::jetstream::Context;
use service_runtime::nats::stream::StreamMetadata;
use tokio::sync::Mutex;

use super::{
    STREAM_TIMEOUT,
    failure::{Failure, within},
    stream_info,
};

pub(super) struct MetadataWriter {
    jetstream: Context,
    stream: String,
    is_writing: Mutex<()>,
}

impl MetadataWriter {
    pub(super) fn new(jetstream: Context, stream: String) -> Self {
        Self {
            jetstream,
            stream,
            is_writing: Mutex::new(()),
        }
    }

    /// As it is now.
    pub(super) async fn read(&self) -> Result<StreamMetadata, Failure> {
        let info = stream_info::info(&self.jetstream, &self.stream).await?;
        Ok(StreamMetadata::of(&info))
    }

    /// Changes it; whether there was anything to change.
    pub(super) async fn change(
        &self,
        change: impl FnOnce(&mut StreamMetadata),
    ) -> Result<bool, Failure> {
        let _one_at_a_time = self.is_writing.lock().await;
        let changing = async {
            let info = stream_info::info(&self.jetstream, &self.stream).await?;
            let mut metadata = StreamMetadata::of(&info);
            change(&mut metadata);
            let Some(config) = metadata.config(&info) else {
                return Ok::<_, Failure>(false);
            };
            let updated = self.jetstream.update_stream(config).await;
            updated.map_err(|error| Failure::JetStream(error.to_string()))?;
            Ok(true)
        };
        within(STREAM_TIMEOUT, changing).await
    }
}
