//! The store itself.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goblins_core::fork::is_forked;
use goblins_core::store::{Batch, Change, Store, StoreError, Visit};
use parking_lot::{Mutex, RwLock};
use rocksdb::{DB, DBAccess, DBRawIteratorWithThreadMode, ReadOptions, WriteBatch, WriteOptions};

use crate::errors::{refused, translate};
use crate::lock::{Lock, OWNER};
use crate::options::options;
use crate::snapshot::{Snapshot, Snapshots};
use crate::synced::{Noted, SYNCED, Synced};

/// As much as may be left for the next opening to replay, in bytes: a few milliseconds.
const REPLAY: u64 = 4 << 20;

/// A store in a folder, kept by RocksDB.
pub struct RocksStore {
    path: PathBuf,
    sync: bool,
    read_only: bool,
    /// `None` once closed. Readers and writers share it; only closing excludes them.
    open: RwLock<Option<Arc<Open>>>,
    snapshots: Arc<Snapshots>,
    compacting: Compacting,
}

impl Open {
    /// Makes all that was written before durable, and notes that.
    fn sync(&self) -> Result<(), rocksdb::Error> {
        if let Some(synced) = &self.synced {
            let written = self.db.latest_sequence_number();
            self.db.flush_wal(true)?;
            synced.note(written);
        }
        Ok(())
    }
}

/// At most one compaction is asked for at a time.
#[derive(Default)]
struct Compacting {
    /// Held by the one that runs. Nothing else is locked under this lock.
    running: Mutex<()>,
    /// There will be no other: the store is about to be closed.
    stopped: AtomicBool,
    /// RocksDB does no more work in the background.
    cancelled: AtomicBool,
}

/// The fields are dropped in this order: the lock outlives the database.
pub(crate) struct Open {
    pub(crate) db: DB,
    /// `None`: nothing is written.
    synced: Option<Synced>,
    _lock: Lock,
}

impl RocksStore {
    /// Opens the store in a folder, which is made if it is missing.
    ///
    /// With `sync`, results wait until the disk has them; without it, until the system has them.
    pub fn open(path: impl AsRef<Path>, sync: bool) -> Result<Self, StoreError> {
        let path = path.as_ref();
        prepare(path)?;
        let lock = Lock::take(path)?;
        let synced = Synced::open(path)?;
        let noted = synced.noted();
        noted.check_manifest(path)?;
        let db = DB::open(&options(), path).map_err(|error| translate(path, "opening", &error))?;
        noted.check_changes(path, db.latest_sequence_number())?;
        synced.follow_manifest(path);
        Ok(Self::new(path, sync, db, Some(synced), lock))
    }

    /// Opens the store in a folder to be read only: no file in the folder changes. What stands in its log is read
    /// from there.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if !path.join("CURRENT").is_file() {
            let reason = "there is no store; name the folder of one".to_owned();
            return Err(StoreError::Unusable { path: path.to_owned(), reason });
        }
        let lock = Lock::take_quietly(path)?;
        let noted = Noted::read(path)?;
        noted.check_manifest(path)?;
        let db = DB::open_for_read_only(&options(), path, false)
            .map_err(|error| translate(path, "opening", &error))?;
        noted.check_changes(path, db.latest_sequence_number())?;
        Ok(Self::new(path, false, db, None, lock))
    }

    fn new(path: &Path, sync: bool, db: DB, synced: Option<Synced>, lock: Lock) -> Self {
        let read_only = synced.is_none();
        let open = RwLock::new(Some(Arc::new(Open { db, synced, _lock: lock })));
        let (snapshots, compacting) = (Arc::new(Snapshots::new()), Compacting::default());
        Self { path: path.to_owned(), sync, read_only, open, snapshots, compacting }
    }

    /// RocksDB's threads are not in a forked child, and its locks may be held there for ever.
    fn refuse_forked(&self) -> Result<(), StoreError> {
        if is_forked() { Err(StoreError::Forked { store: self.name() }) } else { Ok(()) }
    }

    fn with<R>(
        &self,
        doing: &'static str,
        f: impl FnOnce(&DB) -> Result<R, rocksdb::Error>,
    ) -> Result<R, StoreError> {
        self.with_open(doing, |open| f(&open.db))
    }

    fn with_open<R>(
        &self,
        doing: &'static str,
        f: impl FnOnce(&Open) -> Result<R, rocksdb::Error>,
    ) -> Result<R, StoreError> {
        self.refuse_forked()?;
        // Recursive: the visitor of a scan may use the store while somebody waits to close it.
        let open = self.open.read_recursive();
        let open = open.as_ref().ok_or_else(|| StoreError::Closed { store: self.name() })?;
        f(open).map_err(|error| translate(&self.path, doing, &error))
    }
}

