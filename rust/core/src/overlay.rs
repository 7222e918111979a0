//! A view of a store that can be written to: what is written stays in memory and goes with the view.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::store::{Batch, Change, Store, StoreError, Visit};

/// A [`Store`] over another one, which it never changes: copy on write.
///
/// The store below must not change meanwhile: it is a [`Store::snapshot`], or one that nobody writes to.
/// Closing the overlay closes it too, which releases a snapshot.
#[derive(Debug)]
pub struct Overlay {
    base: Arc<dyn Store>,
    /// What was written, `None` for a key that was deleted. `None` once closed. A reader holds the map for as
    /// long as it reads; a write meanwhile makes a copy.
    changes: Arc<RwLock<Option<Arc<Changes>>>>,
}

type Changes = BTreeMap<Vec<u8>, Option<Arc<[u8]>>>;

impl Overlay {
    /// Nothing written yet.
    pub fn new(base: Arc<dyn Store>) -> Self {
        Self { base, changes: Arc::new(RwLock::new(Some(Arc::default()))) }
    }

    /// How many keys were written or deleted.
    pub fn changed(&self) -> usize {
        self.changes.read().as_ref().map_or(0, |changes| changes.len())
    }

    fn changes(&self) -> Result<Arc<Changes>, StoreError> {
        self.changes.read().clone().ok_or_else(|| self.closed())
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed { store: self.name() }
    }
}

impl Store for Overlay {
    fn name(&self) -> String {
        self.base.name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        {
            let changes = self.changes.read();
            let changes = changes.as_ref().ok_or_else(|| self.closed())?;
            if let Some(change) = changes.get(key) {
                return Ok(change.as_ref().map(|value| value.to_vec()));
            }
        }
        self.base.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let changes = self.changes()?;
        if start >= end {
            return self.base.scan(start, end, visit);
        }
        let range = (Bound::Included(start), Bound::Excluded(end));
        let mut ours = changes.range::<[u8], _>(range).peekable();
        let mut broken = false;
        self.base.scan(start, end, &mut |key, value| {
            while let Some((changed, change)) = ours.next_if(|(changed, _)| changed.as_slice() < key) {
                if let Some(value) = change
                    && visit(changed, value).is_break()
                {
                    broken = true;
                    return ControlFlow::Break(());
                }
            }
            let seen = match ours.next_if(|(changed, _)| changed.as_slice() == key) {
                Some((_, None)) => ControlFlow::Continue(()),
                Some((_, Some(value))) => visit(key, value),
                None => visit(key, value),
            };
            broken = seen.is_break();
            seen
        })?;
        if broken {
            return Ok(());
        }
        for (key, change) in ours {
            if let Some(value) = change
                && visit(key, value).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut changes = self.changes.write();
        let changes = Arc::make_mut(changes.as_mut().ok_or_else(|| self.closed())?);
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => changes.insert(key.clone(), Some(value.as_slice().into())),
                Change::Delete(key) => changes.insert(key.clone(), None),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        // There is nothing to wait for, and the store below may have ended.
        self.changes().map(drop)
    }

    /// Nothing of it ever reaches the disk.
    fn syncs(&self) -> bool {
        false
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        let changes = self.changes()?;
        let base = self.base.snapshot()?;
        let frozen = Self { base, changes: Arc::new(RwLock::new(Some(changes))) };
        Ok(Arc::new(Frozen { frozen, overlay: self.changes.clone() }))
    }

    fn close(&self) -> Result<(), StoreError> {
        let changes = self.changes.write().take();
        match changes {
            Some(_) => self.base.close(),
            None => Ok(()),
        }
    }
}

/// What an [`Overlay`] was at one moment.
#[derive(Debug)]
struct Frozen {
    frozen: Overlay,
    /// Those of the overlay, to see whether it is open still.
    overlay: Arc<RwLock<Option<Arc<Changes>>>>,
}

impl Frozen {
    fn open(&self) -> Result<&Overlay, StoreError> {
        let open = self.overlay.read().is_some();
        if open { Ok(&self.frozen) } else { Err(self.frozen.closed()) }
    }
}

impl Store for Frozen {
    fn name(&self) -> String {
        self.frozen.name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.open()?.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.open()?.scan(start, end, visit)
    }

