//! A body of lines, read as it comes.

use bytes::{Buf, Bytes, BytesMut};
use service_runtime::problem::Problem;

use super::incoming::{End, Incoming};

/// The longest line: as much as a request for one user may have.
pub(super) const MAX_LINE_BYTES: usize = service_runtime::http::MAX_BODY_BYTES;
/// Some programs put it before the first line; it is not part of it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One line of the body, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1; blank lines count, but are left out.
    pub(super) number: u64,
    /// `None` if it was too long; then it was passed over.
    pub(super) text: Option<Bytes>,
}

/// Holds one line and what came with it.
#[derive(Debug)]
pub(super) struct Lines {
    incoming: Incoming,
    buffer: BytesMut,
    /// Up to here there is no end of line in the buffer.
    searched: usize,
    /// The line began in bytes that were thrown away.
    is_too_long: bool,
    number: u64,
    ended: Option<End>,
}

impl Lines {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            incoming,
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
    /// If the body ends before it is whole ([`End`]).
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Problem> {
        loop {
            while let Some(line) = self.take_line() {
                if !is_blank(&line) {
                    return Ok(Some(line));
                }
            }
            match &self.ended {
                None => self.receive().await,
                Some(End::Whole) => return Ok(None),
                Some(end) => return Err(end.problem()),
            }
        }
    }

    /// The chunk that the next lines belong to has all its time.
    pub(super) fn begin_part(&mut self) {
        self.incoming.begin_part();
    }

    /// Reads on without a use for it, for a while.
    pub(super) async fn discard(&mut self) {
        if self.ended.as_ref() != Some(&End::Whole) {
            self.incoming.discard().await;
        }
    }

    async fn receive(&mut self) {
        match self.incoming.next().await {
            Ok(bytes) => self.buffer.extend_from_slice(&bytes),
            Err(end) => self.ended = Some(end),
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
        // The mark may have to come off yet.
        if self.buffer.len() > MAX_LINE_BYTES + BYTE_ORDER_MARK.len() {
            self.buffer.clear();
            self.is_too_long = true;
        }
        self.searched = self.buffer.len();
        None
    }

    fn line(&mut self, mut text: Bytes) -> Line {
        self.number += 1;
        if self.number == 1 && text.starts_with(BYTE_ORDER_MARK) {
            text.advance(BYTE_ORDER_MARK.len());
        }
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

    use tokio_util::sync::CancellationToken;

    use super::{Incoming, Line, Lines, MAX_LINE_BYTES};

    async fn lines_of(chunks: Vec<Vec<u8>>) -> Vec<(u64, Option<Vec<u8>>)> {
        let chunks = chunks
            .into_iter()
            .map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
        let body = Body::from_stream(stream::iter(chunks));
        let mut lines = Lines::new(Incoming::spooled(body, CancellationToken::new()));
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
    async fn a_byte_order_mark_is_not_part_of_the_first_line() {
        let cut = vec![b"\xef\xbb".to_vec(), b"\xbfa\n\xef\xbb\xbfb".to_vec()];
        let expected = [
            (1, Some(b"a".to_vec())),
            (2, Some(b"\xef\xbb\xbfb".to_vec())),
        ];
        assert_eq!(lines_of(cut).await, expected);
        assert!(
            lines_of(vec![b"\xef\xbb\xbf\r\n".to_vec()])
                .await
                .is_empty()
        );
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
