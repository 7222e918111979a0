//! A store in memory: for tests, and for vats that shall outlive their closing but not their process.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use parking_lot::RwLock;

use crate::store::{Batch, Change, Store, StoreError, Visit};

/// A [`Store`] in a sorted map. Nothing of it survives the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// `None` once closed.
    records: RwLock<Option<Records>>,
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { records: RwLock::new(Some(Records::new())) }
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed { store: self.name() }
    }
}

impl Store for MemoryStore {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let records = self.records.read();
        let records = records.as_ref().ok_or_else(|| self.closed())?;
        Ok(records.get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if start >= end {
            return self.sync();
        }
        // Copied, so that `visit` may use the store.
        let found: Vec<_> = {
            let records = self.records.read();
            let records = records.as_ref().ok_or_else(|| self.closed())?;
            records
                .range(start.to_vec()..end.to_vec())
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        for (key, value) in found {
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut records = self.records.write();
        let records = records.as_mut().ok_or_else(|| self.closed())?;
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => {
                    records.insert(key.clone(), value.clone());
                }
                Change::Delete(key) => {
                    records.remove(key);
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        match *self.records.read() {
            Some(_) => Ok(()),
            None => Err(self.closed()),
        }
    }

    fn syncs(&self) -> bool {
        false
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
