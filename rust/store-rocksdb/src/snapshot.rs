//! Views of a store as it was at one moment. They end with the store.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use goblins_core::fork::is_forked;
use goblins_core::store::{Batch, Store, StoreError, Visit};
use parking_lot::{Mutex, RwLock};

use crate::errors::translate;
use crate::store::{Open, before, visit_all};

type View<'a> = rocksdb::Snapshot<'a>;

self_cell::self_cell! {
    /// RocksDB's snapshot, with the database that it belongs to.
    struct Frozen {
        owner: Arc<Open>,
        #[covariant]
        dependent: View,
    }
}

/// `None` once closed. Readers share it; only closing excludes them.
type Handle = RwLock<Option<Arc<Frozen>>>;

/// All snapshots of a store, to end them with it.
pub(crate) struct Snapshots {
    /// `None` once the store is closed. No handle is locked under this lock.
    handles: Mutex<Option<Vec<Weak<Handle>>>>,
}

impl Snapshots {
    pub(crate) fn new() -> Self {
        Self { handles: Mutex::new(Some(Vec::new())) }
    }

    /// Remembers a snapshot, unless the store is closed.
    fn add(&self, frozen: Arc<Frozen>) -> Option<Arc<Handle>> {
        let handle = Arc::new(RwLock::new(Some(frozen)));
        let mut handles = self.handles.lock();
        let handles = handles.as_mut()?;
        handles.retain(|handle| handle.strong_count() > 0);
        handles.push(Arc::downgrade(&handle));
        Some(handle)
    }

    /// Ends all, waiting for their readers.
    pub(crate) fn end(&self) {
        let handles = self.handles.lock().take().unwrap_or_default();
        for handle in handles.iter().filter_map(Weak::upgrade) {
            let frozen = handle.write().take();
            drop(frozen);
        }
    }
}

/// A view of a store as it was when it was taken.
pub(crate) struct Snapshot {
    path: PathBuf,
    handle: Arc<Handle>,
    all: Arc<Snapshots>,
}

impl Snapshot {
    /// Takes one; `None` if the store is closed.
    pub(crate) fn take(path: &Path, open: &Arc<Open>, all: &Arc<Snapshots>) -> Option<Self> {
        let frozen = Frozen::new(open.clone(), |open| open.db.snapshot());
        let handle = all.add(Arc::new(frozen))?;
        Some(Self { path: path.to_owned(), handle, all: all.clone() })
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed { store: self.name() }
    }

    fn refuse_forked(&self) -> Result<(), StoreError> {
        if is_forked() { Err(StoreError::Forked { store: self.name() }) } else { Ok(()) }
    }

    fn with<R>(&self, f: impl FnOnce(&View<'_>) -> Result<R, rocksdb::Error>) -> Result<R, StoreError> {
        self.refuse_forked()?;
        // Recursive: the visitor of a scan may use the snapshot while somebody waits to close it.
        let frozen = self.handle.read_recursive();
        let frozen = frozen.as_ref().ok_or_else(|| self.closed())?;
        frozen.with_dependent(|_, view| f(view)).map_err(|error| translate(&self.path, "reading", &error))
    }
}

impl Store for Snapshot {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|view| view.get(key))
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if start >= end {
            return self.sync();
        }
        self.with(|view| visit_all(view.raw_iterator_opt(before(end)), start, visit))
    }

    fn write(&self, _: &Batch) -> Result<(), StoreError> {
        self.sync()?;
        Err(StoreError::ReadOnly { store: self.name() })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.with(|_| Ok(()))
    }

    fn syncs(&self) -> bool {
        false
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.refuse_forked()?;
        let frozen = self.handle.read_recursive().clone();
        let handle = frozen.and_then(|frozen| self.all.add(frozen)).ok_or_else(|| self.closed())?;
        Ok(Arc::new(Self { path: self.path.clone(), handle, all: self.all.clone() }))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.refuse_forked()?;
        let frozen = self.handle.write().take();
        drop(frozen);
        Ok(())
    }
}
