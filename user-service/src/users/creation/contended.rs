//! Which e-mail addresses, in their normal form, made a statement wait for a lock lately.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How long an address counts as contended after a statement with it has waited too long.
const MEMORY: Duration = Duration::from_secs(10);
/// Most addresses that are remembered; those above it are found again when they hold up a batch.
const MOST: usize = 4096;

/// Requests for these go to a lane of their own, so that the open transaction that holds one of
/// them costs the others one short wait and not one for each try.
#[derive(Debug, Clone, Default)]
pub(super) struct ContendedAddresses(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// So that requests need no lock while there are none.
    any: AtomicBool,
    addresses: Mutex<Addresses>,
}

#[derive(Debug, Default)]
struct Addresses {
    until: HashMap<String, Instant>,
    /// When the last of them is over.
    over: Option<Instant>,
}

impl ContendedAddresses {
    pub(super) fn contains(&self, email: &str) -> bool {
        if !self.0.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut addresses = self.addresses();
        let now = Instant::now();
        if addresses.over.is_some_and(|over| over <= now) {
            addresses.until.clear();
            self.0.any.store(false, Ordering::Relaxed);
        }
        let until = addresses.until.get(email);
        until.is_some_and(|until| *until > now)
    }

    pub(super) fn insert(&self, email: &str) {
        let mut addresses = self.addresses();
        let now = Instant::now();
        if addresses.until.len() >= MOST {
            addresses.until.retain(|_, until| *until > now);
        }
        if addresses.until.len() < MOST {
            let over = now + MEMORY;
            addresses.until.insert(email.to_owned(), over);
            addresses.over = Some(over);
            self.0.any.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, email: &str) {
        let mut addresses = self.addresses();
        addresses.until.remove(email);
        let any = !addresses.until.is_empty();
        self.0.any.store(any, Ordering::Relaxed);
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        let addresses = self.0.addresses.lock();
        addresses.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{ContendedAddresses, MOST};

    #[test]
    fn an_address_is_contended_until_it_was_free() {
        let addresses = ContendedAddresses::default();
        assert!(!addresses.contains("ada@example.com"));
        addresses.insert("ada@example.com");
        assert!(addresses.contains("ada@example.com"));
        assert!(!addresses.contains("eve@example.com"));
        addresses.remove("ada@example.com");
        assert!(!addresses.contains("ada@example.com"));
    }

    #[test]
    fn no_more_are_remembered_than_the_bound() {
        let addresses = ContendedAddresses::default();
        (0..2 * MOST).for_each(|number| addresses.insert(&number.to_string()));
        assert_eq!(addresses.addresses().until.len(), MOST);
    }
}
