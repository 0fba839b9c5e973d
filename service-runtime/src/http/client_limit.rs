//! Limits for what takes long: so much in total, and so much for each client.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::ClientAddress;
use crate::{
    metrics::REJECTED,
    problem::{Kind, Problem},
};

/// Counts what is in use, in total and by client address. Waits for nothing: what is above a limit
/// is refused at once, so that one client cannot take what all share.
#[derive(Debug, Clone)]
pub struct PerClientLimit(Arc<Limited>);

#[derive(Debug)]
struct Limited {
    /// For messages: what is limited, in the plural.
    what: &'static str,
    total: usize,
    per_client: usize,
    in_use: Mutex<InUse>,
    rejected: metrics::Counter,
}

#[derive(Debug, Default)]
struct InUse {
    total: usize,
    by_client: HashMap<ClientAddress, usize>,
}

/// Gives back what it counts when it is dropped.
#[derive(Debug)]
pub struct ClientPermit {
    limited: Arc<Limited>,
    client: ClientAddress,
    amount: usize,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    #[error("at most {limit} {what} are served at once")]
    Total { what: &'static str, limit: usize },
    #[error("at most {limit} {what} of one client are served at once")]
    Client { what: &'static str, limit: usize },
}

impl PerClientLimit {
    /// `what` names what is limited in the plural, such as "imports". A `per_client` above `total`
    /// means that one client may use all.
    #[must_use]
    pub fn new(what: &'static str, total: usize, per_client: usize) -> Self {
        Self(Arc::new(Limited {
            what,
            total,
            per_client,
            in_use: Mutex::default(),
            rejected: REJECTED.with([&what.replace(' ', "_")]),
        }))
    }

    /// # Errors
    /// If the client, or all clients together, have as much as they may.
    pub fn try_acquire(&self, client: ClientAddress) -> Result<ClientPermit, LimitReached> {
        self.try_acquire_many(client, 1)
    }

    pub(super) fn try_acquire_many(
        &self,
        client: ClientAddress,
        amount: usize,
    ) -> Result<ClientPermit, LimitReached> {
        let taken = self.take(client, amount);
        if taken.is_err() {
            self.0.rejected.increment(1);
        }
        taken
    }

    fn take(&self, client: ClientAddress, amount: usize) -> Result<ClientPermit, LimitReached> {
        let limited = &self.0;
        let mut in_use = limited.in_use();
        let of_client = in_use.by_client.get(&client).map_or(0, |used| *used);
        let what = limited.what;
        if in_use.total + amount > limited.total {
            let limit = limited.total;
            return Err(LimitReached::Total { what, limit });
        }
        if of_client + amount > limited.per_client {
            let limit = limited.per_client;
            return Err(LimitReached::Client { what, limit });
        }
        in_use.total += amount;
        in_use.by_client.insert(client, of_client + amount);
        Ok(ClientPermit {
            limited: Arc::clone(limited),
            client,
            amount,
        })
    }
}

impl Limited {
    /// Every change is complete before the lock is released, so a panic elsewhere does no harm.
    fn in_use(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let mut in_use = self.limited.in_use();
        in_use.total -= self.amount;
        let of_client = in_use.by_client.get_mut(&self.client);
        let left = of_client.map_or(0, |used| {
            *used -= self.amount;
            *used
        });
        if left == 0 {
            in_use.by_client.remove(&self.client);
        }
    }
}

/// A client above its own limit is told so (429); otherwise the service is overloaded (503).
impl From<LimitReached> for Problem {
    fn from(reached: LimitReached) -> Self {
        let kind = match reached {
            LimitReached::Total { .. } => Kind::OVERLOADED,
            LimitReached::Client { .. } => Kind::TOO_MANY_REQUESTS,
        };
        Problem::new(kind)
            .detail(reached.to_string())
            .retry_after(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientAddress, LimitReached, PerClientLimit};

    fn client(address: &str) -> ClientAddress {
        ClientAddress::of(address.parse().expect("an address"))
    }

    #[test]
    fn one_client_cannot_take_what_all_share() {
        let limit = PerClientLimit::new("things", 3, 2);
        let (one, other) = (client("192.0.2.1"), client("192.0.2.2"));
        let held: Vec<_> = (0..2).map(|_| limit.try_acquire(one)).collect();
        assert!(held.iter().all(Result::is_ok));
        let above_its_own = limit.try_acquire(one).expect_err("it has two");
        assert!(matches!(
            above_its_own,
            LimitReached::Client { limit: 2, .. }
        ));
        let _third = limit.try_acquire(other).expect("there are three");
        let above_all = limit.try_acquire(other).expect_err("three are in use");
        assert!(matches!(above_all, LimitReached::Total { limit: 3, .. }));
        drop(held);
        limit.try_acquire(other).expect("two were given back");
    }

    #[test]
    fn nothing_is_kept_of_a_client_that_has_gone() {
        let limit = PerClientLimit::new("bytes", 100, 100);
        let permits = (0..10).map(|n| limit.try_acquire_many(client(&format!("192.0.2.{n}")), n));
        let permits: Vec<_> = permits.collect();
        assert!(permits.iter().all(Result::is_ok));
        drop(permits);
        let in_use = limit.0.in_use();
        assert_eq!((in_use.total, in_use.by_client.len()), (0, 0));
    }
}
