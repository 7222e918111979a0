//! How far the log is known to be on disk, in a file of its own.
//!
//! A damaged end of the log can't be told from one that was torn when the machine lost power: recovery cuts off
//! both, and what was acknowledged would be lost without a word. So the number of the last batch that was synced is
//! noted here, after each sync; and an opening that finds less in the store than that is refused.
//!
//! The file is written but not synced itself. After a loss of power it may be older than the log: then less is
//! checked. It is never newer, since it is written after the log was on disk.

use std::fs::{File, OpenOptions};
use std::io::Read;
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
        let store = || folder.display().to_string();
        let path = folder.join(SYNCED);
        let failed = |error: std::io::Error| StoreError::Failed {
            store: store(),
            doing: "opening the file SYNCED in it",
            reason: error.to_string(),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        let mut value = Vec::new();
        file.read_to_end(&mut value).map_err(failed)?;
        let damaged = || StoreError::Corrupt {
            store: store(),
            place: "its file SYNCED".to_owned(),
            reason: "its checksum does not fit (remove that file to open the store unchecked)".to_owned(),
        };
        // It is empty if the machine lost power soon after it was made.
        let highest = match value.is_empty() {
            true => 0,
            false => {
                let content = schema::open(&store(), SYNCED.as_bytes(), &value).map_err(|_| damaged())?;
                u64::from_le_bytes(content.try_into().map_err(|_| damaged())?)
            }
        };
        Ok(Self { file, highest: Mutex::new(highest) })
    }

    /// Refuses a store in which something is missing; `found`: the number of the last batch in it.
    pub(crate) fn check(&self, folder: &Path, found: u64) -> Result<(), StoreError> {
        let highest = *self.highest.lock();
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
