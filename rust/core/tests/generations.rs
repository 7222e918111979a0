//! Looking back at what a part of a store was (STO-09, STO-14), and copying stores (STO-16).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{ToyVat, add, found, get, held, open, reopen, runtime};
use goblins_core::collecting::Pace;
use goblins_core::copying::copy;
use goblins_core::error::KernelError;
use goblins_core::faulty::FaultyStore;
use goblins_core::memory::MemoryStore;
use goblins_core::pool::Runtime;
use goblins_core::storage::{Storage, StorageOptions};
use goblins_core::store::{Batch, Store, StoreError};
use goblins_core::toy::{Actor, Fault, Toy, Value, call, cell, counter, list, spawn};

struct Shelf {
    store: Arc<FaultyStore<MemoryStore>>,
    runtime: Arc<Runtime<Toy>>,
}

impl Shelf {
    fn new() -> Self {
        Self { store: Arc::new(FaultyStore::new(MemoryStore::new(), false)), runtime: runtime() }
    }

    fn keeping(&self, keep_generations: u64) -> Arc<Storage<Toy>> {
        let options = StorageOptions { keep_generations, auto_collect: false };
        Storage::open_with(self.store.clone(), options).unwrap()
    }

    fn found(&self, keep: u64) -> (Arc<Storage<Toy>>, ToyVat, Actor) {
        let storage = self.keeping(keep);
        let (vat, [root]) = found(&self.runtime, &storage, "main", [counter(0)]);
        (storage, vat, root)
    }

    fn value_at(&self, storage: &Arc<Storage<Toy>>, generation: i128) -> i64 {
        let view = storage.at("main", generation).unwrap();
        get(&reopen::<1>(&self.runtime, &view, "main").1[0])
    }
}

fn numbers(storage: &Storage<Toy>) -> Vec<u64> {
    storage.generations("main").unwrap().iter().map(|generation| generation.number).collect()
}

