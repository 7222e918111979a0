//! Churns into RocksDB, beside the least that such a churn could cost.
#![allow(clippy::expect_used, reason = "a bench that can't go on panics")]

use std::cell::LazyCell;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use goblins_benches::setup::{self, AT_ONCE, StoredVat, storage};
use goblins_core::storage::Storage;
use goblins_core::store::{Batch, Change, Store};
use goblins_core::toy::Toy;
use goblins_store_rocksdb::RocksStore;
use tempfile::TempDir;

/// The actors that are stored but not changed, where it matters whether there are many.
const MANY_OTHERS: u64 = 100_000;
const CALLERS: u64 = 64;

fn main() {
    let mut criterion = setup::criterion();
    unsynced(&mut criterion);
    many_changed(&mut criterion);
    synced(&mut criterion);
    criterion.final_summary();
}

/// A store in a folder that goes with it.
struct Folder {
    storage: Arc<Storage<Toy>>,
    path: PathBuf,
    sync: bool,
    _folder: TempDir,
}

impl Folder {
    fn new(sync: bool) -> Self {
        let folder = folder();
        let path = folder.path().join("store");
        Self { storage: storage(rocks(&path, sync)), path, sync, _folder: folder }
    }

    fn found(&self, part: &str, counters: u64, others: u64) -> StoredVat {
        StoredVat::found(&self.storage, part, counters, others)
    }

    /// Closes the store and opens it again.
    fn reopen(&mut self) {
        self.storage.close(()).expect("the store should close");
        self.storage = storage(rocks(&self.path, self.sync));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.storage.close(()).expect("the store should close");
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder should be made; TMPDIR says where")
}

fn rocks(path: impl AsRef<std::path::Path>, sync: bool) -> RocksStore {
    RocksStore::open(path, sync).expect("the store should open in a new folder")
}

/// One changed actor in a churn, with `sync=False`.
fn unsynced(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn_unsynced");
    group.throughput(Throughput::Elements(1));
    bare_batch(&mut group, "bare_batch", 1);
    let few = LazyCell::new(|| {
        let folder = Folder::new(false);
        (folder.found("main", 1, 1), folder)
    });
    group.bench_function("with_1_other", |bencher| bencher.iter(|| few.0.change_one()));

    // Made once: first the others are in memory, then they are in the store only.
    let mut many = None;
    let found = || {
        let folder = Folder::new(false);
        (folder.found("main", 1, MANY_OTHERS), folder)
    };
    group.bench_function("with_100000_others_in_memory", |bencher| {
        let (vat, _) = many.get_or_insert_with(found);
        bencher.iter(|| vat.change_one());
    });
    let ghosts = LazyCell::new(|| {
        let (vat, mut folder) = many.take().unwrap_or_else(found);
        drop(vat);
        folder.reopen();
        (StoredVat::reopen(&folder.storage, "main"), folder)
    });
    group.bench_function("with_100000_others_as_ghosts", |bencher| bencher.iter(|| ghosts.0.change_one()));
    group.finish();
}

/// Many changed actors in a churn, with `sync=False`.
fn many_changed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn_unsynced_1000_changed");
    group.throughput(Throughput::Elements(AT_ONCE));
    bare_batch(&mut group, "bare_batch", AT_ONCE);
    let vat = LazyCell::new(|| {
        let folder = Folder::new(false);
        (folder.found("main", AT_ONCE, 1), folder)
    });
    group.bench_function("churn", |bencher| bencher.iter(|| vat.0.change_all()));
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// The bytes of a churn as a batch of RocksDB, and nothing else.
fn bare_batch(group: &mut Group<'_>, name: &str, counters: u64) {
    let bare = LazyCell::new(|| {
        let folder = folder();
        (rocks(folder.path(), false), setup::batch(counters), folder)
    });
    group.bench_function(name, |bencher| {
        let (store, batch, _) = &*bare;
        bencher.iter(|| store.write(batch).expect("the batch should be written"));
    });
}

/// One changed actor in a churn, with `sync=True`: one caller, and many at once.
fn synced(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("churn_synced");
    group.throughput(Throughput::Elements(1));

    let plain = LazyCell::new(|| {
        let folder = folder();
        let file = File::create(folder.path().join("log")).expect("the file should be made");
        (file, bytes(&setup::batch(1)), folder)
    });
    group.bench_function("plain_file_append_and_fdatasync", |bencher| {
        let (file, bytes, _) = &*plain;
        bencher.iter(|| {
            (&mut &*file).write_all(bytes).expect("the file should take more");
            file.sync_data().expect("the file should reach the disk");
        });
    });

    let bare = LazyCell::new(|| {
        let folder = folder();
        (rocks(folder.path(), true), setup::batch(1), folder)
    });
    group.bench_function("bare_batch", |bencher| {
        let (store, batch, _) = &*bare;
        bencher.iter(|| {
            store.write(batch).expect("the batch should be written");
            store.sync().expect("the log should reach the disk");
        });
    });

    let one_vat = LazyCell::new(|| {
        let folder = Folder::new(true);
        (folder.found("main", 1, 1), folder)
    });
    group.bench_function("1_caller", |bencher| bencher.iter(|| one_vat.0.change_one()));
    group.bench_function("64_callers_of_one_vat", |bencher| {
        let (vat, _) = &*one_vat;
        bencher.iter_custom(|n| callers(n, |_| vat.change_one()));
    });

    let vats = LazyCell::new(|| {
        let folder = Folder::new(true);
        let vats: Vec<_> = (0..CALLERS).map(|part| folder.found(&part.to_string(), 1, 1)).collect();
        (vats, folder)
    });
    group.bench_function("64_callers_of_64_vats", |bencher| {
        let (vats, _) = &*vats;
        bencher.iter_custom(|n| callers(n, |caller| vats[caller].change_one()));
    });
    group.finish();
}

fn bytes(batch: &Batch) -> Vec<u8> {
    let mut bytes = Vec::new();
    for change in batch.changes() {
        match change {
            Change::Put(key, value) => [key, value].iter().for_each(|part| bytes.extend_from_slice(part)),
            Change::Delete(key) => bytes.extend_from_slice(key),
        }
    }
    bytes
}

/// The time of so many calls, made by all callers at once.
fn callers(calls: u64, call: impl Fn(usize) + Sync) -> Duration {
    let calls_of_each = calls.div_ceil(CALLERS);
    let barrier = Barrier::new(CALLERS as usize + 1);
    let (call, barrier) = (&call, &barrier);
    let elapsed = thread::scope(|scope| {
        for caller in 0..CALLERS as usize {
            scope.spawn(move || {
                barrier.wait();
                (0..calls_of_each).for_each(|_| call(caller));
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    });
    // So many were asked for; each caller made a whole number.
    elapsed.mul_f64(calls as f64 / (calls_of_each * CALLERS) as f64)
}
