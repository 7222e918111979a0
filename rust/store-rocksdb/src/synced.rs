//! How far the log is known to be on disk, in a file of its own.
//!
//! A damaged end of the log can't be told from one that was torn when the machine lost power: recovery cuts off
//! both, and what was acknowledged would be lost without a word. So the number of the last batch that was synced is
//! noted here, after each sync; and an opening that finds less in the store than that is refused.
//!
//! The file is written but not synced itself. After a loss of power it may be older than the log: then less is
//! checked. It is never newer, since it is written after the log was on disk.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use goblins_core::schema;
use goblins_core::store::StoreError;
use parking_lot::Mutex;

/// Name of the file.
pub(crate) const SYNCED: &str = "SYNCED";

/// The file, and the highest number that was noted.
pub(crate) struct Synced {
    file: File,
    highest: Mutex<u64>,
}

impl Synced {
    /// Opens the file of a folder, and makes it if it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(folder.join(SYNCED)).map_err(|error| failed(folder, &error))?;
        let highest = Mutex::new(read(folder, &file)?.number);
        Ok(Self { file, highest })
    }

    /// What stands in the file of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Highest, StoreError> {
        match File::open(folder.join(SYNCED)) {
            Ok(file) => read(folder, &file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Highest { number: 0 }),
            Err(error) => Err(failed(folder, &error)),
        }
    }

    /// Refuses a store in which something is missing; `found`: the number of the last batch in it.
    pub(crate) fn check(&self, folder: &Path, found: u64) -> Result<(), StoreError> {
        Highest { number: *self.highest.lock() }.check(folder, found)
    }

    /// Notes that all up to `number` is on disk. An error is no harm: less will be checked.
    pub(crate) fn note(&self, number: u64) {
        let mut highest = self.highest.lock();
        if number > *highest {
            let value = schema::seal(SYNCED.as_bytes(), number.to_le_bytes().to_vec());
            if self.file.write_all_at(&value, 0).is_ok() {
                *highest = number;
            }
        }
    }
}

/// The number of the last batch that is known to be on disk.
pub(crate) struct Highest {
    number: u64,
}

impl Highest {
    /// Refuses a store in which something is missing; `found`: the number of the last batch in it.
    pub(crate) fn check(&self, folder: &Path, found: u64) -> Result<(), StoreError> {
        let highest = self.number;
        if found >= highest {
            return Ok(());
        }
        Err(StoreError::Corrupt {
            store: folder.display().to_string(),
            place: "the end of its log".to_owned(),
            reason: format!(
                "changes up to number {highest} were on disk, and only those up to {found} can be read (remove the \
                 file SYNCED in it to go on without them)"
            ),
        })
    }
}

fn read(folder: &Path, mut file: &File) -> Result<Highest, StoreError> {
    let mut value = Vec::new();
    file.read_to_end(&mut value).map_err(|error| failed(folder, &error))?;
    // It is empty if the machine lost power soon after it was made.
    if value.is_empty() {
        return Ok(Highest { number: 0 });
    }
    let content = schema::open(SYNCED, SYNCED.as_bytes(), &value).ok();
    match content.and_then(|content| content.try_into().ok()) {
        Some(number) => Ok(Highest { number: u64::from_le_bytes(number) }),
        None => Err(StoreError::Corrupt {
            store: folder.display().to_string(),
            place: "its file SYNCED".to_owned(),
            reason: "its checksum does not fit (remove that file to open the store unchecked)".to_owned(),
        }),
    }
}

fn failed(folder: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Failed {
        store: folder.display().to_string(),
        doing: "opening the file SYNCED in it",
        reason: error.to_string(),
    }
}
