//! The store itself.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goblins_core::fork::is_forked;
use goblins_core::schema;
use goblins_core::store::{Batch, Change, Store, StoreError, Visit};
use parking_lot::{Mutex, RwLock};
use rocksdb::{DB, DBAccess, DBRawIteratorWithThreadMode, ReadOptions, WriteBatch, WriteOptions};

use crate::errors::{refused, translate};
use crate::lock::{self, Lock, OWNER};
use crate::options::{self, options};
use crate::place::Place;
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
    fn sync(&self, path: &Path, doing: &'static str) -> Result<(), StoreError> {
        let Some(written) = &self.written else {
            return Ok(());
        };
        let last = self.db.latest_sequence_number();
        self.db.flush_wal(true).map_err(|error| translate(path, doing, &error))?;
        // What is in files that are gone is not on disk.
        if !written.place.is_there() {
            return Err(gone(path));
        }
        written.synced.note(last);
        Ok(())
    }
}

fn gone(path: &Path) -> StoreError {
    StoreError::Gone { store: path.display().to_string() }
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
    written: Option<Written>,
    _lock: Lock,
}

/// What is known of the files of a store that is written to.
struct Written {
    synced: Synced,
    place: Place,
}

impl RocksStore {
    /// Opens the store in a folder, which is made if it is missing. The folder is the one that the path leads to now,
    /// whatever becomes of the working directory or of links on the way.
    ///
    /// With `sync`, results wait until the disk has them; without it, until the system has them.
    pub fn open(path: impl AsRef<Path>, sync: bool) -> Result<Self, StoreError> {
        let path = absolute(path.as_ref())?;
        prepare(&path)?;
        let folder = real(&path)?;
        let lock = Lock::take_if_there(&folder, true).map_err(|error| named(error, &path))?;
        let noted = Noted::read(&folder)?;
        noted.check_manifest(&path, &folder)?;
        // A store that this version does not know must be left as it is. From here on files are written.
        look_at_format(&path, &folder)?;
        let lock =
            if lock.is_taken() { lock } else { Lock::take(&folder).map_err(|error| named(error, &path))? };
        lock::check_rocksdb(&folder).map_err(|error| named(error, &path))?;
        lock.sign(&folder)?;
        let synced = Synced::open(&folder)?;
        let db = DB::open(&options(), &folder).map_err(|error| match lock::is_locked(&error) {
            true => named(lock::locked_by_rocksdb(&folder), &path),
            false => translate(&path, "opening", &error),
        })?;
        noted.check_changes(&path, db.latest_sequence_number())?;
        synced.follow_manifest(&folder);
        let place = Place::of(&folder).map_err(|error| unusable(&path, format!("can't read it: {error}")))?;
        Ok(Self::new(path, sync, db, Some(Written { synced, place }), lock))
    }

    /// Opens the store in a folder to be read only: no file in the folder changes. What stands in its log is read
    /// from there.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = absolute(path.as_ref())?;
        if !path.join("CURRENT").is_file() {
            return Err(unusable(&path, "there is no store; name the folder of one".to_owned()));
        }
        let folder = real(&path)?;
        let lock = Lock::take_if_there(&folder, false).map_err(|error| named(error, &path))?;
        lock::check_rocksdb(&folder).map_err(|error| named(error, &path))?;
        let noted = Noted::read(&folder)?;
        noted.check_manifest(&path, &folder)?;
        let db = DB::open_for_read_only(&options(), &folder, false)
            .map_err(|error| translate(&path, "opening", &error))?;
        noted.check_changes(&path, db.latest_sequence_number())?;
        Ok(Self::new(path, false, db, None, lock))
    }

    fn new(path: PathBuf, sync: bool, db: DB, written: Option<Written>, lock: Lock) -> Self {
        let read_only = written.is_none();
        let open = RwLock::new(Some(Arc::new(Open { db, written, _lock: lock })));
        let (snapshots, compacting) = (Arc::new(Snapshots::new()), Compacting::default());
        Self { path, sync, read_only, open, snapshots, compacting }
    }

    /// Its folder: an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
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
        self.with_open(|open| f(&open.db).map_err(|error| translate(&self.path, doing, &error)))
    }

    fn with_open<R>(&self, f: impl FnOnce(&Open) -> Result<R, StoreError>) -> Result<R, StoreError> {
        self.refuse_forked()?;
        // Recursive: the visitor of a scan may use the store while somebody waits to close it.
        let open = self.open.read_recursive();
        let open = open.as_ref().ok_or_else(|| StoreError::Closed { store: self.name() })?;
        f(open)
    }
}

fn unusable(path: &Path, reason: String) -> StoreError {
    StoreError::Unusable { path: path.to_owned(), reason }
}

/// Where a path leads from here.
fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path)
        .map_err(|error| unusable(path, format!("it is no path from here ({error}); use an absolute path")))
}

/// A folder without links on the way.
fn real(path: &Path) -> Result<PathBuf, StoreError> {
    std::fs::canonicalize(path).map_err(|error| unusable(path, format!("can't find it: {error}")))
}

/// The error for a folder, by the name that its user gave it.
fn named(mut error: StoreError, name: &Path) -> StoreError {
    if let StoreError::Locked { path, .. } | StoreError::Unusable { path, .. } = &mut error {
        *path = name.to_owned();
    }
    error
}

/// Refuses a store of a newer format, before RocksDB opens it, which changes files. What else is wrong with it, opening
/// it finds out.
fn look_at_format(path: &Path, folder: &Path) -> Result<(), StoreError> {
    if !folder.join("CURRENT").is_file() {
        return Ok(());
    }
    let Ok(db) = DB::open_for_read_only(&options::for_a_look(), folder, false) else {
        return Ok(());
    };
    match db.get(schema::format_key()) {
        Ok(Some(value)) => schema::check_format(&path.display().to_string(), &value),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Sees to it that `path` is a folder that may hold a store.
fn prepare(path: &Path) -> Result<(), StoreError> {
    let unusable = |reason: String| unusable(path, reason);
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
        self.with_open(|open| {
            // Where nobody waits for the disk, nothing else would find out.
            if !self.sync && open.written.as_ref().is_some_and(|written| !written.place.seems_there()) {
                return Err(gone(&self.path));
            }
            let written = open.db.write_opt(changes, &write_options());
            written.map_err(|error| translate(&self.path, "writing", &error))
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.with_open(|open| open.sync(&self.path, "syncing"))
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

    fn is_held(&self) -> bool {
        !is_forked() && self.open.read_recursive().is_some()
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
        let synced = open.sync(&self.path, "closing").and_then(|()| match spare {
            // That adds a file to the list.
            true => spare_replay(&open.db)
                .map_err(|error| translate(&self.path, "closing", &error))
                .and_then(|()| open.sync(&self.path, "closing")),
            false => Ok(()),
        });
        drop(open);
        synced
    }
}

impl std::fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RocksStore({})", self.path.display())
    }
}
