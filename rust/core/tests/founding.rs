//! The first roots, and new ones in place of others: one batch with all that goes with them, or nothing at all
//! (PV-03, PV-09, PV-21, LIM-05). An error is told to the one who opens the vat.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{Reins, ToyVat, get, held, open, puppet, raised, runtime};
use goblins_core::error::KernelError;
use goblins_core::host::Host;
use goblins_core::record::VatRecord;
use goblins_core::schema::Kind;
use goblins_core::storage::Storage;
use goblins_core::toy::{Actor, Fault, Toy, Turn, Value, call, cell, counter};

const ID: [u8; 16] = [7; 16];

fn found(
    vat: &ToyVat,
    version: u8,
    roots: impl FnOnce(&Turn<'_>) -> Result<Vec<Actor>, Fault>,
) -> Result<Vec<Actor>, Fault> {
    vat.found((), ID, vec![version], |churn| roots(&Turn::new(churn)))
}

fn stored(storage: &Arc<Storage<Toy>>) -> Option<VatRecord> {
    storage.claim("main").unwrap().read_vat().unwrap()
}

/// A store with a vat of one cell that holds a counter.
fn small_store() -> Reins {
    let store = Reins::default();
    let vat = open(&runtime(), &store.storage(), "main").vat;
    found(&vat, 0, |turn| Ok(vec![turn.spawn(cell(Value::Actor(turn.spawn(counter(3)))))])).unwrap();
    vat.close(()).unwrap();
    store.take_batches();
    store
}

/// All but the counter of slots, which goes on also where a turn fails.
fn contents(store: &Reins) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut contents = store.contents();
    contents.retain(|key, _| key[4] != Kind::NextSlot as u8);
    contents
}

/// What an upgrade of the roots does: it changes what is there, and makes a new root.
fn upgrade(vat: &ToyVat, record: &VatRecord) -> Result<Vec<Actor>, Fault> {
    let old = vat.roots((), record).unwrap();
    found(vat, 1, |turn| {
        let Value::Actor(tally) = turn.call(&old[0], "get", Value::Unit)? else {
            return raised("no counter");
        };
        turn.call(&tally, "add", Value::Int(1))?;
        Ok(vec![tally.clone(), turn.spawn(cell(Value::Actor(tally)))])
    })
}

#[test]
fn a_first_write_that_fails_is_told_and_leaves_an_empty_store() {
    // LIM-05, PV-21
    let store = Reins::default();
    let storage = store.storage();
    let vat = open(&runtime(), &storage, "main").vat;
    store.fail_write.store(true, SeqCst);
    let failed = found(&vat, 0, |turn| Ok(vec![turn.spawn(counter(0))]));
    assert!(matches!(failed, Err(Fault::Kernel(KernelError::Store(_)))), "{failed:?}");
    let again = found(&vat, 0, |turn| Ok(vec![turn.spawn(counter(0))]));
    assert!(matches!(again, Err(Fault::Kernel(KernelError::Poisoned { .. }))), "{again:?}");
    store.fail_write.store(false, SeqCst);
    vat.close(()).unwrap();

    let storage = store.storage();
    assert!(storage.part_names().unwrap().is_empty());
    let opened = open(&runtime(), &storage, "main");
    assert!(opened.record.is_none());
    assert_eq!(get(&found(&opened.vat, 0, |turn| Ok(vec![turn.spawn(counter(5))])).unwrap()[0]), 5);
}

#[test]
fn a_first_sync_that_fails_is_told_and_what_is_found_is_whole() {
    let store = Reins::default();
    let vat = open(&runtime(), &store.storage(), "main").vat;
    store.fail_sync.store(true, SeqCst);
    let failed = found(&vat, 0, |turn| Ok(vec![turn.spawn(cell(Value::Actor(turn.spawn(counter(3)))))]));
    assert!(matches!(failed, Err(Fault::Kernel(KernelError::Poisoned { .. }))), "{failed:?}");
    store.fail_sync.store(false, SeqCst);
    let (_vat, [root]) = common::reopen::<1>(&runtime(), &store.storage(), "main");
    assert_eq!(get(&held(&root)), 3);
}

#[test]
fn new_roots_their_version_and_what_the_upgrade_changed_are_one_batch() {
    // PV-09
    let store = small_store();
    let opened = open(&runtime(), &store.storage(), "main");
    let record = opened.record.unwrap();
    upgrade(&opened.vat, &record).unwrap();
    assert_eq!(store.take_batches().len(), 1);
    opened.vat.close(()).unwrap();
    let record = stored(&store.storage()).unwrap();
    assert_eq!(
        (record.id, record.roots_version, record.roots.len()),
        (ID, vec![1], 2),
        "the id stays (PV-12)"
    );
    let (_vat, [tally, keeper]) = common::reopen::<2>(&runtime(), &store.storage(), "main");
    assert_eq!(get(&tally), 4);
    assert!(Arc::ptr_eq(&held(&keeper), &tally));
}

#[test]
fn an_upgrade_whose_write_fails_leaves_the_old_roots_and_all_that_they_reach() {
    // LIM-05
    let store = small_store();
    let before = contents(&store);
    let opened = open(&runtime(), &store.storage(), "main");
    let record = opened.record.unwrap();
    store.fail_write.store(true, SeqCst);
    let failed = upgrade(&opened.vat, &record);
    assert!(matches!(failed, Err(Fault::Kernel(KernelError::Store(_)))), "{failed:?}");
    store.fail_write.store(false, SeqCst);
    opened.vat.close(()).unwrap();
    assert_eq!(contents(&store), before);
    let (_vat, [root]) = common::reopen::<1>(&runtime(), &store.storage(), "main");
    assert_eq!(get(&held(&root)), 3);
}

#[test]
fn an_upgrade_that_makes_what_cant_be_stored_leaves_the_store_as_it_was() {
    let store = small_store();
    let before = contents(&store);
    let opened = open(&runtime(), &store.storage(), "main");
    let old = opened.vat.roots((), &opened.record.unwrap()).unwrap();
    let failed = found(&opened.vat, 1, |turn| {
        turn.call(&old[0], "set", Value::Int(9))?;
        Ok(vec![turn.spawn(cell(Value::Actor(turn.spawn(puppet(0)))))])
    });
    let text = failed.unwrap_err().to_string();
    assert!(text.contains("root 0 -> cell#"), "{text}");
    assert_eq!(contents(&store), before);
    // The vat goes on with the roots that it has.
    assert_eq!(get(&held(&old[0])), 3);
    call(&old[0], "set", Value::Unit).unwrap();
    opened.vat.close(()).unwrap();
    assert_eq!(stored(&store.storage()).unwrap().roots_version, [0]);
}

#[test]
fn an_opening_that_changes_nothing_writes_nothing() {
    // PV-04
    let store = small_store();
    let before = contents(&store);
    let (vat, [root]) = common::reopen::<1>(&runtime(), &store.storage(), "main");
    get(&held(&root));
    vat.close(()).unwrap();
    assert!(store.take_batches().is_empty());
    assert_eq!(contents(&store), before);
    assert_eq!(Toy::actor_cell(&root).slot().0, 1, "the counter was spawned first");
}
