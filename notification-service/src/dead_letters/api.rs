//! `/dead-letters`: what waits for an operator, who has an event published again or discards it. The
//! bytes themselves and the full reason, which may quote them, are left to the command line, since
//! they may be personal.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use event_consumer::{
    Connection,
    dead_letters::{DeadLetter, DeadLetters, Payload},
};
use serde::Serialize;
use service_runtime::{
    nats::{ConsumerName, Topic},
    number,
    page::{Page, PageParameters},
    problem::{FieldError, Kind, Problem},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::category::Category;
use crate::problems;

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

/// Where the event of a dead letter is now.
#[derive(Serialize, ToSchema)]
struct Replayed {
    /// Its new place on the stream.
    stream_sequence: u64,
}

pub(crate) fn router() -> OpenApiRouter<Source> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(retry))
        .routes(routes!(discard))
}

impl Source {
    /// # Errors
    /// If NATS was not reached yet.
    fn letters(self) -> Result<DeadLetters, Problem> {
        let jetstream = self.connection.jetstream().ok_or_else(unavailable)?;
        Ok(DeadLetters::new(jetstream, self.topic, self.consumer))
    }
}

/// List the events that could not be applied, the oldest first, page by page
///
/// Only those that this service rejected. A page may hold fewer than asked for; `Link` leads on.
#[utoipa::path(
    get, path = "/dead-letters", tag = "dead letters",
    params(PageParameters),
    responses((status = 200, description = "A page", body = Vec<Summary>, headers(("Link"))))
)]
async fn list(State(source): State<Source>, page: Page) -> Result<Response, Problem> {
    let after = u64::try_from(page.after).unwrap_or_default();
    let letters = source.letters()?;
    let listed = letters.list(after, page.limit.into(), Summary::from);
    let found = listed.await.map_err(|error| failed(&error))?;
    let last = found.letters.last().filter(|_| found.is_cut);
    // JetStream counts from 1, and never as far as the sign.
    let next = last.map(|letter| letter.sequence.cast_signed());
    Ok(page.respond_up_to(&found.letters, next))
}

/// Publish the event again, for this consumer alone, and forget the dead letter
///
/// For when what was wrong has been mended. If it can't be applied yet, it becomes another dead
/// letter; so it does if it is so old that its user may have been deleted and forgotten since. To repeat
/// this is harmless.
#[utoipa::path(
    post, path = "/dead-letters/{sequence}/retry", tag = "dead letters",
    params(("sequence" = u64, Path, minimum = 1)),
    responses((status = 200, description = "Published", body = Replayed),
              (status = 404), (status = 409)),
    security((), ("token" = ["repair"])),
)]
async fn retry(
    State(source): State<Source>,
    Path(sequence): Path<String>,
) -> Result<Json<Replayed>, Problem> {
    let letters = source.letters()?;
    let letter = find(&letters, &sequence).await?;
    if let Payload::Referenced = letter.payload {
        return Err(Problem::new(problems::ORIGINAL_GONE));
    }
    let dead_letter = letter.sequence;
    let replayed = letters.replay(letter).await;
    let stream_sequence = replayed.map_err(|error| failed(&error))?;
    tracing::info!(
        dead_letter,
        stream_sequence,
        "published a dead letter again"
    );
    Ok(Json(Replayed { stream_sequence }))
}

/// Forget a dead letter; its event will never be applied
#[utoipa::path(
    delete, path = "/dead-letters/{sequence}", tag = "dead letters",
    params(("sequence" = u64, Path, minimum = 1)),
    responses((status = 204, description = "Forgotten"), (status = 404)),
    security((), ("token" = ["repair"])),
)]
async fn discard(
    State(source): State<Source>,
    Path(sequence): Path<String>,
) -> Result<StatusCode, Problem> {
    let letters = source.letters()?;
    let letter = find(&letters, &sequence).await?;
    let dead_letter = letter.sequence;
    let discarded = letters.discard(letter).await;
    discarded.map_err(|error| failed(&error))?;
    tracing::info!(dead_letter, "discarded a dead letter");
    Ok(StatusCode::NO_CONTENT)
}

async fn find(letters: &DeadLetters, sequence: &str) -> Result<DeadLetter, Problem> {
    let Some(sequence) = number::parse(sequence).filter(|it| *it > 0) else {
        let error = FieldError::in_parameter("sequence", "must be a number from 1");
        return Err(Problem::new(Kind::INVALID_PARAMETER).errors(vec![error]));
    };
    let letter = letters.find(sequence).await;
    let letter = letter.map_err(|error| failed(&error))?;
    letter.ok_or_else(|| Problem::new(Kind::NOT_FOUND).detail("no such dead letter"))
}

fn failed(error: &anyhow::Error) -> Problem {
    let error = format!("{error:#}");
    tracing::warn!(error, "the dead letters can't be read or changed");
    unavailable()
}

fn unavailable() -> Problem {
    Problem::new(Kind::UNAVAILABLE)
        .detail("the dead letters can't be read or changed at the moment")
        .retry_after(1)
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
