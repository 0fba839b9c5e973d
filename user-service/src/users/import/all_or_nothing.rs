//! An import in one transaction: all lines, or none.
//!
//! The body is kept until it is whole. Only then does the transaction begin, so that it never waits
//! for the client.

use std::time::Duration;

use axum::{body::Body, response::Response};
use postgres_pool::Transaction;
use service_runtime::problem::{Kind, Problem};
use tokio::{sync::Semaphore, time::timeout};

use super::{Import, chunk::Chunks, lines::Lines, respond, results::Summary, spool};
use crate::{
    idempotency::{Hasher, Operation},
    problems,
    users::error::KeyedWriteError,
};

pub(super) async fn run(import: &Import, body: Body) -> Result<Response, Problem> {
    let imports = &import.imports;
    let mut incoming = imports.whole(body);
    let kept = spool::keep(&mut incoming, &imports.spool_directory).await?;
    let lines = Lines::new(imports.spooled(kept));
    let mut chunks = Chunks::new(lines, import.event_headers.clone());
    let limit = imports.settings.all_or_nothing_timeout;
    let summary = in_turn(&imports.whole_writes, limit, write(import, &mut chunks)).await?;
    Ok(respond(summary.to_line()))
}

/// Waits for a place, and then for what is written there: for each at most as long as the limit says.
async fn in_turn<T>(
    places: &Semaphore,
    limit: Duration,
    writing: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let place = timeout(limit, places.acquire()).await;
    let place = place.map_err(|_| no_place())?;
    let _place = place.expect("nobody closes the semaphore");
    let written = timeout(limit, writing).await;
    written.unwrap_or_else(|_| Err(took_too_long()))
}

fn no_place() -> Problem {
    Problem::new(Kind::UNAVAILABLE)
        .detail(
            "too many all-or-nothing imports wait to be written; nothing was written of this one",
        )
        .retry_after(30)
}

fn took_too_long() -> Problem {
    Problem::new(Kind::UNAVAILABLE)
        .detail("the import took longer than it may; send it in smaller parts")
        .retry_after(30)
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

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use axum::response::IntoResponse;
    use tokio::{join, sync::Semaphore, time::sleep};

    use super::in_turn;

    const LIMIT: Duration = Duration::from_secs(3);
    const MOST_OF_IT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn an_import_that_waited_for_its_place_has_all_its_time_to_be_written() {
        let places = Semaphore::new(1);
        let taken = places.acquire().await;
        let writing = in_turn(&places, LIMIT, async {
            sleep(MOST_OF_IT).await;
            Ok(())
        });
        let leaving = async {
            sleep(MOST_OF_IT).await;
            drop(taken);
        };
        let (written, ()) = join!(writing, leaving);
        assert!(written.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_place_nor_a_write_is_waited_for_without_end() {
        for places in [0, 1].map(Semaphore::new) {
            let written = in_turn::<()>(&places, LIMIT, pending()).await;
            let problem = written.expect_err("it has no end");
            assert_eq!(problem.into_response().status(), 503);
        }
    }
}
