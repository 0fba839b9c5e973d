//! `GET /dead-letters`: what waits for an operator. The bytes themselves and the full reason, which
//! may quote them, are left to the command line, since they may be personal.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use event_consumer::{
    Connection,
    dead_letters::{DeadLetter, DeadLetters},
};
use serde::Serialize;
use service_runtime::{
    nats::{ConsumerName, Topic},
    page::{Page, PageParameters},
    problem::{Kind, Problem},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::category::Category;

/// Where the dead letters are, the topic of the events that they were, and who rejected them.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) connection: Connection,
    pub(crate) topic: Topic,
    pub(crate) consumer: ConsumerName,
}

/// A dead letter, without its bytes.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
struct Summary {
    /// Its place among the dead letters.
    sequence: u64,
    reason: Category,
    set_aside_at: String,
    /// The stream that it came from.
    stream: String,
    stream_sequence: Option<u64>,
    /// The size of its payload.
    bytes: usize,
}

pub(crate) fn router() -> OpenApiRouter<Source> {
    OpenApiRouter::new().routes(routes!(list))
}

/// List the events that could not be applied, the oldest first, page by page
///
/// Only those that this service rejected. A page may hold fewer than asked for; `Link` leads on.
#[utoipa::path(
    get, path = "/dead-letters", tag = "dead letters",
    params(PageParameters),
    responses((status = 200, description = "A page", body = Vec<Summary>, headers(("Link"))))
)]
async fn list(State(source): State<Source>, page: Page) -> Response {
    let Some(jetstream) = source.connection.jetstream() else {
        return unavailable();
    };
    let after = u64::try_from(page.after).unwrap_or_default();
    let letters = DeadLetters::new(jetstream, source.topic, source.consumer);
    match letters.list(after, page.limit.into(), Summary::from).await {
        Ok(found) => {
            let last = found.letters.last().filter(|_| found.is_cut);
            // JetStream counts from 1, and never as far as the sign.
            let next = last.map(|letter| letter.sequence.cast_signed());
            page.respond_up_to(&found.letters, next)
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(error, "the dead letters can't be read");
            unavailable()
        }
    }
}

fn unavailable() -> Response {
    Problem::new(Kind::UNAVAILABLE)
        .detail("the dead letters can't be read at the moment")
        .retry_after(1)
        .into_response()
}

impl From<DeadLetter> for Summary {
    fn from(letter: DeadLetter) -> Self {
        Self {
            sequence: letter.sequence,
            bytes: letter.payload_bytes,
            reason: Category::parse(&letter.category),
            set_aside_at: letter.time,
            stream: letter.stream,
            stream_sequence: letter.stream_sequence,
        }
    }
}
