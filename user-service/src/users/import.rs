//! `POST /users/import`: bulk import, one user per line.
//!
//! The body is read as it comes and written in chunks, each in one transaction; the results are
//! sent while the next chunk is read. So memory is bounded, and a client that goes away leaves
//! whole chunks. Under an idempotency key each chunk is done once: an import that broke off is
//! sent again from its beginning, and goes on where it was.
//!
//! No import holds a connection to Postgres while it waits for its client.

mod all_or_nothing;
mod chunk;
mod incoming;
mod limits;
mod lines;
mod results;
mod spool;

#[cfg(any(test, fuzzing))]
pub(super) use self::chunk::fuzzing;

use std::{convert::Infallible, pin::pin, sync::Arc};

use axum::{
    body::Body,
    extract::{Query, Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use postgres_pool::retry_conflicts;
use serde::Deserialize;
use service_runtime::{
    http::{ClientAddress, ClientPermit},
    problem::{Kind, Problem},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use self::limits::Imports;
use self::{
    chunk::{Chunk, Chunks},
    lines::Lines,
    results::{ChunkResults, Summary},
};
use super::{
    body,
    error::KeyedWriteError,
    request::{bad_parameter, event_headers, idempotency_key},
};
use crate::idempotency::{Fingerprint, Hasher, Key, Operation};

const NDJSON: &str = "application/x-ndjson";

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Bad lines cost only themselves.
    #[default]
    EachLine,
    /// One bad line costs all.
    AllOrNothing,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Parameters {
    #[serde(default)]
    #[param(inline)]
    mode: Mode,
}

pub(super) fn router() -> OpenApiRouter<Arc<Imports>> {
    OpenApiRouter::new().routes(routes!(import))
}

/// Import users, one per line
///
/// Each line of the body is a user (newline-delimited JSON, lines of at most 64 KiB). Each line of
/// the answer tells of one of them, in their order and while the body is still being sent:
/// `{"line":1,"id":7,"version":1}` or `{"line":2,"problem":{…}}`. The last is
/// `{"done":{"created":1,"refused":1}}`, or `{"broken_off":{"line":3,"problem":{…}}}` if it ended
/// there. Nothing from that line on was written, with two exceptions. With a status of 500 or more the
/// database may have written lines that it could not answer for. With `request-in-progress` (409, under
/// an `Idempotency-Key`) another request is writing the same lines, or has just written them. A client
/// must read while it sends, and send without long pauses: white space and blank lines do not count.
/// With `mode=all-or-nothing` all are written in one transaction once the body is there whole, or none,
/// and only the last line is answered.
///
/// A byte order mark before the first line is skipped. Under an `Idempotency-Key` an import that
/// broke off is sent again from its beginning, goes on where it was, and tells what was written.
#[utoipa::path(
    post, path = "/users/import", tag = "users",
    params(Parameters, ("Idempotency-Key" = Option<String>, Header, pattern = "^([!#-~]{1,255}|\"[!#-~]{1,255}\")$"),
           ("traceparent" = Option<String>, Header), ("tracestate" = Option<String>, Header)),
    request_body(content = String, content_type = "application/x-ndjson",
                 example = "{\"name\":\"Ada\",\"email\":\"ada@example.com\"}\n"),
    responses(
        (status = 200, description = "What became of each line", body = String,
         content_type = "application/x-ndjson"),
        (status = 409),
    )
)]
async fn import(
    State(imports): State<Arc<Imports>>,
    client: ClientAddress,
    request: Request,
) -> Result<Response, Problem> {
    body::require(request.headers(), NDJSON)?;
    let parameters = Query::<Parameters>::try_from_uri(request.uri())
        .map_err(|_| bad_parameter("mode", "must be each-line or all-or-nothing"))?;
    let import = Import {
        key: idempotency_key(request.headers())?,
        event_headers: event_headers(request.headers()),
        _permit: imports.running.try_acquire(client)?,
        imports: Arc::clone(&imports),
    };
    match parameters.mode {
        Mode::EachLine => {
            let incoming = imports.chunk_by_chunk(request.into_body());
            let chunks = Chunks::new(Lines::new(incoming), import.event_headers.clone());
            EachLine::new(import, chunks).respond().await
        }
        Mode::AllOrNothing => {
            let _kept = imports.kept.try_acquire(client)?;
            all_or_nothing::run(&import, request.into_body()).await
        }
    }
}

struct Import {
    imports: Arc<Imports>,
    key: Option<Key>,
    event_headers: Option<String>,
    /// Until the last result is sent.
    _permit: ClientPermit,
}

struct EachLine {
    import: Import,
    chunks: Chunks,
    part: i32,
    /// The last line that is done.
    done: u64,
    summary: Summary,
    has_broken_off: bool,
}

/// A part of the answer, and whether another follows.
struct AnswerPart {
    bytes: Bytes,
    is_last: bool,
}

impl EachLine {
    fn new(import: Import, chunks: Chunks) -> Self {
        Self {
            import,
            chunks,
            part: 0,
            done: 0,
            summary: Summary::default(),
            has_broken_off: false,
        }
    }

    /// The first chunk decides on the status; what goes wrong later is told in a line.
    async fn respond(mut self) -> Result<Response, Problem> {
        let first = self.advance().await?;
        let rest = Some(self).filter(|_| !first.is_last);
        let rest = stream::unfold(rest, |running| async { running?.next().await });
        let parts = stream::once(std::future::ready(first.bytes)).chain(rest);
        Ok(respond(Body::from_stream(parts.map(Ok::<_, Infallible>))))
    }

    /// What comes after the first chunk.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        if self.has_broken_off {
            // A client that is still sending may not have read yet why.
            self.chunks.discard().await;
            return None;
        }
        match self.advance().await {
            Ok(part) => Some((part.bytes, Some(self).filter(|_| !part.is_last))),
            Err(problem) => {
                self.has_broken_off = true;
                let bytes = results::broken_off(self.done + 1, &problem);
                Some((bytes, Some(self)))
            }
        }
    }

    /// Writes the next chunk, or sums up.
    async fn advance(&mut self) -> Result<AnswerPart, Problem> {
        let Some(chunk) = self.chunks.next().await? else {
            return Ok(AnswerPart {
                bytes: self.summary.to_line(),
                is_last: true,
            });
        };
        let writing = self.import.write(&chunk, self.part);
        let results = while_reading(writing, &mut self.chunks).await?;
        self.import.imports.written.raise();
        self.part += 1;
        self.done = chunk.last_line().unwrap_or(self.done);
        self.summary.merge(results.summary);
        Ok(AnswerPart {
            bytes: results.lines.into(),
            is_last: false,
        })
    }
}

