//! A store has one owner: who it is stands in the file `OWNER`, which the owner holds locked.
//!
//! The lock is the system's, so it ends with its process however that ends. The file itself stays: to
//! remove it would let two processes lock two files of one name. Whoever removes it by hand is stopped by the lock
//! that RocksDB has of its own.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use goblins_core::store::StoreError;

use parking_lot::Mutex;
use rustix::process::Pid;

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

/// Name of the file that RocksDB locks.
const LOCK: &str = "LOCK";

/// How long one who has just got the lock may take to write who he is, where the system does not tell.
const PATIENCE: Duration = Duration::from_secs(2);

impl Lock {
    /// Takes the lock of a folder, or tells who has it. Nothing is written into the file.
    pub(crate) fn take(folder: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        take(folder, &options).map_err(|failed| failed.tell(folder, ADVICE))
    }

    /// Takes the lock of a folder if it has a file for that; none is made. `write`: it may be signed.
    pub(crate) fn take_if_there(folder: &Path, write: bool) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        match take(folder, &options) {
            Ok(lock) => Ok(lock),
            Err(Failed::System(error)) if error.kind() == ErrorKind::NotFound => {
                Ok(Self { file: Arc::default() })
            }
            Err(failed) => Err(failed.tell(folder, if write { ADVICE } else { "" })),
        }
    }

    /// Before it is locked: a child forked at any time later finds the file.
    fn around(file: File) -> Self {
        let file = Arc::new(Mutex::new(Some(file)));
        let mut held = HELD.lock();
        held.retain(|handle| handle.strong_count() > 0);
        held.push(Arc::downgrade(&file));
        Self { file }
    }

    /// Whether there was a file to lock.
    pub(crate) fn is_taken(&self) -> bool {
        self.file.lock().is_some()
    }

    /// Writes who has the lock.
    pub(crate) fn sign(&self, folder: &Path) -> Result<(), StoreError> {
        let file = self.file.lock();
        let Some(mut file) = file.as_ref() else {
            return Ok(());
        };
        let owner = format!("{}\n{}\n{}\n", std::process::id(), host(), command());
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(owner.as_bytes()));
        written.map_err(|error| Failed::System(error).tell(folder, "; free some space, or use another path"))
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

/// Refuses a folder whose RocksDB is in use: its `OWNER` was removed meanwhile. Where the system does not tell, RocksDB
/// itself refuses, and [`is_locked`] knows its error.
pub(crate) fn check_rocksdb(folder: &Path) -> Result<(), StoreError> {
    let holder = std::fs::metadata(folder.join(LOCK)).ok().and_then(|file| told_by_system("POSIX", &file));
    match holder {
        Some(pid) => Err(locked(folder, Owner::of_process(pid))),
        None => Ok(()),
    }
}

/// Whether RocksDB says that somebody else has the database.
pub(crate) fn is_locked(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    text.contains("lock hold by current process") || text.contains("lock file")
}

/// The error for a database that RocksDB finds locked.
pub(crate) fn locked_by_rocksdb(folder: &Path) -> StoreError {
    check_rocksdb(folder).err().unwrap_or_else(|| locked(folder, Owner::default()))
}

const ADVICE: &str = "; make the folder writable, or use another path";

enum Failed {
    Held(Owner),
    System(std::io::Error),
    /// This is a forked child, and was not when it began.
    Forked,
}

impl Failed {
    fn tell(self, folder: &Path, advice: &str) -> StoreError {
        match self {
            Self::Held(owner) => locked(folder, owner),
            Self::Forked => StoreError::Forked { store: folder.display().to_string() },
            Self::System(error) => {
                let path = folder.to_owned();
                refused(folder, &error, |reason| StoreError::Unusable {
                    path,
                    reason: format!("can't lock it: {reason}{advice}"),
                })
            }
        }
    }
}

fn take(folder: &Path, options: &OpenOptions) -> Result<Lock, Failed> {
    let path = folder.join(OWNER);
    let (begun, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        let lock = Lock::around(options.open(&path).map_err(Failed::System)?);
        let owner = {
            let file = lock.file.lock();
            let file = file.as_ref().ok_or(Failed::Forked)?;
            let metadata = file.metadata().map_err(Failed::System)?;
            match file.try_lock() {
                Ok(()) if is_there(&path, &metadata) => None,
                // It was removed, and may have been made anew by another process.
                Ok(()) => continue,
                Err(TryLockError::Error(error)) => return Err(Failed::System(error)),
                Err(TryLockError::WouldBlock) => {
                    Some((Owner::read(file), told_by_system("FLOCK", &metadata)))
                }
            }
        };
        match owner {
            None => return Ok(lock),
            Some((written, Some(pid))) => {
                let written = written.filter(|owner| owner.pid == pid);
                return Err(Failed::Held(written.unwrap_or_else(|| Owner::of_process(pid))));
            }
            // The owner may not have written yet who he is: then it says nothing, or who it was before.
            Some((written, None)) => {
                let may_be = written.as_ref().is_some_and(Owner::may_be_alive);
                if may_be || begun.elapsed() > PATIENCE {
                    return Err(Failed::Held(written.unwrap_or_default()));
                }
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn is_there(path: &Path, file: &Metadata) -> bool {
    std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

/// Who has a store; process 0: it is not known.
#[derive(Debug, Default)]
struct Owner {
    pid: u32,
    host: String,
    command: String,
}

impl Owner {
    /// What stands in the file, if that is all of it.
    fn read(mut file: &File) -> Option<Self> {
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let pid = lines.next()?.parse().ok()?;
        Some(Self { pid, host: lines.next()?.to_owned(), command: lines.next()?.to_owned() })
    }

    fn of_process(pid: u32) -> Self {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = words.strip_suffix(&[0]).unwrap_or(&words);
        let command = String::from_utf8_lossy(words).replace(['\0', '\n'], " ");
        Self { pid, host: host(), command }
    }

    fn may_be_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        self.host != host()
            || pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    }
}

fn locked(folder: &Path, owner: Owner) -> StoreError {
    let here = owner.pid == std::process::id() && owner.host == host();
    let here = here.then(|| "another object".to_owned());
    let Owner { pid, host, command } = owner;
    StoreError::Locked { path: folder.to_owned(), pid, host, command, here }
}

/// The process that has a lock of this kind on a file, if the system tells: Linux does.
fn told_by_system(kind: &str, file: &Metadata) -> Option<u32> {
    let device = file.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        // One who waits for a lock has an arrow before its kind.
        let (found, pid, place) = (words.next()?, words.nth(2)?, words.next()?);
        let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
        (found == kind && place == wanted).then_some(pid)
    })
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn command() -> String {
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().replace('\n', " ")).collect();
    words.join(" ")
}
