//! What the kernel asks of a store: ordered keys, atomic batches, one ordered log.
//!
//! A store knows nothing of vats or actors. What stands in it is laid out by [`crate::schema`].

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::history::Kept;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store was closed.
    #[error("the store {store} is closed; open it again to go on")]
    Closed {
        /// The store, as its user named it.
        store: String,
    },
    /// Another process, or another object of this one, has the store open.
    #[error("the store {path} is in use by {}", holder(.pid, .host, .command, .here))]
    Locked {
        /// The store's folder.
        path: PathBuf,
        /// Process id of the holder; 0: it is not known.
        pid: u32,
        /// Host name of the holder.
        host: String,
        /// Command line of the holder.
        command: String,
        /// The holder is this process: which object has it, as far as it is known.
        here: Option<String>,
    },
    /// The files of an open store were removed, or the folder moved.
    #[error(
        "the files of the store {store} are gone: its folder was removed, moved or replaced while the store was open, \
         and what was written last may be lost; open it again where it is now, or restore it from a backup"
    )]
    Gone {
        /// The store, as its user named it.
        store: String,
    },
    /// A copy into the store was cut off.
    #[error(
        "the store {store} is not complete: a copy into it was cut off; fill it again with copy_store, or remove its \
         folder"
    )]
    Incomplete {
        /// The store, as its user named it.
        store: String,
    },
    /// The path can't hold a store.
    #[error("can't open a store at {path}: {reason}")]
    Unusable {
        /// The path that was given.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The store was written by a newer version of this library.
    #[error(
        "the store {store} has format {found}; this version of goblins reads formats up to {supported}: \
         upgrade goblins to open it (nothing was changed)"
    )]
    NewerFormat {
        /// The store, as its user named it.
        store: String,
        /// The format that stands in the store.
        found: u64,
        /// The newest format this version knows.
        supported: u64,
    },
    /// What stands in the store is damaged.
    #[error("the store {store} is damaged at {place}: {reason}; restore it from a backup")]
    Corrupt {
        /// The store, as its user named it.
        store: String,
        /// The key or file that is damaged.
        place: String,
        /// What was found.
        reason: String,
    },
    /// No room is left.
    #[error("no room to write to the store {store}: {reason}; free some space and open it again")]
    Full {
        /// The store, as its user named it.
        store: String,
        /// What the system said.
        reason: String,
    },
    /// The part is in use by another vat of this process.
    #[error(
        "part {part:?} of the store {store} is in use by a live vat; close that vat first, or use another part"
    )]
    PartInUse {
        /// The store, as its user named it.
        store: String,
        /// Name of the part.
        part: String,
    },
    /// An older state that is not kept.
    #[error("the store {store} has no generation {generation} of its part {part:?}: {kept}")]
    NoSuchGeneration {
        /// The store, as its user named it.
        store: String,
        /// Name of the part.
        part: String,
        /// What was asked for.
        generation: i128,
        /// What there is.
        kept: Kept,
    },
    /// A store to copy into holds something.
    #[error(
        "the store {store} is not empty: it has the part(s) {}; copy into a new store, at another path",
        .parts.join(", ")
    )]
    NotEmpty {
        /// The store, as its user named it.
        store: String,
        /// Names of its parts.
        parts: Vec<String>,
    },
    /// The store is being copied into.
    #[error("the store {store} is just being filled by copy_store; wait until that is done")]
    BeingFilled {
        /// The store, as its user named it.
        store: String,
    },
    /// Whoever collects the store wants to collect it in the midst of that.
    #[error(
        "the store {store} is being collected by this thread, and this would wait for itself: collect it when that is \
         done"
    )]
    BeingCollected {
        /// The store, as its user named it.
        store: String,
    },
    /// A view of a moment is not written to.
    #[error("this view of the store {store} shows it as it was at one moment, and can't be written to")]
    ReadOnly {
        /// The store, as its user named it.
        store: String,
    },
    /// The store belongs to the process that this one was forked from.
    #[error(
        "the store {store} belongs to the process that this one was forked from: open stores in the child only, or \
         start workers with the 'spawn' method"
    )]
    Forked {
        /// The store, as its user named it.
        store: String,
    },
    /// Anything else the system said.
    #[error("the store {store} failed while {doing}: {reason}")]
    Failed {
        /// The store, as its user named it.
        store: String,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        reason: String,
    },
}

/// Who has a store, and what to do.
fn holder(pid: &u32, host: &str, command: &str, here: &Option<String>) -> String {
    let what = if command.is_empty() { "an unknown command" } else { command };
    match (pid, here) {
        (_, Some(object)) => format!(
            "this process ({pid} on {host}, {what}): it is open as {object}; use that object, or close it first"
        ),
        (0, None) => {
            "another process, which does not say who it is; a store has one owner at a time: close it \
                       there, or use another path"
                .to_owned()
        }
        (_, None) => format!(
            "process {pid} on {host} ({what}); a store has one owner at a time: close it there, or use another path"
        ),
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put this value under this key.
    Put(Vec<u8>, Vec<u8>),
    /// Remove this key, which may be absent.
    Delete(Vec<u8>),
}

/// Changes that are made all together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// A batch without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change::Put(key, value));
    }

    /// Adds a removal.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push(Change::Delete(key));
    }

    /// The changes, in the order in which they are made: of two on one key the later wins.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Called with each key and value of a scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered map of bytes with atomic batches and one ordered log.
///
/// All methods may be called from any thread at once. After [`Store::write`] returns, every reader sees
/// the whole batch. After [`Store::sync`] returns, every batch whose write had returned before the call
/// is on disk. After a crash the store holds a *prefix* of the batches, in the order of their writes:
/// never a later batch without an earlier one, never a part of a batch.
///
/// An error of `write` or `sync` leaves it unknown whether the batches in flight were kept: the caller
/// must stop trusting its memory (guarantee G9).
pub trait Store: Send + Sync + 'static {
    /// The store's name in messages: its path, or `memory`.
    fn name(&self) -> String;

    /// The value under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits all keys from `start` (inclusive) to `end` (exclusive), in ascending order of bytes, until
    /// `visit` breaks.
    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError>;

    /// Makes a batch, atomically, and appends it to the log. Does not wait for the disk.
    fn write(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Waits until all that was written before is durable.
    fn sync(&self) -> Result<(), StoreError>;

    /// Whether results wait for [`Store::sync`]. If not, a crash of the *machine* may lose the last
    /// batches (a crash of the process does not).
    fn syncs(&self) -> bool;

    /// The store as it is at this moment, to be read only: [`Store::write`] is [`StoreError::ReadOnly`] there. It
    /// costs little, whatever the size of the store, and keeps from being freed what was written before. It ends
    /// with its own [`Store::close`], and with that of the store: then every call is [`StoreError::Closed`].
    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError>;

    /// Gives back the room of what was removed between two keys. May take long. Does nothing where there is nothing
    /// to give back.
    fn compact(&self, start: &[u8], end: &[u8]) -> Result<(), StoreError> {
        let _ = (start, end);
        Ok(())
    }

    /// Ends what [`Store::compact`] does, since the store is about to be closed.
    fn stop_compacting(&self) {}

    /// Whether it has something that others wait for, such as a lock, until it is closed.
    fn is_held(&self) -> bool {
        false
    }

    /// Makes durable what was written, then lets go of all resources, the lock and the snapshots among them. A
    /// second call does nothing; every other call afterwards is [`StoreError::Closed`].
    fn close(&self) -> Result<(), StoreError>;
}

impl fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.name())
    }
}
