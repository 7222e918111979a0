//! How much of a store is read for one record.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use goblins_core::store::{Batch, Store};
use goblins_store_rocksdb::RocksStore;
use rocksdb::{BlockBasedOptions, DB, Options, SstFileWriter};

/// What a look-up may read: a record's block, with its part of the index and of the filter.
const LOOK_UP: u64 = 64 << 10;

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// How many bytes this thread reads from files in that time.
fn read_by(work: impl FnOnce()) -> u64 {
    let read = || {
        let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let before = read();
    work();
    // The looks themselves read some hundred bytes.
    read() - before
}

fn filled(folder: &Path, count: u64) {
    let store = RocksStore::open(folder, false).unwrap();
    for first in (0..count).step_by(10_000) {
        let mut batch = Batch::new();
        (first..first + 10_000)
            .for_each(|number| batch.put(key(number).to_vec(), number.to_be_bytes().to_vec()));
        store.write(&batch).unwrap();
    }
    store.compact(&key(0), &key(u64::MAX)).unwrap();
    store.close().unwrap();
}

#[test]
fn the_first_look_up_in_a_large_store_reads_a_few_blocks_only() {
    let folder = tempfile::tempdir().unwrap();
    // Their filter has 500 KB.
    filled(folder.path(), 400_000);
    let store = RocksStore::open(folder.path(), false).unwrap();
    let read = read_by(|| assert!(store.get(&key(123_456)).unwrap().is_some()));
    assert!(0 < read && read <= LOOK_UP, "{read}");
    let missing = read_by(|| assert!(store.get(&key(400_000)).unwrap().is_none()));
    assert!(missing <= LOOK_UP, "{missing}");
    store.close().unwrap();
}

/// A table with a filter of one piece, as older versions made them.
fn filled_as_before(folder: &Path, count: u64) {
    let mut tables = BlockBasedOptions::default();
    // Ten times as many bits as were taken, for a filter of 8 MB without millions of records.
    tables.set_bloom_filter(100.0, false);
    tables.set_format_version(6);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&tables);
    let beside = tempfile::tempdir().unwrap();
    let table = beside.path().join("table.sst");
    let mut writer = SstFileWriter::create(&options);
    writer.open(&table).unwrap();
    (0..count).for_each(|number| writer.put(key(number), number.to_be_bytes()).unwrap());
    writer.finish().unwrap();
    let db = DB::open(&options, folder).unwrap();
    db.ingest_external_file(vec![table]).unwrap();
}

#[test]
fn the_large_filter_of_an_old_table_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    filled_as_before(folder.path(), 600_000);
    let store = RocksStore::open(folder.path(), false).unwrap();
    let first = read_by(|| assert!(store.get(&key(123_456)).unwrap().is_some()));
    assert!(first > 7_000_000, "{first}");
    for number in (0..600_000).step_by(50_000) {
        let read = read_by(|| assert!(store.get(&key(number)).unwrap().is_some()));
        assert!(read <= LOOK_UP, "{read}");
    }
    store.close().unwrap();
}
