//! An import in one transaction: all lines, or none.
//!
//! The body is kept until it is whole. Only then does the transaction begin, so that it never waits
//! for the client.

use axum::{body::Body, response::Response};
use postgres_pool::Transaction;
use service_runtime::problem::{Kind, Problem};
use tokio::time::{Instant, timeout_at};

use super::{Import, chunk::Chunks, lines::Lines, respond, results::Summary, spool};
use crate::{
    idempotency::{Hasher, Operation},
    problems,
    users::error::KeyedWriteError,
};

pub(super) async fn run(import: &Import, body: Body) -> Result<Response, Problem> {
    let imports = &import.imports;
    let deadline = Instant::now() + imports.settings.all_or_nothing_timeout;
    let mut incoming = imports.whole(body);
    let kept = match spool::keep(&mut incoming, &imports.spool_directory).await {
        Ok(kept) => kept,
        Err(problem) => {
            incoming.discard().await;
            return Err(problem);
        }
    };
    let writing = async {
        let permit = imports.whole_writes.acquire().await;
        let _permit = permit.expect("nobody closes the semaphore");
        let lines = Lines::new(imports.spooled(kept));
        let mut chunks = Chunks::new(lines, import.event_headers.clone());
        write(import, &mut chunks).await
    };
    let written = timeout_at(deadline, writing).await;
    let summary = written.unwrap_or_else(|_| Err(took_too_long()))?;
    Ok(respond(summary.to_line()))
}

async fn write(import: &Import, chunks: &mut Chunks) -> Result<Summary, Problem> {
    let mut hasher = Hasher::new(b"POST /users/import?mode=all-or-nothing");
    let mut transaction = import
        .imports
        .pool
        .begin()
        .await
        .map_err(KeyedWriteError::from)?;
    let operation = (import.key.as_ref()).map(|key| Operation { key, part: 0 });
    if let Some(operation) = operation {
        let stored = operation.begin(&mut transaction).await;
        if let Some(stored) = stored.map_err(KeyedWriteError::from)? {
            drop(transaction);
            while let Some(chunk) = chunks.next().await? {
                chunk.add_to(&mut hasher);
            }
            let summary = stored.outcome(&hasher.finish());
            return Ok(summary.map_err(KeyedWriteError::from)?);
        }
    }
    let summary = write_all(chunks, &mut hasher, &mut transaction).await?;
    if let Some(operation) = operation {
        let fingerprint = hasher.finish();
        let stored = operation.finish(&mut transaction, &fingerprint, &summary);
        stored.await.map_err(KeyedWriteError::from)?;
    }
    transaction.commit().await.map_err(KeyedWriteError::from)?;
    import.imports.written.raise();
    Ok(summary)
}

fn took_too_long() -> Problem {
    Problem::new(Kind::UNAVAILABLE)
        .detail("the import took longer than it may; send it in smaller parts")
        .retry_after(30)
}

/// Stops at the first chunk with a line that can't be written, and tells of all of its lines.
async fn write_all(
    chunks: &mut Chunks,
    hasher: &mut Hasher,
    transaction: &mut Transaction,
) -> Result<Summary, Problem> {
    let mut summary = Summary::default();
    while let Some(chunk) = chunks.next().await? {
        chunk.add_to(hasher);
        let results = chunk.create(transaction).await?;
        summary.add(&results);
        let faults: Vec<_> = (results.into_iter())
            .filter_map(|(line, result)| Some((line, result.err()?)))
            .collect();
        if !faults.is_empty() {
            return Err(Problem::new(problems::IMPORT_REFUSED)
                .detail("nothing was imported: see lines")
                .lines(faults));
        }
    }
    Ok(summary)
}
