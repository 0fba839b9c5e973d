//! The body of an import as it comes, and how slowly it may.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt;
use service_runtime::{
    http,
    problem::{Kind, Problem},
};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

/// The minimum rate holds on average over this long.
const WINDOW: Duration = Duration::from_secs(10);

/// What a client may take for the next part of its body: a chunk, or the whole. Only the time counts
/// that is spent waiting for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes a second, without white space.
    pub(super) min_rate: u32,
    pub(super) timeout: Duration,
    pub(super) max_bytes: u64,
}

/// Why there is no more of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    Broken,
    /// It was spooled here and can't be read back.
    Unreadable,
    /// Below the minimum rate.
    Trickling(u32),
    TooLong(Duration),
    TooLarge(u64),
    Stopping,
}

impl End {
    pub(super) fn problem(&self) -> Problem {
        let too_slow = || Problem::new(Kind::BODY_TOO_SLOW);
        match self {
            Self::Whole | Self::Broken => {
                Problem::new(Kind::MALFORMED_BODY).detail("the body could not be read to its end")
            }
            Self::Unreadable => Problem::new(Kind::INTERNAL),
            Self::Trickling(rate) => too_slow().detail(format!(
                "fewer than {rate} bytes a second came over {} s, without white space",
                WINDOW.as_secs()
            )),
            Self::TooLong(timeout) => too_slow().detail(format!(
                "the next chunk of lines, or the whole of an all-or-nothing import, \
                 was not complete after {} s",
                timeout.as_secs_f32()
            )),
            Self::TooLarge(bytes) => Problem::new(Kind::BODY_TOO_LARGE).detail(format!(
                "an all-or-nothing import, or the blank and overlong lines of a chunk, \
                 must have at most {bytes} bytes"
            )),
            Self::Stopping => Problem::new(Kind::UNAVAILABLE)
                .detail(
                    "the service is stopping: send the import again under its Idempotency-Key, \
                     or without one the lines that have no result",
                )
                .retry_after(1),
        }
    }
}

/// Yields the body until it ends, its client is too slow, or the service stops.
#[derive(Debug)]
pub(super) struct Incoming {
    body: BodyDataStream,
    /// `None` if it no longer comes from the client.
    pace: Option<Pace>,
    shutdown: CancellationToken,
    /// Of the part that is being read.
    waited: Duration,
    bytes: u64,
    window_waited: Duration,
    window_bytes: u64,
}

impl Incoming {
    pub(super) fn from_client(body: Body, pace: Pace, shutdown: CancellationToken) -> Self {
        Self::new(body, Some(pace), shutdown)
    }

    pub(super) fn spooled(body: Body, shutdown: CancellationToken) -> Self {
        Self::new(body, None, shutdown)
    }

    fn new(body: Body, pace: Option<Pace>, shutdown: CancellationToken) -> Self {
        Self {
            body: body.into_data_stream(),
            pace,
            shutdown,
            waited: Duration::ZERO,
            bytes: 0,
            window_waited: Duration::ZERO,
            window_bytes: 0,
        }
    }

    /// The next part has all its time.
    pub(super) fn begin_part(&mut self) {
        self.waited = Duration::ZERO;
        self.bytes = 0;
    }

    /// What comes next. Loses nothing when it is dropped.
    pub(super) async fn next(&mut self) -> Result<Bytes, End> {
        let started = Instant::now();
        let patience = self.pace.map_or(Duration::MAX, |pace| {
            let of_window = WINDOW.saturating_sub(self.window_waited);
            pace.timeout.saturating_sub(self.waited).min(of_window)
        });
        let received = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Err(End::Stopping),
            received = time::timeout(patience, self.body.next()) => received,
        };
        let waited = started.elapsed();
        self.waited += waited;
        self.window_waited += waited;
        let bytes = match received {
            Ok(Some(Ok(bytes))) => bytes,
            Ok(Some(Err(_))) if self.pace.is_none() => return Err(End::Unreadable),
            Ok(Some(Err(_))) => return Err(End::Broken),
            Ok(None) => return Err(End::Whole),
            Err(_) => Bytes::new(),
        };
        self.check(&bytes)?;
        Ok(bytes)
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), End> {
        let Some(pace) = self.pace else {
            return Ok(());
        };
        self.bytes += bytes.len() as u64;
        self.window_bytes += bytes.iter().filter(|it| !it.is_ascii_whitespace()).count() as u64;
        if self.bytes > pace.max_bytes {
            return Err(End::TooLarge(pace.max_bytes));
        }
        if self.waited >= pace.timeout {
            return Err(End::TooLong(pace.timeout));
        }
        if self.window_waited >= WINDOW {
            if self.window_bytes < u64::from(pace.min_rate) * WINDOW.as_secs() {
                return Err(End::Trickling(pace.min_rate));
            }
            self.window_waited = Duration::ZERO;
            self.window_bytes = 0;
        }
        Ok(())
    }

    /// Reads some more of what a refused client is still sending.
    pub(super) async fn discard(&mut self) {
        http::discard(&mut self.body).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use tokio_util::sync::CancellationToken;

    use super::{End, Incoming, Pace, WINDOW};

    fn incoming() -> Incoming {
        let pace = Pace {
            min_rate: 10,
            timeout: 3 * WINDOW,
            max_bytes: 1000,
        };
        Incoming::from_client(Body::empty(), pace, CancellationToken::new())
    }

    fn wait(incoming: &mut Incoming, seconds: u64) {
        incoming.waited += Duration::from_secs(seconds);
        incoming.window_waited += Duration::from_secs(seconds);
    }

    #[test]
    fn white_space_does_not_count_for_the_minimum_rate() {
        let mut incoming = incoming();
        wait(&mut incoming, 9);
        assert_eq!(incoming.check(&[b'\n'; 200]), Ok(()));
        wait(&mut incoming, 1);
        assert_eq!(incoming.check(&[b' '; 200]), Err(End::Trickling(10)));
    }

    #[test]
    fn a_client_at_the_minimum_rate_goes_on_until_its_time_is_over() {
        let mut incoming = incoming();
        for _ in 0..2 {
            wait(&mut incoming, 10);
            assert_eq!(incoming.check(&[b'x'; 100]), Ok(()));
        }
        wait(&mut incoming, 10);
        assert_eq!(incoming.check(&[b'x'; 100]), Err(End::TooLong(3 * WINDOW)));
        incoming.begin_part();
        assert_eq!(incoming.check(&[b'x'; 100]), Ok(()));
        assert_eq!(incoming.check(&[b'x'; 1000]), Err(End::TooLarge(1000)));
    }
}
