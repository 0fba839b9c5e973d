//! Why `JetStream` did not take a message.

use std::error::Error as _;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
};

const TOO_LARGE: [ErrorCode; 2] = [
    ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
];

/// Whether the message was refused for its size, so that a smaller one may be taken.
pub(super) fn is_too_large(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::MaxPayloadExceeded
        || refusal(error).is_some_and(|code| TOO_LARGE.contains(&code))
}

/// Why `JetStream` refused the message, if it was that.
pub(super) fn refusal(error: &PublishError) -> Option<ErrorCode> {
    let refusal = error.source()?.downcast_ref::<jetstream::Error>()?;
    Some(refusal.error_code())
}
