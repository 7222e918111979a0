//! A store that fails when it is told to, and remembers what was asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::store::{Batch, Store, StoreError, Visit};

/// A key, and code that is run once before its value is read.
type Before = (Vec<u8>, Box<dyn FnOnce() + Send>);

/// Wraps a store; counts, records and fails calls.
pub struct FaultyStore<S> {
    inner: S,
    writes_left: AtomicU64,
    syncs_left: AtomicU64,
    gets: AtomicU64,
    syncs: AtomicU64,
    batches: Mutex<Vec<Batch>>,
    keeps: AtomicBool,
    panics: AtomicBool,
    before: Mutex<Option<Before>>,
    syncing: bool,
}

impl<S: std::fmt::Debug> std::fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultyStore({:?})", self.inner)
    }
}

impl<S: Store> FaultyStore<S> {
    /// A store that works until it is told otherwise. `syncing`: whether results wait for its syncs.
    pub fn new(inner: S, syncing: bool) -> Self {
        Self {
            inner,
            writes_left: AtomicU64::new(u64::MAX),
            syncs_left: AtomicU64::new(u64::MAX),
            gets: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            batches: Mutex::new(Vec::new()),
            keeps: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            before: Mutex::new(None),
            syncing,
        }
    }

    /// After `count` more writes each write fails.
    pub fn fail_write_after(&self, count: u64) {
        self.writes_left.store(count, Ordering::SeqCst);
    }

    /// After `count` more syncs each sync fails.
    pub fn fail_sync_after(&self, count: u64) {
        self.syncs_left.store(count, Ordering::SeqCst);
    }

    /// From now on a write that fails is made all the same, and only its caller does not know.
    pub fn keep_failed_writes(&self) {
        self.keeps.store(true, Ordering::SeqCst);
    }

    /// From now on a write that fails is cut off by a panic.
    pub fn panic_at_failed_writes(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }

    /// Runs code once, when the value of a key is asked for: before it is read.
    pub fn before_get(&self, key: Vec<u8>, code: impl FnOnce() + Send + 'static) {
        *self.before.lock() = Some((key, Box::new(code)));
    }

    /// The batches written so far.
    pub fn batches(&self) -> Vec<Batch> {
        self.batches.lock().clone()
    }

    /// How many batches were written.
    pub fn writes(&self) -> usize {
        self.batches.lock().len()
    }

    /// How many values were asked for.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::SeqCst)
    }

    /// How many syncs were done.
    pub fn synced(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    /// Uses up one of the calls that are left; fails when none is.
    fn spend(&self, left: &AtomicU64, doing: &'static str) -> Result<(), StoreError> {
        let spent = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            0 => None,
            u64::MAX => Some(u64::MAX),
            left => Some(left - 1),
        });
        let reason = "told to fail".to_owned();
        spent.map(drop).map_err(|_| StoreError::Failed { store: self.name(), doing, reason })
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        let due = self.before.lock().take_if(|(at, _)| at == key);
        if let Some((_, code)) = due {
            code();
        }
        self.inner.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(start, end, visit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        if let Err(error) = self.spend(&self.writes_left, "writing") {
            if self.keeps.load(Ordering::SeqCst) {
                self.inner.write(batch)?;
            }
            if self.panics.load(Ordering::SeqCst) {
                // Without the message that a panic prints.
                std::panic::resume_unwind(Box::new("told to panic"));
            }
            return Err(error);
        }
        self.inner.write(batch)?;
        self.batches.lock().push(batch.clone());
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.spend(&self.syncs_left, "syncing")?;
        self.inner.sync()?;
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn syncs(&self) -> bool {
        self.syncing
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.inner.snapshot()
    }

    fn compact(&self, start: &[u8], end: &[u8]) -> Result<(), StoreError> {
        self.inner.compact(start, end)
    }

    fn stop_compacting(&self) {
        self.inner.stop_compacting();
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

/// A store that several owners share: so a test can look at it while a vat lives in it, and open it again.
impl<S: Store> Store for Arc<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        (**self).scan(start, end, visit)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        (**self).write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        (**self).sync()
    }

    fn syncs(&self) -> bool {
        (**self).syncs()
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        (**self).snapshot()
    }

    fn compact(&self, start: &[u8], end: &[u8]) -> Result<(), StoreError> {
        (**self).compact(start, end)
    }

    fn stop_compacting(&self) {
        (**self).stop_compacting();
    }

    fn close(&self) -> Result<(), StoreError> {
        (**self).close()
    }
}

#[cfg(test)]
mod tests {
    use super::FaultyStore;
    use crate::conformance::{self, Kept};
    use crate::memory::MemoryStore;

    #[test]
    fn a_wrapped_store_keeps_the_contract() {
        conformance::run(|| Kept::new(FaultyStore::new(MemoryStore::new(), true)));
    }
}