/// Sees to it that `path` is a folder that may hold a store.
fn prepare(path: &Path) -> Result<(), StoreError> {
    let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
    if path.exists() && !path.is_dir() {
        return Err(unusable("it is a file; a store is a folder: use another path".to_owned()));
    }
    std::fs::create_dir_all(path).map_err(|error| {
        refused(path, &error, |reason| {
            unusable(format!("can't make the folder: {reason}; use a path that you may write to"))
        })
    })?;
    let entries =
        std::fs::read_dir(path).map_err(|error| unusable(format!("can't read the folder: {error}")))?;
    let mut foreign = None;
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name() == "CURRENT" {
            return Ok(());
        }
        // A crash while a store was being made leaves such files.
        if ![OWNER, SYNCED, "LOCK", "LOG"].iter().any(|name| entry.file_name() == *name) {
            foreign = Some(entry.file_name());
        }
    }
    match foreign {
        Some(name) if !is_of_rocksdb(&name.to_string_lossy()) => Err(unusable(format!(
            "the folder holds other files ({}): use an empty folder, or one that does not exist",
            name.to_string_lossy()
        ))),
        _ => Ok(()),
    }
}

fn is_of_rocksdb(name: &str) -> bool {
    ["MANIFEST-", "OPTIONS-", "IDENTITY", "LOG.old"].iter().any(|start| name.starts_with(start))
        || [".dbtmp", ".log", ".sst"].iter().any(|end| name.ends_with(end))
}

/// Writes out what a later opening would have to replay from the log, if that is much.
fn spare_replay(db: &DB) -> Result<(), rocksdb::Error> {
    match db.property_int_value("rocksdb.cur-size-all-mem-tables")? {
        Some(size) if size > REPLAY => db.flush(),
        _ => Ok(()),
    }
}

/// For iterators that end before a key.
pub(crate) fn before(end: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(end);
    options
}

/// Visits what an iterator finds from a key on, until the visitor breaks.
pub(crate) fn visit_all<D: DBAccess>(
    mut found: DBRawIteratorWithThreadMode<'_, D>,
    start: &[u8],
    visit: &mut Visit<'_>,
) -> Result<(), rocksdb::Error> {
    found.seek(start);
    while let Some((key, value)) = found.item() {
        if let ControlFlow::Break(()) = visit(key, value) {
            return Ok(());
        }
        found.next();
    }
    found.status()
}

fn write_options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(false);
    options
}

impl Store for RocksStore {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with("reading", |db| db.get(key))
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if start >= end {
            return self.with("reading", |_| Ok(()));
        }
        self.with("reading", |db| visit_all(db.raw_iterator_opt(before(end)), start, visit))
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.read_only {
            self.with("writing", |_| Ok(()))?;
            return Err(StoreError::ReadOnly { store: self.name() });
        }
        let mut changes = WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => changes.put(key, value),
                Change::Delete(key) => changes.delete(key),
            }
        }
        self.with("writing", |db| db.write_opt(changes, &write_options()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.with_open("syncing", Open::sync)
    }

    fn syncs(&self) -> bool {
        self.sync
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.refuse_forked()?;
        let open = self.open.read_recursive();
        let taken = open.as_ref().and_then(|open| Snapshot::take(&self.path, open, &self.snapshots));
        match taken {
            Some(snapshot) => Ok(Arc::new(snapshot)),
            None => Err(StoreError::Closed { store: self.name() }),
        }
    }

    fn compact(&self, start: &[u8], end: &[u8]) -> Result<(), StoreError> {
        self.refuse_forked()?;
        let _running = self.compacting.running.lock();
        // Not under the lock of readers: one who waits to close the store would keep them out.
        let open = self.open.read_recursive().clone();
        match open {
            Some(_) if self.read_only || self.compacting.stopped.load(Ordering::SeqCst) => Ok(()),
            Some(open) => {
                open.db.compact_range(Some(start), Some(end));
                Ok(())
            }
            None => Err(StoreError::Closed { store: self.name() }),
        }
    }

    fn stop_compacting(&self) {
        if is_forked() {
            return;
        }
        self.compacting.stopped.store(true, Ordering::SeqCst);
        let open = self.open.read_recursive().clone();
        if let Some(open) = open
            && self.compacting.running.is_locked()
        {
            self.compacting.cancelled.store(true, Ordering::SeqCst);
            open.db.cancel_all_background_work(false);
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.refuse_forked()?;
        self.stop_compacting();
        let Some(open) = self.open.write().take() else {
            return Ok(());
        };
        // It has the database still.
        drop(self.compacting.running.lock());
        // They hold the database, and so the lock.
        self.snapshots.end();
        let spare = !self.read_only && !self.compacting.cancelled.load(Ordering::SeqCst);
        let synced = open.sync().and_then(|()| match spare {
            // That adds a file to the list.
            true => spare_replay(&open.db).and_then(|()| open.sync()),
            false => Ok(()),
        });
        drop(open);
        synced.map_err(|error| translate(&self.path, "closing", &error))
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RocksStore({})", self.path.display())
    }
}
