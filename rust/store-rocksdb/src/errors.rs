//! RocksDB's errors in the terms of the core.

use std::path::Path;

use goblins_core::store::StoreError;
use rocksdb::ErrorKind;

/// Translates what RocksDB said while `doing` something.
pub(crate) fn translate(path: &Path, doing: &'static str, error: &rocksdb::Error) -> StoreError {
    let store = path.display().to_string();
    let reason = error.to_string();
    let no_room = reason.contains("No space left") || reason.contains("Quota exceeded");
    match error.kind() {
        ErrorKind::Corruption => {
            StoreError::Corrupt { store, place: format!("a file, while {doing}"), reason }
        }
        ErrorKind::IOError | ErrorKind::Aborted if no_room => StoreError::Full { store, reason },
        _ => StoreError::Failed { store, doing, reason },
    }
}