    fn write(&self, _: &Batch) -> Result<(), StoreError> {
        self.sync()?;
        Err(StoreError::ReadOnly { store: self.name() })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.open()?.sync()
    }

    fn syncs(&self) -> bool {
        false
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        let again = self.open()?;
        let frozen =
            Overlay { base: again.base.snapshot()?, changes: Arc::new(RwLock::new(Some(again.changes()?))) };
        Ok(Arc::new(Self { frozen, overlay: self.overlay.clone() }))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.frozen.close()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::ControlFlow;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::Overlay;
    use crate::conformance::{self, Kept};
    use crate::memory::MemoryStore;
    use crate::store::{Batch, Store, StoreError};

    fn batch(changes: &[(u8, Option<u8>)]) -> Batch {
        let mut batch = Batch::new();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(vec![*key], vec![*value]),
                None => batch.delete(vec![*key]),
            }
        }
        batch
    }

    fn all(store: &dyn Store) -> BTreeMap<u8, u8> {
        let mut found = BTreeMap::new();
        let mut last = None;
        store
            .scan(&[], &[0xff, 0xff], &mut |key, value| {
                assert!(last < Some(key.to_vec()), "out of order");
                last = Some(key.to_vec());
                found.insert(key[0], value[0]);
                ControlFlow::Continue(())
            })
            .unwrap();
        found
    }

    #[test]
    fn an_overlay_keeps_the_contract() {
        conformance::run(|| Kept::new(Overlay::new(MemoryStore::new().into_snapshot())));
    }

    #[test]
    fn closing_releases_the_store_below() {
        let below = MemoryStore::new().into_snapshot();
        let overlay = Overlay::new(below.clone());
        overlay.close().unwrap();
        assert!(matches!(below.get(b"a"), Err(StoreError::Closed { .. })));
    }

    proptest! {
        #[test]
        fn it_reads_as_if_all_had_been_written_below(
            below: Vec<(u8, Option<u8>)>, above: Vec<(u8, Option<u8>)>, start: u8, end: u8, most in 0usize..8,
        ) {
            let (base, model) = (MemoryStore::new(), MemoryStore::new());
            base.write(&batch(&below)).unwrap();
            model.write(&batch(&below)).unwrap();
            let overlay = Overlay::new(base.snapshot().unwrap());
            overlay.write(&batch(&above)).unwrap();
            let before = overlay.snapshot().unwrap();
            model.write(&batch(&above)).unwrap();
            prop_assert_eq!(all(&overlay), all(&model));
            for key in 0..=255 {
                prop_assert_eq!(overlay.get(&[key]).unwrap(), model.get(&[key]).unwrap());
            }
            let first = |store: &dyn Store| {
                let mut seen = Vec::new();
                store.scan(&[start], &[end], &mut |key, value| {
                    seen.push((key.to_vec(), value.to_vec()));
                    if seen.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }).unwrap();
                seen
            };
            prop_assert_eq!(first(&overlay), first(&model));
            overlay.write(&batch(&[(7, Some(1)), (8, None)])).unwrap();
            prop_assert_eq!(all(&*before), all(&model));
            let mut plain = BTreeMap::new();
            for (key, value) in below {
                match value {
                    Some(value) => plain.insert(key, value),
                    None => plain.remove(&key),
                };
            }
            prop_assert_eq!(all(&base), plain);
        }
    }

    impl MemoryStore {
        /// A snapshot of a store that nobody else has.
        fn into_snapshot(self) -> Arc<dyn Store> {
            self.snapshot().unwrap()
        }
    }
}
