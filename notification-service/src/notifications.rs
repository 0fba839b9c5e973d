//! Reading the copy.

mod error;
mod list;
mod one;
mod stream;

use std::time::Duration;

use mongodb::{Collection, bson::RawDocumentBuf};
use service_runtime::http::{PerClientLimit, Routes};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{config::ReaderLimits, live::Live};

/// How long a read may take; MongoDB ends it itself shortly before.
const READ_DEADLINE: Duration = Duration::from_secs(5);
const MAX_TIME: Duration = Duration::from_secs(4);

/// What the handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    copy: Collection<RawDocumentBuf>,
    live: Live,
    followers: PerClientLimit,
    waiting: PerClientLimit,
}

impl Reader {
    pub(crate) fn new(copy: Collection<RawDocumentBuf>, live: Live, limits: &ReaderLimits) -> Self {
        Self {
            copy,
            live,
            followers: limits.followers(),
            waiting: limits.waiting(),
        }
    }
}

pub(crate) fn routes() -> Routes<Reader> {
    Routes {
        bounded: OpenApiRouter::new()
            .routes(routes!(list::list))
            .routes(routes!(one::get)),
        streaming: OpenApiRouter::new().routes(routes!(stream::follow)),
        ..Routes::default()
    }
}
