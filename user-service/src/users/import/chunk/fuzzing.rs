//! Fuzzing of the lines of an import.

use std::collections::BTreeMap;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{Chunk, Chunks, Draft, Lines, MAX_BYTES, MAX_LINE_BYTES, MAX_LINES};
use crate::users::import::incoming::Incoming;

/// Bytes that no text has stand for what would take too many: almost as much as a line may have, and
/// many lines.
const LONG: u8 = 0xc0;
const MANY: u8 = 0xc1;
const MAX_EXPANDED: usize = 3 * 1024 * 1024;

/// Whatever a body holds and however it arrives, each of its lines is there once, under its number, as a
/// user or refused; and the body is cut into the same chunks. The first byte says in which pieces it
/// arrives.
///
/// # Panics
/// If it is not so.
pub fn import(bytes: &[u8]) {
    let Some((piece, body)) = bytes.split_first() else {
        return;
    };
    let body = expand(body);
    let whole = chunks_of(vec![body.clone()]);
    let expected = lines(&body);
    let found = whole.iter().flat_map(|chunk| &chunk.lines);
    let found: BTreeMap<_, _> = found.map(|it| (it.number, it.text.as_deref())).collect();
    assert_eq!(found, expected);
    for chunk in &whole {
        is_divided(chunk);
    }
    let piece = usize::from(*piece) * body.len().div_ceil(256) + 1;
    let in_pieces = chunks_of(body.chunks(piece).map(Bytes::copy_from_slice).collect());
    let ends = |chunks: &[Chunk]| chunks.iter().map(|it| it.lines.clone()).collect::<Vec<_>>();
    assert!(ends(&whole) == ends(&in_pieces), "pieces of {piece} bytes");
}

fn expand(body: &[u8]) -> Bytes {
    let mut expanded = Vec::new();
    for &byte in body {
        match byte {
            LONG => expanded.resize(expanded.len() + MAX_LINE_BYTES - 2, b'x'),
            MANY => expanded.extend(b"{}\n".repeat(MAX_LINES - 1)),
            _ => expanded.push(byte),
        }
        if expanded.len() > MAX_EXPANDED {
            break;
        }
    }
    expanded.into()
}

fn chunks_of(pieces: Vec<Bytes>) -> Vec<Chunk> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime: Runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(stream::iter(pieces));
        let incoming = Incoming::spooled(body, CancellationToken::new());
        let mut chunks = Chunks::new(Lines::new(incoming), None);
        let mut found = Vec::new();
        while let Some(chunk) = chunks.next().await.expect("a whole body") {
            found.push(chunk);
        }
        found
    })
}

/// The lines as anybody would count them; `None` if one is too long.
fn lines(body: &[u8]) -> BTreeMap<u64, Option<&[u8]>> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let lines = (1..).zip(body.split(|byte| *byte == b'\n'));
    lines
        .map(|(number, line)| (number, (line.len() <= MAX_LINE_BYTES).then_some(line)))
        .filter(|(_, line)| line.is_none_or(|line| !line.trim_ascii().is_empty()))
        .collect()
}

/// Each line is a user or refused, and chunks are no longer than they may be.
fn is_divided(chunk: &Chunk) {
    let users = chunk.users.iter().map(|(line, _)| *line);
    let mut decided: Vec<_> = users
        .chain(chunk.refused.iter().map(|(line, _)| *line))
        .collect();
    decided.sort_unstable();
    let lines: Vec<_> = chunk.lines.iter().map(|line| line.number).collect();
    assert_eq!(decided, lines);
    let before_last = chunk
        .lines
        .split_last()
        .map_or(&[][..], |(_, before)| before);
    let bytes: usize = before_last
        .iter()
        .filter_map(|it| it.text.as_ref())
        .map(Bytes::len)
        .sum();
    assert!(lines.len() <= MAX_LINES && bytes < MAX_BYTES);
    for (number, user) in &chunk.users {
        let line = chunk.lines.iter().find(|line| line.number == *number);
        let text = line.and_then(|line| line.text.as_deref()).expect("a line");
        assert_eq!(Draft::parse(text).ok().as_ref(), Some(&user.draft));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn imports_survive_fuzzing() {
        testkit::fuzzing::replay("import", super::import);
    }
}
