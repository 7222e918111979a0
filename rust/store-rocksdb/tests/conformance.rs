//! RocksDB keeps the contract that every store keeps.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use goblins_core::conformance::{self, Reopen};
use goblins_core::store::Store;
use goblins_store_rocksdb::RocksStore;

struct Folder {
    folder: tempfile::TempDir,
    store: Option<Arc<RocksStore>>,
}

impl Folder {
    fn new() -> Self {
        let mut made = Self { folder: tempfile::tempdir().unwrap(), store: None };
        made.reopen();
        made
    }
}

impl Reopen for Folder {
    type Store = RocksStore;

    fn store(&self) -> Arc<RocksStore> {
        self.store.clone().unwrap()
    }

    fn reopen(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().unwrap();
        }
        self.store = Some(Arc::new(RocksStore::open(self.folder.path(), true).unwrap()));
    }
}

#[test]
fn the_rocksdb_store_keeps_the_contract() {
    conformance::run(Folder::new);
}
