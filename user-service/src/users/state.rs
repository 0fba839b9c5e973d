//! What the handlers of users work with.

use axum::http::HeaderMap;
use outbox::Written;
use postgres_pool::Pool;
use service_runtime::{etag::IfMatch, problem::Problem};

use super::creation::Creation;
use crate::problems;

/// Shared by all requests for users, except imports. Behind an `Arc`, because every layer of the HTTP
/// server makes a copy for each request.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    /// For changes.
    pub(crate) pool: Pool,
    pub(crate) reads: Pool,
    pub(crate) creation: Creation,
    /// Raised after each change, so that it is published at once.
    pub(crate) written: Written,
    /// Whether a change has to say which version it is meant for.
    pub(crate) require_if_match: bool,
}

impl Users {
    /// The versions that a change may meet; `None` if any.
    pub(super) fn expected_versions(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<Vec<i64>>, Problem> {
        match IfMatch::from_headers(headers) {
            IfMatch::Absent if self.require_if_match => {
                Err(Problem::new(problems::VERSION_REQUIRED)
                    .detail("say with If-Match which version is to be changed"))
            }
            IfMatch::Absent | IfMatch::Any => Ok(None),
            IfMatch::OneOf(versions) => Ok(Some(versions)),
        }
    }
}
