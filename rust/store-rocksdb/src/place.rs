//! Where the files of an open store are. Whoever removes or moves the folder of a live store leaves RocksDB its open
//! files: it writes on, to what nobody will find again. So it is looked now and then whether they are there still.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// Where nothing is synced, it is looked at most once in so many milliseconds.
const SELDOM: u64 = 10;

/// The folder of an open store, and the log that is written to.
#[derive(Debug)]
pub(crate) struct Place {
    /// Without links: another folder may be put under the name that was given.
    path: PathBuf,
    /// Held open, so that its number is given to no other.
    _folder: File,
    number: (u64, u64),
    log: Mutex<Option<Log>>,
    opened: Instant,
    looked: AtomicU64,
}

#[derive(Debug)]
struct Log {
    number: u64,
    file: File,
}

impl Place {
    /// Remembers a folder whose database is open.
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        let folder = File::open(path)?;
        let number = number(&folder.metadata()?);
        let log = Mutex::new(newest_log(path));
        let path = path.to_owned();
        Ok(Self { path, _folder: folder, number, log, opened: Instant::now(), looked: AtomicU64::new(0) })
    }

    /// Whether the files are where they were.
    pub(crate) fn is_there(&self) -> bool {
        let found = std::fs::metadata(&self.path).is_ok_and(|found| number(&found) == self.number);
        found && self.has_log()
    }

    /// As [`Place::is_there`], and true without a look if there was one just before.
    pub(crate) fn seems_there(&self) -> bool {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.looked.load(Ordering::Relaxed) + SELDOM {
            return true;
        }
        self.looked.store(now, Ordering::Relaxed);
        self.is_there()
    }

    /// A log that is full is followed by another, and removed.
    fn has_log(&self) -> bool {
        let mut log = self.log.lock();
        let Some(known) = &*log else {
            return true;
        };
        if known.file.metadata().is_ok_and(|found| found.nlink() > 0) {
            return true;
        }
        let newer = newest_log(&self.path).filter(|found| found.number > known.number);
        let found = newer.is_some();
        if found {
            *log = newer;
        }
        found
    }
}

fn number(folder: &Metadata) -> (u64, u64) {
    (folder.dev(), folder.ino())
}

fn newest_log(path: &Path) -> Option<Log> {
    let names = std::fs::read_dir(path).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let number = names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).max()?;
    let file = File::open(path.join(format!("{number:06}.log"))).ok()?;
    Some(Log { number, file })
}
