//! How much of a store is known to be on disk, in a file of its own.
//!
//! RocksDB cuts off the end of its log, and of the list of its files, if that can't be read: a machine that lost power
//! may leave it torn, and nobody had been told that it was there. But damage to what was on disk looks the same, and
//! what was acknowledged would be lost without a word. So it is noted here, after each sync, what was on disk then;
//! and an opening that finds less is refused.
//!
//! The file is written, but not synced itself. After a loss of power it may be older than the store: then less is
//! checked. It is never newer, since it is written after the rest was on disk.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use goblins_core::schema::{self, Reader, put_varint};
use goblins_core::store::StoreError;
use parking_lot::Mutex;

use crate::errors::refused;

/// Name of the file.
pub(crate) const SYNCED: &str = "SYNCED";

/// As much is read of a file at a time.
const PIECE: usize = 64 << 10;

/// What is known to be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The number of the last change.
    changes: u64,
    /// The number of the manifest, RocksDB's list of its files; 0: none is noted.
    manifest: u64,
    /// Its length.
    len: u64,
    /// CRC-32C of so much of it.
    sum: u32,
}

/// The file of a store that is open.
pub(crate) struct Synced {
    file: File,
    state: Mutex<State>,
}

struct State {
    noted: Noted,
    /// The manifest that the store has since it was opened.
    manifest: Option<File>,
}

impl Noted {
    /// What stands in the file of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self, StoreError> {
        match File::open(folder.join(SYNCED)) {
            Ok(file) => Self::read_from(folder, &file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(folder, &error)),
        }
    }

    fn read_from(folder: &Path, file: &File) -> Result<Self, StoreError> {
        let mut value = Vec::new();
        // A file that is longer is none that was written here, and may have no end.
        file.take(PIECE as u64).read_to_end(&mut value).map_err(|error| failed(folder, &error))?;
        // It is empty if the machine lost power soon after it was made.
        if value.is_empty() {
            return Ok(Self::default());
        }
        let content = schema::open(SYNCED, SYNCED.as_bytes(), &value).ok();
        content.and_then(Self::decode).ok_or_else(|| {
            corrupt(
                folder,
                "its file SYNCED",
                "its checksum does not fit; without that file, less is checked",
            )
        })
    }

    fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.changes, self.manifest, self.len, u64::from(self.sum)] {
            put_varint(&mut out, number);
        }
        // Always as long: what is written later must cover what stands there.
        out.resize(4 * 10, 0);
        out
    }

    fn decode(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        Some(Self {
            changes: reader.varint()?,
            manifest: reader.varint()?,
            len: reader.varint()?,
            sum: u32::try_from(reader.varint()?).ok()?,
        })
    }

    /// Refuses a store whose list of files is not what was noted. To be called before RocksDB opens it, which makes a
    /// new list.
    pub(crate) fn check_manifest(&self, store: &Path, folder: &Path) -> Result<(), StoreError> {
        // With another one than was noted, the store was being opened when its process ended.
        let Some((number, file)) = current_manifest(folder).filter(|(number, _)| *number == self.manifest)
        else {
            return Ok(());
        };
        let sum = checksum(&file, 0, self.len, 0).map_err(|error| failed(store, &error))?;
        if sum == Some(self.sum) {
            return Ok(());
        }
        let place = format!("its file {}", manifest_name(number));
        Err(corrupt(store, &place, "it is not what was written"))
    }

    /// Refuses a store in which changes are missing; `found`: the number of the last one.
    pub(crate) fn check_changes(&self, folder: &Path, found: u64) -> Result<(), StoreError> {
        let changes = self.changes;
        if found >= changes {
            return Ok(());
        }
        let reason = format!(
            "changes up to number {changes} were on disk, and only those up to {found} can be read (without its file \
             SYNCED it would open, and they would be lost)"
        );
        Err(corrupt(folder, "the end of its log", &reason))
    }
}

