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

use std::{convert::Infallible, pin::pin, sync::Arc};

use axum::{
    body::Body,
    extract::{Query, Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use postgres_pool::Connection;
use serde::Deserialize;
use service_runtime::{
    http::{ClientAddress, ClientPermit},
    problem::{Kind, Problem},
};
use utoipa::{IntoParams, ToSchema};

pub(crate) use self::limits::Imports;
use self::{
    chunk::{Chunk, Chunks},
    lines::Lines,
    results::{Outcome, Summary, Written},
};
use super::{
    api::{Users, bad_parameter, traceparent},
    body,
    once::OnceError,
    store::{self, NewUser, StoreError},
};
use crate::idempotency::{Hasher, Key, Once};

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

/// Import users, one per line
///
/// Each line of the body is a user (newline-delimited JSON, lines of at most 64 KiB). Each line of
/// the answer tells of one of them, in their order and while the body is still being sent:
/// `{"line":1,"id":7,"version":1}` or `{"line":2,"problem":{…}}`. The last is
/// `{"done":{"created":1,"refused":1}}`, or `{"broken_off":{"line":3,"problem":{…}}}` if nothing
/// from that line on was written. A client must read while it sends, and send without long pauses:
/// white space and blank lines do not count. With `mode=all-or-nothing` all are written in one
/// transaction once the body is there whole, or none, and only the last line is answered.
///
/// A byte order mark before the first line is skipped. Under an `Idempotency-Key` an import that
/// broke off is sent again from its beginning, and goes on where it was.
#[utoipa::path(
    post, path = "/users/import", tag = "users",
    params(Parameters, ("Idempotency-Key" = Option<String>, Header),
           ("traceparent" = Option<String>, Header)),
    request_body(content = String, content_type = "application/x-ndjson",
                 example = "{\"name\":\"Ada\",\"email\":\"ada@example.com\"}\n"),
    responses(
        (status = 200, description = "What became of each line", body = String,
         content_type = "application/x-ndjson"),
        (status = 409),
    )
)]
pub(super) async fn import(
    State(users): State<Users>,
    client: ClientAddress,
    request: Request,
) -> Result<Response, Problem> {
    body::require(request.headers(), NDJSON)?;
    let parameters = Query::<Parameters>::try_from_uri(request.uri())
        .map_err(|_| bad_parameter("mode", "must be each-line or all-or-nothing"))?;
    let imports = Arc::clone(&users.imports);
    let import = Import {
        key: Key::from_headers(request.headers())?,
        traceparent: traceparent(request.headers()).map(str::to_owned),
        _permit: imports.running.try_acquire(client)?,
        users,
    };
    match parameters.mode {
        Mode::EachLine => {
            let incoming = imports.chunk_by_chunk(request.into_body());
            let chunks = Chunks::new(Lines::new(incoming));
            EachLine::new(import, chunks).respond().await
        }
        Mode::AllOrNothing => {
            let _kept = imports.kept.try_acquire(client)?;
            all_or_nothing::run(&import, request.into_body()).await
        }
    }
}

struct Import {
    users: Users,
    key: Option<Key>,
    traceparent: Option<String>,
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

/// What one step has to say, and whether another follows.
struct Step {
    said: Bytes,
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
        let first = match self.step().await {
            Ok(step) => step,
            Err(problem) => {
                self.chunks.discard().await;
                return Err(problem);
            }
        };
        let rest = Some(self).filter(|_| !first.is_last);
        let rest = stream::unfold(rest, |running| async { running?.next().await });
        let said = stream::once(std::future::ready(first.said)).chain(rest);
        Ok(respond(Body::from_stream(said.map(Ok::<_, Infallible>))))
    }

    /// What comes after the first chunk.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        if self.has_broken_off {
            // A client that is still sending may not have read yet why.
            self.chunks.discard().await;
            return None;
        }
        match self.step().await {
            Ok(step) => Some((step.said, Some(self).filter(|_| !step.is_last))),
            Err(problem) => {
                self.has_broken_off = true;
                let said = results::broken_off(self.done + 1, &problem);
                Some((said, Some(self)))
            }
        }
    }

    /// Writes the next chunk, or sums up.
    async fn step(&mut self) -> Result<Step, Problem> {
        let Some(chunk) = self.chunks.next().await? else {
            let said = self.summary.to_line();
            return Ok(Step {
                said,
                is_last: true,
            });
        };
        let last_line = chunk.last_line();
        let writing = self.import.write(chunk, self.part);
        let written = while_reading(writing, &mut self.chunks).await?;
        self.import.users.written.raise();
        self.part += 1;
        self.done = last_line.unwrap_or(self.done);
        self.summary.merge(written.summary);
        Ok(Step {
            said: written.results.into(),
            is_last: false,
        })
    }
}

fn respond(said: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, NDJSON)], said.into()).into_response()
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
    /// The error comes with nothing written.
    async fn write(&self, chunk: Chunk, part: i32) -> Result<Written, OnceError> {
        // For the write alone: a client that reads no results holds up no other.
        let permit = self.users.imports.chunk_writes.acquire().await;
        let _permit = permit.expect("nobody closes the semaphore");
        let Some(key) = &self.key else {
            let mut connection = self.users.pool.acquire().await?;
            let outcomes = self.create(&mut connection, chunk).await?;
            return Ok(Written::new(&outcomes));
        };
        let mut hasher = Hasher::new(b"POST /users/import");
        chunk.add_to(&mut hasher);
        let fingerprint = hasher.finish();
        let once = Once { key, part };
        let mut transaction = self.users.pool.begin().await?;
        if let Some(earlier) = once.begin(&mut transaction).await? {
            return Ok(earlier.outcome(&fingerprint)?);
        }
        let outcomes = self.create(&mut transaction, chunk).await?;
        let written = Written::new(&outcomes);
        let noted = once.finish(&mut transaction, &fingerprint, &written);
        noted.await?;
        transaction.commit().await?;
        Ok(written)
    }

    /// Creates the users of a chunk; what became of each of its lines, in their order.
    async fn create(&self, db: &mut Connection, chunk: Chunk) -> Result<Vec<Outcome>, StoreError> {
        let (lines, users): (Vec<_>, Vec<_>) = (chunk.drafts.into_iter())
            .map(|(line, draft)| {
                let traceparent = self.traceparent.clone();
                (line, NewUser { draft, traceparent })
            })
            .unzip();
        let answers = if users.is_empty() {
            Vec::new()
        } else {
            store::create(db, &users.iter().collect::<Vec<_>>()).await?
        };
        let answers = (answers.into_iter()).map(|answer| answer.map_err(Problem::from));
        let refused = (chunk.refused.into_iter()).map(|(line, problem)| (line, Err(problem)));
        let mut outcomes: Vec<_> = lines.into_iter().zip(answers).chain(refused).collect();
        outcomes.sort_unstable_by_key(|(line, _)| *line);
        Ok(outcomes)
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::BODY_TOO_LARGE).detail(format!("the line must have at most {limit} bytes"))
}
