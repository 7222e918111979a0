//! A store has one owner: who it is stands in the file `OWNER`, which the owner holds locked.
//!
//! The lock is the system's, so it ends with its process however that ends. The file itself stays: to
//! remove it would let two processes lock two files of one name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Weak};

use goblins_core::store::StoreError;

use parking_lot::Mutex;

use crate::errors::refused;

/// Held as long as the store is open.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Nothing for a folder that has no file to lock, and is only read.
    file: Handle,
}

type Handle = Arc<Mutex<Option<File>>>;

/// The locks of this process. A forked child inherits their files, and with these the locks.
static HELD: Mutex<Vec<Weak<Mutex<Option<File>>>>> = Mutex::new(Vec::new());

/// Lets go of the locks that a forked child has inherited; the parent still has them. To be called in the child: it
/// waits for nobody, since whoever holds a mutex there is not in this process.
pub fn leave_locks_to_parent() {
    let Some(held) = HELD.try_lock() else {
        return;
    };
    for handle in held.iter().filter_map(Weak::upgrade) {
        // Closing one of several descriptors does not unlock.
        let file = handle.try_lock().and_then(|mut file| file.take());
        drop(file);
    }
}

/// Name of the file that holds the lock.
pub(crate) const OWNER: &str = "OWNER";

impl Lock {
    /// Takes the lock of a folder, or tells who has it.
    pub(crate) fn take(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |error: std::io::Error| {
            refused(folder, &error, |reason| StoreError::Unusable {
                path: folder.to_owned(),
                reason: format!("can't lock it: {reason}; make the folder writable, or use another path"),
            })
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let lock = Self::around(options.open(folder.join(OWNER)).map_err(unusable)?);
        lock.lock(folder, unusable, |mut file| {
            let owner = format!("{}\n{}\n{}\n", std::process::id(), host(), command());
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(owner.as_bytes()))
        })?;
        Ok(lock)
    }

    /// Takes the lock of a folder that is only read, without writing who has it.
    pub(crate) fn take_quietly(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |reason: std::io::Error| StoreError::Unusable {
            path: folder.to_owned(),
            reason: format!("can't lock it: {reason}"),
        };
        let file = match File::open(folder.join(OWNER)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { file: Arc::default() });
            }
            Err(error) => return Err(unusable(error)),
        };
        let lock = Self::around(file);
        lock.lock(folder, unusable, |_| Ok(()))?;
        Ok(lock)
    }

    /// Before it is locked: a child forked at any time later finds the file.
    fn around(file: File) -> Self {
        let file = Arc::new(Mutex::new(Some(file)));
        let mut held = HELD.lock();
        held.retain(|handle| handle.strong_count() > 0);
        held.push(Arc::downgrade(&file));
        Self { file }
    }

    /// Locks the file, then does something with it.
    fn lock(
        &self,
        folder: &Path,
        unusable: impl Fn(std::io::Error) -> StoreError,
        then: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<(), StoreError> {
        let file = self.file.lock();
        let Some(file) = &*file else {
            return Err(StoreError::Forked { store: folder.display().to_string() });
        };
        match file.try_lock() {
            Ok(()) => then(file).map_err(unusable),
            Err(TryLockError::WouldBlock) => Err(held(folder, file)),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = self.file.lock().take() {
            // Closing it is not enough where a forked process has it still.
            let _ = file.unlock();
        }
    }
}

fn held(folder: &Path, mut file: &File) -> StoreError {
    let mut owner = String::new();
    // The owner may be writing just now: what can't be read is said to be unknown.
    let _ = file.read_to_string(&mut owner);
    let mut lines = owner.lines();
    let pid = lines.next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
    let host = lines.next().unwrap_or("an unknown host").to_owned();
    let command = lines.next().unwrap_or("an unknown command").to_owned();
    StoreError::Locked { path: folder.to_owned(), pid, host, command }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn command() -> String {
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().replace('\n', " ")).collect();
    words.join(" ")
}
