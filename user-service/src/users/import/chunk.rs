//! Lines that are written together.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use std::{collections::HashSet, mem};

use bytes::Bytes;
use postgres_pool::Transaction;
use service_runtime::problem::Problem;

use super::{
    lines::{Line, Lines, MAX_LINE_BYTES},
    results::LineResult,
};
use crate::{
    idempotency::Hasher,
    users::{
        draft::Draft,
        store::{self, NewUser, StoreError},
    },
};

/// A chunk ends with the line that reaches one of these. Nothing else decides: the same body is
/// cut the same way each time, which repeats under an idempotency key rely on.
const MAX_LINES: usize = 1000;
const MAX_BYTES: usize = 1024 * 1024;

/// Some lines in a row: what they ask for, and what is wrong with the others. Of two lines with one
/// address the first has it.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    lines: Vec<Line>,
    bytes: usize,
    emails: HashSet<String>,
    users: Vec<(u64, NewUser)>,
    refused: Vec<(u64, Problem)>,
}

impl Chunk {
    /// Parses the line at once: here it costs no time, because a write is under way.
    fn push(&mut self, line: Line, event_headers: Option<&str>) {
        self.bytes += line.text.as_ref().map_or(0, Bytes::len);
        match parse(&line) {
            Ok(draft) if self.emails.insert(draft.email.normal().to_owned()) => {
                let user = NewUser {
                    draft,
                    event_headers: event_headers.map(str::to_owned),
                };
                self.users.push((line.number, user));
            }
            Ok(_) => (self.refused).push((line.number, StoreError::EmailTaken.into())),
            Err(problem) => self.refused.push((line.number, problem)),
        }
        self.lines.push(line);
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= MAX_LINES || self.bytes >= MAX_BYTES
    }

    pub(super) fn last_line(&self) -> Option<u64> {
        self.lines.last().map(|line| line.number)
    }

    /// Creates its users; what became of each of its lines, in their order. Can be repeated if the
    /// transaction is rolled back.
    pub(super) async fn create(
        &self,
        transaction: &mut Transaction,
    ) -> Result<Vec<LineResult>, StoreError> {
        let users: Vec<_> = self.users.iter().map(|(_, user)| user).collect();
        let answers = if users.is_empty() {
            Vec::new()
        } else {
            store::create(transaction, &users).await?
        };
        let lines = self.users.iter().map(|(line, _)| *line);
        let answers = (answers.into_iter()).map(|answer| answer.map_err(Problem::from));
        let refused = (self.refused.iter()).map(|(line, problem)| (*line, Err(problem.clone())));
        let mut results: Vec<_> = lines.zip(answers).chain(refused).collect();
        results.sort_unstable_by_key(|(line, _)| *line);
        Ok(results)
    }

    pub(super) fn add_to(&self, hasher: &mut Hasher) {
        for line in &self.lines {
            // No line is an end of line, so one that was too long is told from all others.
            hasher.add(line.text.as_deref().unwrap_or(b"\n"));
        }
    }
}

fn parse(line: &Line) -> Result<Draft, Problem> {
    match &line.text {
        Some(text) => Draft::parse(text),
        None => Err(super::too_large(MAX_LINE_BYTES)),
    }
}

/// Cuts a body into chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    lines: Lines,
    /// Of their events.
    event_headers: Option<String>,
    begun: Chunk,
    has_ended: bool,
}

impl Chunks {
    pub(super) fn new(lines: Lines, event_headers: Option<String>) -> Self {
        Self {
            lines,
            event_headers,
            begun: Chunk::default(),
            has_ended: false,
        }
    }

    /// Reads until the next chunk is whole. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// If the body can't be read on.
    pub(super) async fn fill(&mut self) -> Result<(), Problem> {
        while !self.has_ended && !self.begun.is_full() {
            match self.lines.next().await? {
                Some(line) => self.begun.push(line, self.event_headers.as_deref()),
                None => self.has_ended = true,
            }
        }
        Ok(())
    }

    /// The next chunk, `None` at the end.
    ///
    /// # Errors
    /// If the body can't be read on; what came of the chunk is not used.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk>, Problem> {
        self.fill().await?;
        self.lines.begin_part();
        Ok(Some(mem::take(&mut self.begun)).filter(|chunk| !chunk.lines.is_empty()))
    }

    /// Reads some more of what a refused client is still sending, lest its connection breaks
    /// before it has the answer.
    pub(super) async fn discard(&mut self) {
        self.lines.discard().await;
    }
}
