//! A lock with conditions, in one place so that loom can model what is built on it.

use std::time::Duration;

/// Guards a `T`; threads may wait until it is as they need it, in one of so many queues.
///
/// Nothing of the host may be called, and none of its values dropped, inside the closures.
#[derive(Debug)]
pub struct Monitor<T, const QUEUES: usize = 1> {
    #[cfg(not(loom))]
    value: parking_lot::Mutex<T>,
    #[cfg(not(loom))]
    queues: [parking_lot::Condvar; QUEUES],
    #[cfg(loom)]
    value: loom::sync::Mutex<T>,
    #[cfg(loom)]
    queues: [loom::sync::Condvar; QUEUES],
}

impl<T: Default, const QUEUES: usize> Default for Monitor<T, QUEUES> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T, const QUEUES: usize> Monitor<T, QUEUES> {
    /// Waits until `f` gives something, but no longer than `patience`: then `None`.
    pub fn wait<R>(&self, patience: Duration, mut f: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        self.wait_in(patience, |value| f(value).ok_or(0))
    }

    /// Wakes all who wait in the first queue, to look again.
    pub fn notify_all(&self) {
        self.notify_all_in(0);
    }

    /// Wakes one who waits in the first queue.
    pub fn notify_one(&self) {
        self.notify_one_in(0);
    }
}

#[cfg(not(loom))]
impl<T, const QUEUES: usize> Monitor<T, QUEUES> {
    /// Guards `value`.
    pub fn new(value: T) -> Self {
        let queues = std::array::from_fn(|_| parking_lot::Condvar::new());
        Self { value: parking_lot::Mutex::new(value), queues }
    }

    /// Looks at or changes the value.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.value.lock())
    }

    /// As [`Monitor::wait`]; each time that `f` gives nothing, it names the queue to wait in.
    pub fn wait_in<R>(&self, patience: Duration, mut f: impl FnMut(&mut T) -> Result<R, usize>) -> Option<R> {
        let deadline = std::time::Instant::now() + patience;
        let mut guard = self.value.lock();
        loop {
            let queue = match f(&mut guard) {
                Ok(found) => return Some(found),
                Err(queue) => &self.queues[queue],
            };
            if queue.wait_until(&mut guard, deadline).timed_out() {
                return f(&mut guard).ok();
            }
        }
    }

    /// Wakes all who wait in a queue.
    pub fn notify_all_in(&self, queue: usize) {
        self.queues[queue].notify_all();
    }

    /// Wakes one who waits in a queue.
    pub fn notify_one_in(&self, queue: usize) {
        self.queues[queue].notify_one();
    }
}

#[cfg(loom)]
#[allow(missing_docs, clippy::unwrap_used)]
impl<T, const QUEUES: usize> Monitor<T, QUEUES> {
    pub fn new(value: T) -> Self {
        let queues = std::array::from_fn(|_| loom::sync::Condvar::new());
        Self { value: loom::sync::Mutex::new(value), queues }
    }

    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.value.lock().unwrap())
    }

    /// Loom has no clock: it waits for as long as it takes, so that a lost wake-up is a deadlock. Without
    /// any patience it doesn't wait.
    pub fn wait_in<R>(&self, patience: Duration, mut f: impl FnMut(&mut T) -> Result<R, usize>) -> Option<R> {
        let mut guard = self.value.lock().unwrap();
        loop {
            let queue = match f(&mut guard) {
                Ok(found) => return Some(found),
                Err(queue) => &self.queues[queue],
            };
            if patience.is_zero() {
                return None;
            }
            guard = queue.wait(guard).unwrap();
        }
    }

    pub fn notify_all_in(&self, queue: usize) {
        self.queues[queue].notify_all();
    }

    pub fn notify_one_in(&self, queue: usize) {
        self.queues[queue].notify_one();
    }
}
