//! Random changes of inputs.

use fastrand::Rng;

/// Longer inputs find nothing that shorter ones would not, only later.
const MAX_BYTES: usize = 4096;
const MAX_STEPS: usize = 4;
/// What parsers tend to treat in a way of its own.
const TOKENS: [&[u8]; 22] = [
    b"\"",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"0",
    b"-1",
    b"1e999",
    b"9223372036854775807",
    b"18446744073709551616",
    b"\r\n",
    b"\n",
    b" ",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
];

/// One of the inputs, changed in a few steps.
pub(super) fn change(random: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..random.usize(1..=MAX_STEPS) {
        step(random, corpus, &mut input);
    }
    input.truncate(MAX_BYTES);
    input
}

fn step(random: &mut Rng, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = random.usize(..=input.len());
    let part = at..(at + random.usize(..16)).min(input.len());
    match random.u8(..6) {
        0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
        1 if at < input.len() => input[at] = random.u8(..),
        2 => drop(input.drain(part)),
        3 => {
            let again = input[part].to_vec();
            input.splice(at..at, again);
        }
        4 => {
            let other = &corpus[random.usize(..corpus.len())];
            let from = random.usize(..=other.len());
            input.splice(part, other[from..].iter().copied());
        }
        _ => {
            let token = TOKENS[random.usize(..TOKENS.len())];
            input.splice(part, token.iter().copied());
        }
    }
}