impl Synced {
    /// Opens the file of a folder, and makes it if it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(folder.join(SYNCED)).map_err(|error| failed(folder, &error))?;
        let noted = Noted::read_from(folder, &file)?;
        Ok(Self { file, state: Mutex::new(State { noted, manifest: None }) })
    }

    /// Watches the manifest from now on: RocksDB has just made it.
    pub(crate) fn follow_manifest(&self, folder: &Path) {
        let mut state = self.state.lock();
        if let Some((number, file)) = current_manifest(folder) {
            state.manifest = Some(file);
            let changes = state.noted.changes;
            state.noted = Noted { changes, manifest: number, len: 0, sum: 0 };
        }
        drop(state);
        self.note(0);
    }

    /// Notes that all changes up to `number` are on disk. An error is no harm: less will be checked.
    pub(crate) fn note(&self, number: u64) {
        let mut state = self.state.lock();
        let mut noted = state.noted;
        noted.changes = noted.changes.max(number);
        if let Some(manifest) = &state.manifest {
            grow(manifest, &mut noted);
        }
        if noted != state.noted {
            let value = schema::seal(SYNCED.as_bytes(), noted.encode());
            if self.file.write_all_at(&value, 0).is_ok() {
                state.noted = noted;
            }
        }
    }
}

/// Notes what was added to the manifest, which happens seldom; it is made durable before.
fn grow(manifest: &File, noted: &mut Noted) {
    let Some(len) = manifest.metadata().ok().map(|metadata| metadata.len()).filter(|len| *len > noted.len)
    else {
        return;
    };
    if manifest.sync_data().is_ok()
        && let Ok(Some(sum)) = checksum(manifest, noted.len, len, noted.sum)
    {
        (noted.len, noted.sum) = (len, sum);
    }
}

/// The CRC-32C of a stretch of a file, after what comes before; `None` if the file is shorter.
fn checksum(file: &File, from: u64, to: u64, before: u32) -> std::io::Result<Option<u32>> {
    let (mut at, mut sum) = (from, before);
    let mut piece = vec![0; PIECE];
    while at < to {
        let left = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let read = file.read_at(&mut piece[..left], at)?;
        if read == 0 {
            return Ok(None);
        }
        sum = crc32c::crc32c_append(sum, &piece[..read]);
        at += read as u64;
    }
    Ok(Some(sum))
}

fn manifest_name(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

/// Number and file of the manifest that the file CURRENT names. RocksDB finds out what is wrong with that.
fn current_manifest(folder: &Path) -> Option<(u64, File)> {
    let current = std::fs::read_to_string(folder.join("CURRENT")).ok()?;
    let number = current.trim_end().strip_prefix("MANIFEST-")?.parse().ok()?;
    Some((number, File::open(folder.join(manifest_name(number))).ok()?))
}

fn corrupt(folder: &Path, place: &str, reason: &str) -> StoreError {
    let store = folder.display().to_string();
    StoreError::Corrupt { store, place: place.to_owned(), reason: reason.to_owned() }
}

fn failed(folder: &Path, error: &std::io::Error) -> StoreError {
    let store = folder.display().to_string();
    refused(folder, error, |reason| StoreError::Failed { store, doing: "looking at its files", reason })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_comes_back_and_always_has_the_same_length() {
        for noted in
            [Noted::default(), Noted { changes: u64::MAX, manifest: u64::MAX, len: u64::MAX, sum: u32::MAX }]
        {
            assert_eq!(noted.encode().len(), Noted::default().encode().len());
            assert_eq!(Noted::decode(&noted.encode()), Some(noted));
        }
    }

    #[test]
    fn a_file_that_grew_has_the_checksum_of_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 3 * PIECE + 5]).unwrap();
        let file = File::open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        let half = checksum(&file, 0, 1000, 0).unwrap().unwrap();
        assert_eq!(checksum(&file, 1000, len, half).unwrap(), checksum(&file, 0, len, 0).unwrap());
        assert_eq!(checksum(&file, 0, len + 1, 0).unwrap(), None);
    }
}
