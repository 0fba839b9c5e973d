//! What the server says of a stream.

use async_nats::jetstream::{
    Context, ErrorCode,
    context::{GetStreamError, GetStreamErrorKind},
    stream::Info,
};

use super::{
    STREAM_TIMEOUT,
    failure::{Failure, within},
};

/// `None` if there is no such stream.
pub(super) async fn find(jetstream: &Context, stream: &str) -> Result<Option<Info>, Failure> {
    let asking = async {
        match jetstream.get_stream(stream).await {
            Ok(stream) => Ok(Some(stream.cached_info().clone())),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(Failure::JetStream(error.to_string())),
        }
    };
    within(STREAM_TIMEOUT, asking).await
}

pub(super) async fn info(jetstream: &Context, stream: &str) -> Result<Info, Failure> {
    let found = find(jetstream, stream).await?;
    found.ok_or_else(|| Failure::JetStream(format!("there is no stream {stream}")))
}

/// A stream that never had a message says 0, where none can be.
pub(super) fn first_sequence(info: &Info) -> i64 {
    info.state.first_sequence.cast_signed().max(1)
}

fn is_not_found(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}
