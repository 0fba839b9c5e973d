//! A body of lines, read as it comes.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use service_runtime::problem::{Kind, Problem};
use tokio::time;

/// The longest line: as much as a request for one user may have.
pub(super) const MAX_LINE_BYTES: usize = service_runtime::http::MAX_BODY_BYTES;
/// How long a client may send nothing.
const MAX_SILENCE: Duration = Duration::from_secs(10);
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// One line of the body, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1; blank lines count, but are left out.
    pub(super) number: u64,
    /// `None` if it was too long; then it was passed over.
    pub(super) text: Option<Bytes>,
}

/// How the body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
    Silent,
}

impl End {
    fn problem(self) -> Problem {
        match self {
            Self::Silent => Problem::new(Kind::BODY_TOO_SLOW)
                .detail(format!("nothing came for {} s", MAX_SILENCE.as_secs())),
            Self::Whole | Self::Broken => {
                Problem::new(Kind::MALFORMED_BODY).detail("the body could not be read to its end")
            }
        }
    }
}

/// Holds one line and what came with it.
#[derive(Debug)]
pub(super) struct Lines {
    body: BodyDataStream,
    buffer: BytesMut,
    /// Up to here there is no end of line in the buffer.
    searched: usize,
    /// The line began in bytes that were thrown away.
    is_too_long: bool,
    number: u64,
    ended: Option<End>,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body: body.into_data_stream(),
            buffer: BytesMut::new(),
            searched: 0,
            is_too_long: false,
            number: 0,
            ended: None,
        }
    }

    /// The next line that is not blank; `None` at the end. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// 400 if the body ends before it is whole, 408 if nothing comes for too long.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Problem> {
        loop {
            while let Some(line) = self.take_line() {
                if !is_blank(&line) {
                    return Ok(Some(line));
                }
            }
            match self.ended {
                None => self.receive().await,
                Some(End::Whole) => return Ok(None),
                Some(end) => return Err(end.problem()),
            }
        }
    }

    /// Reads on without a use for it, until the end or [`MAX_DISCARDED_BYTES`].
    pub(super) async fn discard(&mut self) {
        let mut discarded = 0;
        while self.ended.is_none() && discarded < MAX_DISCARDED_BYTES {
            self.receive().await;
            discarded += self.buffer.len();
            self.buffer.clear();
        }
    }

    async fn receive(&mut self) {
        match time::timeout(MAX_SILENCE, self.body.next()).await {
            Ok(Some(Ok(bytes))) => self.buffer.extend_from_slice(&bytes),
            Ok(None) => self.ended = Some(End::Whole),
            Ok(Some(Err(_))) => self.ended = Some(End::Broken),
            Err(_) => self.ended = Some(End::Silent),
        }
    }

    fn take_line(&mut self) -> Option<Line> {
        let end = memchr::memchr(b'\n', &self.buffer[self.searched..]);
        let Some(end) = end.map(|at| self.searched + at) else {
            return self.take_unfinished();
        };
        let text = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        Some(self.line(text))
    }

    /// At the end of the body what is left is a line; before, one that grows too long is let go.
    fn take_unfinished(&mut self) -> Option<Line> {
        if self.ended == Some(End::Whole) && (!self.buffer.is_empty() || self.is_too_long) {
            let text = self.buffer.split().freeze();
            return Some(self.line(text));
        }
        if self.buffer.len() > MAX_LINE_BYTES {
            self.buffer.clear();
            self.is_too_long = true;
        }
        self.searched = self.buffer.len();
        None
    }

    fn line(&mut self, text: Bytes) -> Line {
        self.number += 1;
        self.searched = 0;
        let is_too_long = std::mem::take(&mut self.is_too_long) || text.len() > MAX_LINE_BYTES;
        Line {
            number: self.number,
            text: (!is_too_long).then_some(text),
        }
    }
}

fn is_blank(line: &Line) -> bool {
    line.text
        .as_ref()
        .is_some_and(|text| text.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bytes::Bytes;
    use futures::stream;
    use proptest::prelude::*;

    use super::{Line, Lines, MAX_LINE_BYTES};

    async fn lines_of(chunks: Vec<Vec<u8>>) -> Vec<(u64, Option<Vec<u8>>)> {
        let chunks = chunks
            .into_iter()
            .map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
        let mut lines = Lines::new(Body::from_stream(stream::iter(chunks)));
        let mut found = Vec::new();
        while let Some(Line { number, text }) = lines.next().await.expect("a whole body") {
            found.push((number, text.map(Vec::from)));
        }
        found
    }

    #[tokio::test]
    async fn blank_lines_count_but_are_left_out() {
        let found = lines_of(vec![b"a\r\n\n \nb".to_vec()]).await;
        assert_eq!(
            found,
            [(1, Some(b"a\r".to_vec())), (4, Some(b"b".to_vec()))]
        );
        assert!(lines_of(vec![]).await.is_empty());
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_costs_only_itself() {
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        let rest = [long.clone(), long.clone(), b"\nb\n".to_vec(), long].to_vec();
        let found = lines_of([vec![b"a\n".to_vec()], rest].concat()).await;
        let expected = [
            (1, Some(b"a".to_vec())),
            (2, None),
            (3, Some(b"b".to_vec())),
            (4, None),
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn how_the_body_is_cut_makes_no_difference(
            chunks in prop::collection::vec(prop::collection::vec(
                prop_oneof![Just(b'\n'), Just(b' '), any::<u8>()], 0..20), 0..20),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("a runtime");
            let whole = chunks.concat();
            prop_assert_eq!(
                runtime.block_on(lines_of(chunks)),
                runtime.block_on(lines_of(vec![whole]))
            );
        }
    }
}
