//! How many dead letters a consumer has.

use std::collections::HashMap;

use anyhow::bail;
use async_nats::jetstream::{Context, ErrorCode, response::Response};
use serde::Deserialize;
use serde_json::json;
use service_runtime::nats::{ConsumerName, Topic};

use super::subjects;

/// What the server counts by subject: nothing is read.
///
/// # Errors
/// If `JetStream` does not answer.
pub(crate) async fn count(
    jetstream: &Context,
    source: &Topic,
    consumer: &ConsumerName,
) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Info {
        state: State,
    }
    #[derive(Deserialize)]
    struct State {
        #[serde(default)]
        subjects: Option<HashMap<String, u64>>,
    }
    let request = format!("STREAM.INFO.{}", source.dead_letters().stream);
    // Each consumer has one subject there.
    let all = json!({ "subjects_filter": ">" });
    match jetstream.request(request, &all).await? {
        Response::Ok(Info { state }) => {
            let counts = state.subjects.unwrap_or_default();
            let own = subjects(source, consumer);
            Ok(own.iter().filter_map(|it| counts.get(it)).sum())
        }
        Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(0),
        Response::Err { error } => bail!(error),
    }
}