fn respond(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, NDJSON)], body.into()).into_response()
}

/// Reads ahead of the write, but no further than the next chunk. If that fails, it will fail again
/// when its turn comes.
async fn while_reading<T>(writing: impl Future<Output = T>, chunks: &mut Chunks) -> T {
    let mut writing = pin!(writing.fuse());
    tokio::select! {
        written = &mut writing => return written,
        _ = chunks.fill() => {}
    }
    writing.await
}

impl Import {
    /// One transaction for the chunk. The error comes with nothing written.
    async fn write(&self, chunk: &Chunk, part: i32) -> Result<ChunkResults, KeyedWriteError> {
        // For the write alone: a client that reads no results holds up no other.
        let permit = self.imports.chunk_writes.acquire().await;
        let _permit = permit.expect("nobody closes the semaphore");
        let Some(key) = &self.key else {
            let writing = async || {
                let mut transaction = self.imports.pool.begin().await?;
                let results = chunk.create(&mut transaction).await?;
                transaction.commit().await?;
                Ok(ChunkResults::new(&results))
            };
            return retry_conflicts(writing, KeyedWriteError::is_conflict).await;
        };
        let mut hasher = Hasher::new(b"POST /users/import");
        chunk.add_to(&mut hasher);
        let fingerprint = hasher.finish();
        let operation = Operation { key, part };
        let writing = || self.write_once(operation, &fingerprint, chunk);
        retry_conflicts(writing, KeyedWriteError::is_conflict).await
    }

    async fn write_once(
        &self,
        operation: Operation<'_>,
        fingerprint: &Fingerprint,
        chunk: &Chunk,
    ) -> Result<ChunkResults, KeyedWriteError> {
        let mut transaction = self.imports.pool.begin().await?;
        if let Some(stored) = operation.begin(&mut transaction).await? {
            return Ok(stored.outcome(fingerprint)?);
        }
        let results = ChunkResults::new(&chunk.create(&mut transaction).await?);
        operation
            .finish(&mut transaction, fingerprint, &results)
            .await?;
        transaction.commit().await?;
        Ok(results)
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::BODY_TOO_LARGE).detail(format!("the line must have at most {limit} bytes"))
}
