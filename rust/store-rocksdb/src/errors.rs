//! RocksDB's errors in the terms of the core.

use std::io::{self, ErrorKind as IoErrorKind};
use std::path::Path;

use goblins_core::store::StoreError;
use rocksdb::ErrorKind;

/// Translates what RocksDB said while `doing` something.
pub(crate) fn translate(path: &Path, doing: &'static str, error: &rocksdb::Error) -> StoreError {
    let store = path.display().to_string();
    let reason = error.to_string();
    let no_room = ["No space left", "uota exceeded"].iter().any(|text| reason.contains(text));
    match error.kind() {
        ErrorKind::Corruption if !no_room => {
            StoreError::Corrupt { store, place: format!("a file, while {doing}"), reason }
        }
        _ if no_room => StoreError::Full { store, reason },
        _ => StoreError::Failed { store, doing, reason },
    }
}

/// The error for what the system refused itself: want of room, or something else.
pub(crate) fn refused(
    path: &Path,
    error: &io::Error,
    otherwise: impl FnOnce(String) -> StoreError,
) -> StoreError {
    let reason = error.to_string();
    match error.kind() {
        IoErrorKind::StorageFull | IoErrorKind::QuotaExceeded => {
            StoreError::Full { store: path.display().to_string(), reason }
        }
        _ => otherwise(reason),
    }
}
