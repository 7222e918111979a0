//! A store has one owner: who it is stands in the file `OWNER`, which the owner holds locked.
//!
//! The lock is the system's, so it ends with its process however that ends. The file itself stays: to
//! remove it would let two processes lock two files of one name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use goblins_core::store::StoreError;

/// Held as long as the store is open.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Nothing for a folder that has no file to lock, and is only read.
    _file: Option<File>,
}

/// Name of the file that holds the lock.
pub(crate) const OWNER: &str = "OWNER";

impl Lock {
    /// Takes the lock of a folder, or tells who has it.
    pub(crate) fn take(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |reason: std::io::Error| StoreError::Unusable {
            path: folder.to_owned(),
            reason: format!("can't lock it: {reason}; make the folder writable, or use another path"),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(folder.join(OWNER)).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(folder, &mut file)),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let owner = format!("{}\n{}\n{}\n", std::process::id(), host(), command());
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(owner.as_bytes()));
        written.map_err(unusable)?;
        Ok(Self { _file: Some(file) })
    }

    /// Takes the lock of a folder that is only read, without writing who has it.
    pub(crate) fn take_quietly(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |reason: std::io::Error| StoreError::Unusable {
            path: folder.to_owned(),
            reason: format!("can't lock it: {reason}"),
        };
        let mut file = match File::open(folder.join(OWNER)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self { _file: None }),
            Err(error) => return Err(unusable(error)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(held(folder, &mut file)),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }
}

fn held(folder: &Path, file: &mut File) -> StoreError {
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
