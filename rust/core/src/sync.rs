//! A lock with a condition, in one place so that loom can model what is built on it.

use std::time::Duration;

/// Guards a `T`; threads may wait until it is as they need it.
///
/// Nothing of the host may be called, and none of its values dropped, inside the closures.
#[derive(Debug, Default)]
pub struct Monitor<T> {
    #[cfg(not(loom))]
    value: parking_lot::Mutex<T>,
    #[cfg(not(loom))]
    changed: parking_lot::Condvar,
    #[cfg(loom)]
    value: loom::sync::Mutex<T>,
    #[cfg(loom)]
    changed: loom::sync::Condvar,
}

#[cfg(not(loom))]
impl<T> Monitor<T> {
    /// Guards `value`.
    pub fn new(value: T) -> Self {
        Self { value: parking_lot::Mutex::new(value), changed: parking_lot::Condvar::new() }
    }

    /// Looks at or changes the value.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.value.lock())
    }

    /// Waits until `f` gives something, but no longer than `patience`: then `None`.
    pub fn wait<R>(&self, patience: Duration, mut f: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let deadline = std::time::Instant::now() + patience;
        let mut guard = self.value.lock();
        loop {
            if let Some(found) = f(&mut guard) {
                return Some(found);
            }
            if self.changed.wait_until(&mut guard, deadline).timed_out() {
                return f(&mut guard);
            }
        }
    }

    /// Wakes all who wait, to look again.
    pub fn notify_all(&self) {
        self.changed.notify_all();
    }

    /// Wakes one who waits.
    pub fn notify_one(&self) {
        self.changed.notify_one();
    }
}

#[cfg(loom)]
#[allow(missing_docs, clippy::unwrap_used)]
impl<T> Monitor<T> {
    pub fn new(value: T) -> Self {
        Self { value: loom::sync::Mutex::new(value), changed: loom::sync::Condvar::new() }
    }

    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.value.lock().unwrap())
    }

    /// Loom has no clock: it waits for as long as it takes, so that a lost wake-up is a deadlock. Without
    /// any patience it doesn't wait.
    pub fn wait<R>(&self, patience: Duration, mut f: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let mut guard = self.value.lock().unwrap();
        loop {
            if let Some(found) = f(&mut guard) {
                return Some(found);
            }
            if patience.is_zero() {
                return None;
            }
            guard = self.changed.wait(guard).unwrap();
        }
    }

    pub fn notify_all(&self) {
        self.changed.notify_all();
    }

    pub fn notify_one(&self) {
        self.changed.notify_one();
    }
}
