//! Keeping the body of an import until it is whole.

use std::{io, path::Path};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream;
use service_runtime::problem::{Kind, Problem};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
    task,
};

use super::incoming::{End, Incoming};

/// What is larger goes into a file.
const MAX_BYTES_IN_MEMORY: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// The whole body, to be read again. A file has no name from the beginning, so nothing is left of it
/// however the process ends.
///
/// # Errors
/// If the body does not come whole, or there is no room for it.
pub(super) async fn keep(incoming: &mut Incoming, directory: &Path) -> Result<Body, Problem> {
    let mut memory = BytesMut::new();
    while memory.len() <= MAX_BYTES_IN_MEMORY {
        match incoming.next().await {
            Ok(bytes) => memory.extend_from_slice(&bytes),
            Err(End::Whole) => return Ok(Body::from(memory.freeze())),
            Err(end) => return Err(end.problem()),
        }
    }
    let directory = directory.to_owned();
    let create = move || tempfile::tempfile_in(directory);
    let file = task::spawn_blocking(create).await.map_err(io::Error::other);
    let file = file.flatten().map_err(|error| no_room(&error))?;
    keep_in_file(incoming, File::from_std(file), &memory.freeze()).await
}

async fn keep_in_file(
    incoming: &mut Incoming,
    mut file: File,
    begun: &[u8],
) -> Result<Body, Problem> {
    file.write_all(begun)
        .await
        .map_err(|error| no_room(&error))?;
    loop {
        match incoming.next().await {
            Ok(bytes) => {
                let written = file.write_all(&bytes).await;
                written.map_err(|error| no_room(&error))?;
            }
            Err(End::Whole) => break,
            Err(end) => return Err(end.problem()),
        }
    }
    // The file writes behind: only now is it known whether all went well.
    file.flush().await.map_err(|error| no_room(&error))?;
    file.rewind().await.map_err(|error| no_room(&error))?;
    Ok(Body::from_stream(stream::try_unfold(file, read)))
}

async fn read(mut file: File) -> io::Result<Option<(Bytes, File)>> {
    let mut bytes = BytesMut::with_capacity(READ_BYTES);
    match file.read_buf(&mut bytes).await {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some((bytes.freeze(), file))),
        Err(error) => {
            tracing::error!(%error, "could not read a spooled import");
            Err(error)
        }
    }
}

fn no_room(error: &io::Error) -> Problem {
    tracing::error!(%error, "could not spool an import");
    Problem::new(Kind::UNAVAILABLE)
        .detail("the service has no room to keep the import until it is whole; nothing was written")
        .retry_after(30)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{body::Body, response::IntoResponse};
    use tokio::fs::File;
    use tokio_util::sync::CancellationToken;

    use super::{keep, keep_in_file};
    use crate::users::import::incoming::{Incoming, Pace};

    fn incoming(body: Vec<u8>) -> Incoming {
        let pace = Pace {
            min_rate: 1,
            timeout: Duration::from_mins(1),
            max_bytes: 10_000_000,
        };
        Incoming::from_client(Body::from(body), pace, CancellationToken::new())
    }

    #[tokio::test]
    async fn a_body_is_kept_whole_in_memory_and_on_disk() {
        let directory = tempfile::tempdir().expect("a directory");
        for length in [0, 1000, 5_000_000] {
            let body = vec![b'x'; length];
            let kept = keep(&mut incoming(body.clone()), directory.path()).await;
            let kept = axum::body::to_bytes(kept.expect("a body"), usize::MAX).await;
            assert!(kept.expect("a body") == body, "{length} bytes");
            let mut files = directory.path().read_dir().expect("a directory");
            assert!(files.next().is_none(), "a file has a name");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told() {
        let full = File::options().write(true).open("/dev/full").await;
        let full = full.expect("the device that is always full");
        let kept = keep_in_file(&mut incoming(vec![b'x'; 5_000_000]), full, b"begun").await;
        let problem = kept.expect_err("there is no room");
        assert_eq!(problem.into_response().status(), 503);
    }
}
