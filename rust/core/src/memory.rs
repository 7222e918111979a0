//! A store in memory: for tests, and for vats that shall outlive their closing but not their process.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::store::{Batch, Change, Store, StoreError, Visit};

/// A [`Store`] in a sorted map. Nothing of it survives the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// `None` once closed. A reader holds the map for as long as it reads; a write meanwhile makes a copy.
    records: Arc<RwLock<Option<Arc<Records>>>>,
}

type Records = BTreeMap<Vec<u8>, Arc<[u8]>>;

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { records: Arc::new(RwLock::new(Some(Arc::default()))) }
    }

    fn records(&self) -> Result<Arc<Records>, StoreError> {
        self.records.read().clone().ok_or_else(|| closed(self))
    }
}

fn closed(store: &impl Store) -> StoreError {
    StoreError::Closed { store: store.name() }
}

fn visit_range(records: &Records, start: &[u8], end: &[u8], visit: &mut Visit<'_>) {
    if start >= end {
        return;
    }
    for (key, value) in records.range(start.to_vec()..end.to_vec()) {
        if visit(key, value).is_break() {
            return;
        }
    }
}

impl Store for MemoryStore {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let records = self.records.read();
        let records = records.as_ref().ok_or_else(|| closed(self))?;
        Ok(records.get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        visit_range(&*self.records()?, start, end, visit);
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut records = self.records.write();
        let records = Arc::make_mut(records.as_mut().ok_or_else(|| closed(self))?);
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => {
                    records.insert(key.clone(), value.as_slice().into());
                }
                Change::Delete(key) => {
                    records.remove(key);
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.records().map(drop)
    }

    fn syncs(&self) -> bool {
        false
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(Snapshot { records: RwLock::new(Some(self.records()?)), store: self.records.clone() }))
    }

    fn close(&self) -> Result<(), StoreError> {
        let records = self.records.write().take();
        drop(records);
        Ok(())
    }
}

/// What a [`MemoryStore`] was at one moment.
#[derive(Debug)]
struct Snapshot {
    /// `None` once closed.
    records: RwLock<Option<Arc<Records>>>,
    /// The store's own, to see whether it is open still.
    store: Arc<RwLock<Option<Arc<Records>>>>,
}

impl Snapshot {
    fn records(&self) -> Result<Arc<Records>, StoreError> {
        let open = self.store.read().is_some();
        self.records.read().clone().filter(|_| open).ok_or_else(|| closed(self))
    }
}

impl Store for Snapshot {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.records()?.get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        visit_range(&*self.records()?, start, end, visit);
        Ok(())
    }

    fn write(&self, _: &Batch) -> Result<(), StoreError> {
        self.records()?;
        Err(StoreError::ReadOnly { store: self.name() })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.records().map(drop)
    }

    fn syncs(&self) -> bool {
        false
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(Self { records: RwLock::new(Some(self.records()?)), store: self.store.clone() }))
    }

    fn close(&self) -> Result<(), StoreError> {
        let records = self.records.write().take();
        drop(records);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::conformance::{self, Kept};

    #[test]
    fn the_memory_store_keeps_the_contract() {
        conformance::run(|| Kept::new(MemoryStore::new()));
    }
}
