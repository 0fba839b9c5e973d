//! An import in one transaction: all lines, or none.

use axum::response::Response;
use service_runtime::problem::{Kind, Problem};

use super::{Import, chunk::Chunks, respond, results::Summary};
use crate::{
    database::Connection,
    idempotency::{Hasher, Once},
    users::once::OnceError,
};

pub(super) async fn run(import: &Import, chunks: &mut Chunks) -> Result<Response, Problem> {
    let mut hasher = Hasher::new(b"POST /users/import?mode=all-or-nothing");
    let mut transaction = import.users.pool.begin().await.map_err(OnceError::from)?;
    let summary = match &import.key {
        None => write_all(import, chunks, &mut hasher, &mut transaction).await?,
        Some(key) => {
            let once = Once { key, part: 0 };
            let earlier = once
                .begin(&mut transaction)
                .await
                .map_err(OnceError::from)?;
            if let Some(earlier) = earlier {
                while let Some(chunk) = chunks.next().await? {
                    chunk.add_to(&mut hasher);
                }
                let summary: Summary =
                    earlier.outcome(&hasher.finish()).map_err(OnceError::from)?;
                return Ok(respond(summary.to_line()));
            }
            let summary = write_all(import, chunks, &mut hasher, &mut transaction).await?;
            let fingerprint = hasher.finish();
            let noted = once.finish(&mut transaction, &fingerprint, &summary);
            noted.await.map_err(OnceError::from)?;
            summary
        }
    };
    transaction.commit().await.map_err(OnceError::from)?;
    import.users.written.raise();
    Ok(respond(summary.to_line()))
}

/// Stops at the first chunk with a line that can't be written, and tells of all of its lines.
async fn write_all(
    import: &Import,
    chunks: &mut Chunks,
    hasher: &mut Hasher,
    transaction: &mut Connection,
) -> Result<Summary, Problem> {
    let mut summary = Summary::default();
    while let Some(chunk) = chunks.next().await? {
        chunk.add_to(hasher);
        let outcomes = import.create(&mut *transaction, chunk).await?;
        summary.add(&outcomes);
        let faults: Vec<_> = (outcomes.into_iter())
            .filter_map(|(line, outcome)| Some((line, outcome.err()?)))
            .collect();
        if !faults.is_empty() {
            return Err(Problem::new(Kind::IMPORT_REFUSED)
                .detail("nothing was imported: see lines")
                .lines(faults));
        }
    }
    Ok(summary)
}
