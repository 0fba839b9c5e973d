//! The log of rejected requests. Whoever guesses tokens can't flood it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::http::ClientAddress;

/// Why a request was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    NoToken,
    UnknownToken,
    InsufficientScope,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::NoToken => "no bearer token",
            Self::UnknownToken => "unknown token",
            Self::InsufficientScope => "insufficient scope",
        }
    }
}

/// For each reason that has been logged since the last sum, the rejections that followed.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<HashMap<Reason, u64>>);

impl Rejections {
    /// Logs the first rejection for a reason, and counts the others until [`Self::sum_up`].
    pub(super) fn log(&self, client: ClientAddress, reason: Reason) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (reason, requests) in counts.into_iter().filter(|(_, requests)| *requests > 0) {
            tracing::warn!(requests, reason = reason.text(), "rejected more requests");
        }
    }
}
