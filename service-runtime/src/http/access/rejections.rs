//! The log of rejected requests. Whoever guesses tokens can't flood it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{http::ClientAddress, metrics::REJECTED};

/// Why a request was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    NoToken,
    UnknownToken,
    InsufficientScope,
}

impl Reason {
    const ALL: [Self; 3] = [Self::NoToken, Self::UnknownToken, Self::InsufficientScope];

    fn label(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::UnknownToken => "unknown_token",
            Self::InsufficientScope => "insufficient_scope",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NoToken => "no bearer token",
            Self::UnknownToken => "unknown token",
            Self::InsufficientScope => "insufficient scope",
        }
    }
}

#[derive(Debug)]
pub(super) struct Rejections {
    /// For each reason that has been logged since the last sum, the rejections that followed.
    unlogged: Mutex<HashMap<Reason, u64>>,
    total: [metrics::Counter; Reason::ALL.len()],
}

impl Default for Rejections {
    fn default() -> Self {
        Self {
            unlogged: Mutex::default(),
            total: Reason::ALL.map(|reason| REJECTED.with([reason.label()])),
        }
    }
}

impl Rejections {
    /// Logs the first rejection for a reason, and counts the others until [`Self::sum_up`].
    pub(super) fn log(&self, client: ClientAddress, reason: Reason) {
        self.total[reason as usize].increment(1);
        let mut counts = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&reason) {
            *count += 1;
            return;
        }
        counts.insert(reason, 0);
        drop(counts);
        tracing::warn!(%client, reason = reason.text(), "rejected a request");
    }

    /// Logs how many were counted, and lets the next ones be logged again.
    pub(super) fn sum_up(&self) {
        let mut unlogged = self.unlogged.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = std::mem::take(&mut *unlogged);
        drop(unlogged);
        for (reason, requests) in counts.into_iter().filter(|(_, requests)| *requests > 0) {
            tracing::warn!(requests, reason = reason.text(), "rejected more requests");
        }
    }
}
