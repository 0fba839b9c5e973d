//! Values that are looked up when Prometheus asks.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

type Observer = Box<dyn Fn() + Send>;

static OBSERVERS: Mutex<Vec<Observer>> = Mutex::new(Vec::new());
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

/// Has `observe` set gauges before each answer to Prometheus, for as long as the process lives. It
/// must not wait for anything: a value that has to be asked for is sampled by a task.
///
/// Does nothing, and keeps nothing, unless metrics are collected.
pub fn on_scrape(observe: impl Fn() + Send + 'static) {
    if IS_INSTALLED.load(Ordering::Relaxed) {
        observe();
        let mut observers = OBSERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        observers.push(Box::new(observe));
    }
}

#[cfg(feature = "http")]
pub(super) fn installed() {
    IS_INSTALLED.store(true, Ordering::Relaxed);
}

#[cfg(feature = "http")]
pub(super) fn observe() {
    let observers = OBSERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    for observe in &*observers {
        observe();
    }
}