fn all(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    store
        .scan(&[], &[0xff], &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

#[test]
fn the_last_generations_can_be_read_and_older_ones_are_gone() {
    let shelf = Shelf::new();
    let (storage, _vat, root) = shelf.found(3);
    for _ in 0..9 {
        add(&root, 1).unwrap();
    }
    assert_eq!(numbers(&storage), [7, 8, 9, 10]);
    for generation in 7..=10 {
        assert_eq!(shelf.value_at(&storage, generation), i64::try_from(generation).unwrap() - 1);
    }
    for generation in [-1, 0, 6, 11] {
        let error = storage.at("main", generation).unwrap_err();
        assert!(error.to_string().ends_with("it keeps 7 to 10"), "{error}");
    }
    // The vat goes on.
    assert_eq!(add(&root, 1).unwrap(), 10);
    assert_eq!(numbers(&storage), [8, 9, 10, 11]);
}

#[test]
fn a_generation_tells_its_time_and_how_many_records_it_changed() {
    let shelf = Shelf::new();
    let (storage, _vat, root) = shelf.found(5);
    add(&root, 1).unwrap();
    let found = storage.generations("main").unwrap();
    // The vat, a shape, the slot counter and the root; then the root alone.
    assert_eq!(found.iter().map(|generation| generation.records).collect::<Vec<_>>(), [4, 1]);
    assert!(found[0].millis > 1_600_000_000_000 && found[0].millis <= found[1].millis);
}

#[test]
fn what_a_view_writes_is_never_kept() {
    let shelf = Shelf::new();
    let (storage, _vat, root) = shelf.found(5);
    add(&root, 1).unwrap();
    let before = all(&*shelf.store);
    let view = storage.at("main", 1).unwrap();
    let (past, [old]) = reopen::<1>(&shelf.runtime, &view, "main");
    assert_eq!(add(&old, 40).unwrap(), 40);
    spawn(&past, counter(5)).unwrap();
    assert!(view.generations("main").unwrap().is_empty());
    view.close(()).unwrap();
    assert_eq!(all(&*shelf.store), before);
    assert_eq!(get(&root), 1);
}

#[test]
fn a_view_stays_as_it_was_while_the_vat_goes_on_and_ends_with_the_store() {
    let shelf = Shelf::new();
    let (storage, _vat, [root, _]) = {
        let storage = shelf.keeping(1);
        let (vat, roots) = found(&shelf.runtime, &storage, "main", [counter(0), counter(0)]);
        (storage, vat, roots)
    };
    add(&root, 1).unwrap();
    let view = storage.at("main", 1).unwrap();
    let (_past, [old, unused]) = reopen::<2>(&shelf.runtime, &view, "main");
    for _ in 0..5 {
        add(&root, 1).unwrap();
    }
    assert_eq!(get(&old), 0);
    storage.close(()).unwrap();
    for past in [&old, &unused] {
        let error = call(past, "get", Value::Unit).unwrap_err();
        assert!(matches!(error, Fault::Kernel(KernelError::VatClosed { .. })), "{error:?}");
    }
    view.close(()).unwrap();
}

#[test]
fn what_was_removed_and_made_is_as_it_was() {
    let shelf = Shelf::new();
    let storage = shelf.keeping(10);
    let (vat, [root]) = found(&shelf.runtime, &storage, "main", [cell(Value::Unit)]);
    for number in 1..4 {
        let new = spawn(&vat, counter(number)).unwrap();
        call(&root, "set", Value::Actor(new)).unwrap();
    }
    let value = |generation| {
        let view = storage.at("main", generation).unwrap();
        let (_past, [root]) = reopen::<1>(&shelf.runtime, &view, "main");
        get(&held(&root))
    };
    assert_eq!([value(2), value(3), value(4)], [1, 2, 3]);
    // What is collected was part of older generations.
    let report = storage.collect(Pace::default(), &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert_eq!(report.parts[0].removed, 2);
    assert_eq!([value(2), value(3), value(4)], [1, 2, 3]);
    // And goes with them.
    for number in 0..10 {
        call(&root, "set", Value::Int(number)).unwrap();
    }
    assert_eq!(numbers(&storage)[0], 4);
    call(&root, "set", Value::Int(10)).unwrap();
    storage.collect(Pace::default(), &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    for number in 0..11 {
        call(&root, "set", Value::Int(number)).unwrap();
    }
    let past =
        all(&*shelf.store).iter().filter(|(key, _)| key[4] == goblins_core::schema::Kind::Past as u8).count();
    assert_eq!(past, 10);
}

#[test]
fn the_number_that_is_kept_may_change_between_openings() {
    let shelf = Shelf::new();
    let (storage, vat, root) = shelf.found(4);
    for _ in 0..6 {
        add(&root, 1).unwrap();
    }
    assert_eq!(numbers(&storage), [3, 4, 5, 6, 7]);
    vat.close(()).unwrap();

    let fewer = shelf.keeping(2);
    let (vat, [root]) = reopen::<1>(&shelf.runtime, &fewer, "main");
    assert_eq!(numbers(&fewer), [3, 4, 5, 6, 7]);
    add(&root, 1).unwrap();
    assert_eq!(numbers(&fewer), [6, 7, 8]);
    vat.close(()).unwrap();

    let none = shelf.keeping(0);
    let (vat, [root]) = reopen::<1>(&shelf.runtime, &none, "main");
    assert_eq!(numbers(&none), [6, 7, 8]);
    add(&root, 1).unwrap();
    assert!(numbers(&none).is_empty());
    let error = none.at("main", 8).unwrap_err();
    assert!(error.to_string().contains("it keeps none"), "{error}");
    add(&root, 1).unwrap();
    vat.close(()).unwrap();

    let again = shelf.keeping(2);
    let (_vat, [root]) = reopen::<1>(&shelf.runtime, &again, "main");
    add(&root, 1).unwrap();
    // What it was when they were switched on again has a number of its own.
    assert_eq!(numbers(&again), [9, 10]);
    assert_eq!([shelf.value_at(&again, 9), shelf.value_at(&again, 10)], [9, 10]);
}

#[test]
fn nothing_more_is_written_or_read_when_they_are_off() {
    let shelf = Shelf::new();
    let (_storage, _vat, root) = shelf.found(0);
    add(&root, 1).unwrap();
    let (gets, before) = (shelf.store.gets(), shelf.store.writes());
    add(&root, 1).unwrap();
    assert_eq!(shelf.store.gets(), gets);
    let batches = shelf.store.batches();
    assert_eq!(batches.len(), before + 1);
    assert_eq!(batches[before].changes().len(), 1);
}

#[test]
fn a_damaged_reverse_delta_is_found_and_nothing_is_opened() {
    let shelf = Shelf::new();
    let (storage, _vat, root) = shelf.found(5);
    for _ in 0..3 {
        add(&root, 1).unwrap();
    }
    let past = goblins_core::schema::Kind::Past as u8;
    let (key, mut value) = all(&*shelf.store).into_iter().find(|(key, _)| key[4] == past).unwrap();
    value[0] ^= 1;
    let mut batch = Batch::new();
    batch.put(key, value);
    shelf.store.write(&batch).unwrap();
    match storage.at("main", 1) {
        Err(StoreError::Corrupt { place, .. }) => assert!(place.contains("past"), "{place}"),
        other => panic!("expected Corrupt, got {other:?}"),
    }
    assert_eq!(shelf.value_at(&storage, 3), 2);
}

#[test]
fn a_copy_has_all_and_the_original_goes_on() {
    let shelf = Shelf::new();
    let (storage, _vat, root) = shelf.found(3);
    let (other, [_]) = found(&shelf.runtime, &storage, "other", [list(vec![])]);
    for _ in 0..4 {
        add(&root, 1).unwrap();
    }
    let into = Arc::new(MemoryStore::new());
    let target: Arc<Storage<Toy>> = Storage::open(into.clone()).unwrap();
    let copied = copy(&*storage, &*target).unwrap();
    let there = all(&*shelf.store);
    assert_eq!(all(&*into), there);
    let bytes: usize = there.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!((copied.parts, copied.records), (2, there.len() as u64));
    assert_eq!(copied.bytes, bytes as u64);
    add(&root, 10).unwrap();
    assert_eq!(target.part_names().unwrap(), ["main", "other"]);
    let (_vat, [twin]) = reopen::<1>(&shelf.runtime, &target, "main");
    assert_eq!(get(&twin), 4);
    // Older generations are copied too.
    assert_eq!(shelf.value_at(&target, 3), 2);
    other.close(()).unwrap();
}

#[test]
fn only_an_empty_store_without_vats_is_copied_into() {
    let shelf = Shelf::new();
    let (storage, vat, root) = shelf.found(0);
    add(&root, 7).unwrap();
    let error = copy(&*storage, &*storage).unwrap_err();
    assert!(error.to_string().contains("is not empty: it has the part(s) main"), "{error}");
    let target: Arc<Storage<Toy>> = Storage::open(MemoryStore::new()).unwrap();
    let opened = open(&shelf.runtime, &target, "early");
    let error = copy(&*storage, &*target).unwrap_err();
    assert!(error.to_string().contains("early"), "{error}");
    opened.vat.close(()).unwrap();
    // A vat that never wrote anything has left nothing.
    copy(&*storage, &*target).unwrap();
    assert_eq!(get(&reopen::<1>(&shelf.runtime, &target, "main").1[0]), 7);
    vat.close(()).unwrap();
}

#[test]
fn a_copy_that_fails_can_be_made_again() {
    let shelf = Shelf::new();
    let (storage, vat, _root) = shelf.found(0);
    let large: Arc<str> = "x".repeat(1 << 19).into();
    let items = (0..5).map(|_| Value::Text(large.clone())).collect();
    drop(vat);
    let (_vat, [_]) = found(&shelf.runtime, &storage, "large", [list(items)]);
    (0..5).for_each(|n| {
        let text = Value::Text(large.clone());
        drop(found::<1>(&shelf.runtime, &storage, &n.to_string(), [list(vec![text.clone(), text])]));
    });
    let into = Arc::new(FaultyStore::new(MemoryStore::new(), false));
    let target: Arc<Storage<Toy>> = Storage::open(into.clone()).unwrap();
    into.fail_write_after(2);
    copy(&*storage, &*target).unwrap_err();
    assert!(all(&*into).len() > 1, "something was written before");
    // Not even that could be removed.
    assert!(matches!(target.part_names(), Err(StoreError::Incomplete { .. })));
    assert!(matches!(target.claim("large"), Err(StoreError::Incomplete { .. })));
    into.fail_write_after(u64::MAX);
    copy(&*storage, &*target).unwrap();
    assert_eq!(all(&*into), all(&*shelf.store));
}

#[test]
fn a_damaged_record_is_not_copied() {
    let shelf = Shelf::new();
    let (storage, _vat, _root) = shelf.found(0);
    let (key, mut value) = all(&*shelf.store).pop().unwrap();
    value[0] ^= 1;
    let mut batch = Batch::new();
    batch.put(key, value);
    shelf.store.write(&batch).unwrap();
    let target: Arc<Storage<Toy>> = Storage::open(MemoryStore::new()).unwrap();
    assert!(matches!(copy(&*storage, &*target), Err(StoreError::Corrupt { .. })));
    assert!(target.part_names().unwrap().is_empty());
}
