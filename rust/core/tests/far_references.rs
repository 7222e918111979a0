//! References to actors of other vats, and promises, in what is stored (REG, POR-31 to POR-33).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{Reins, ToyVat, add, found, int, puppet, reopen, run, runtime, vat};
use goblins_core::error::KernelError;
use goblins_core::host::Host;
use goblins_core::ids::{Address, Slot};
use goblins_core::pool::Runtime;
use goblins_core::references::{Reference, reference};
use goblins_core::registry::Registry;
use goblins_core::schema::Kind;
use goblins_core::storage::Storage;
use goblins_core::toy::{
    Actor, Fault, Promise, Toy, Value, call, cell, counter, fulfil, outcome, reports, result, send, spawn,
};

struct Shelf {
    reins: Reins,
    storage: Arc<Storage<Toy>>,
    runtime: Arc<Runtime<Toy>>,
}

impl Shelf {
    fn new() -> Self {
        let (reins, runtime) = (Reins::default(), runtime());
        Self { storage: reins.storage(), reins, runtime }
    }

    fn cell(&self, part: &str) -> (ToyVat, Actor) {
        let (vat, [cell]) = found(&self.runtime, &self.storage, part, [cell(Value::Unit)]);
        (vat, cell)
    }

    fn again(&self, part: &str) -> (ToyVat, Actor) {
        let (vat, [cell]) = reopen(&self.runtime, &self.storage, part);
        (vat, cell)
    }

    /// As a new process would find it.
    fn restart(&mut self) {
        self.storage.close(()).unwrap();
        self.storage = self.reins.storage();
        self.runtime = runtime();
    }
}

fn put(cell: &Actor, value: Value) {
    call(cell, "set", value).unwrap();
}

fn held_promise(cell: &Actor) -> Promise {
    match call(cell, "get", Value::Unit).unwrap() {
        Value::Promise(promise) => promise,
        other => panic!("{other:?} is no promise"),
    }
}

fn address(actor: &Actor) -> Address {
    let cell = Toy::actor_cell(actor);
    cell.vat().address_of(cell.slot()).unwrap()
}

fn rest(vat: &ToyVat) {
    vat.drain((), Some(common::PATIENCE)).unwrap();
}

#[test]
fn a_far_reference_stands_apart_from_the_payload() {
    let shelf = Shelf::new();
    let ((a, keeper), (_b, target)) = (shelf.cell("a"), shelf.cell("b"));
    put(&keeper, Value::Actor(target.clone()));
    rest(&a);
    a.close(()).unwrap();
    let claim = shelf.storage.claim("a").unwrap();
    let record = claim.read_actor(Slot(0)).unwrap().unwrap();
    assert_eq!(record.far, [address(&target)]);
    assert!(record.slots.is_empty());
}

#[test]
fn it_comes_back_as_one_promise_for_the_very_actor_in_either_order() {
    // REG-05, REG-08
    for order in ["ab", "ba"] {
        let mut shelf = Shelf::new();
        let ((_a, keeper), (_b, target)) = (shelf.cell("a"), shelf.cell("b"));
        put(&keeper, Value::Actor(target));
        shelf.restart();
        let (mut keeper, mut target) = (None, None);
        for part in order.chars() {
            match part {
                'a' => keeper = Some(shelf.again("a")),
                _ => target = Some(shelf.again("b")),
            }
            if let Some((_, keeper)) = &keeper {
                assert!(Arc::ptr_eq(&held_promise(keeper), &held_promise(keeper)));
            }
        }
        let ((_, keeper), (_, target)) = (keeper.unwrap(), target.unwrap());
        assert_eq!(result(&held_promise(&keeper)).unwrap(), Value::Actor(target));
    }
}

#[test]
fn two_stores_need_a_registry_and_one_is_enough() {
    let (mut here, mut there) = (Shelf::new(), Shelf::new());
    let ((_a, keeper), (_b, target)) = (here.cell("a"), there.cell("b"));
    put(&keeper, Value::Actor(target));
    rest(&_b);
    here.restart();
    there.restart();
    let (_a, keeper) = here.again("a");
    let (b, _) = there.again("b");
    let promise = held_promise(&keeper);
    assert!(outcome(&promise).is_none());
    assert_eq!(here.storage.registry().pending().len(), 1);
    b.close(()).unwrap();
    here.restart();

    let registry = Registry::new();
    let opened = common::open(&here.runtime, &here.storage, "a");
    opened.vat.use_registry(registry.clone());
    let keeper = opened.vat.roots((), &opened.record.unwrap()).unwrap().remove(0);
    let promise = held_promise(&keeper);
    let pending = registry.pending();
    assert_eq!((pending.len(), pending[0].slot, &*pending[0].asked_by), (1, Slot(0), "a"));
    let opened = common::open(&there.runtime, &there.storage, "b");
    opened.vat.use_registry(registry.clone());
    let target = opened.vat.roots((), &opened.record.unwrap()).unwrap().remove(0);
    assert!(outcome(&promise).is_none(), "its roots are there when it is published");
    opened.vat.publish(());
    assert_eq!(result(&promise).unwrap(), Value::Actor(target));
    assert!(registry.pending().is_empty());
    assert!(here.storage.registry().pending().is_empty());
    assert_eq!(registry.names(), ["b"]);
}

#[test]
fn a_vat_opened_again_takes_the_place_of_the_closed_one() {
    // REG-11
    let shelf = Shelf::new();
    let ((a, keeper), (b, target)) = (shelf.cell("a"), shelf.cell("b"));
    put(&keeper, Value::Actor(target));
    rest(&a);
    a.close(()).unwrap();
    b.close(()).unwrap();
    let (_a, keeper) = shelf.again("a");
    let promise = held_promise(&keeper);
    assert!(outcome(&promise).is_none(), "a closed vat is no answer");
    let (_b, target) = shelf.again("b");
    assert_eq!(result(&promise).unwrap(), Value::Actor(target));
    assert_eq!(shelf.storage.registry().names(), ["a", "b"]);
}

#[test]
fn a_closed_vat_waits_for_nothing_any_more() {
    let mut shelf = Shelf::new();
    let ((_a, keeper), (_b, target)) = (shelf.cell("a"), shelf.cell("b"));
    put(&keeper, Value::Actor(target));
    shelf.restart();
    let (a, keeper) = shelf.again("a");
    let promise = held_promise(&keeper);
    a.close(()).unwrap();
    assert!(matches!(result(&promise), Err(Fault::Kernel(KernelError::VatClosed { .. }))));
    assert!(shelf.storage.registry().pending().is_empty());
}

#[test]
fn an_actor_that_only_another_vat_refers_to_is_stored_by_its_own() {
    let mut shelf = Shelf::new();
    let ((_a, keeper), (b, _root)) = (shelf.cell("a"), shelf.cell("b"));
    let target = spawn(&b, counter(3)).unwrap();
    put(&keeper, Value::Actor(target.clone()));
    rest(&b);
    add(&target, 1).unwrap();
    drop(target);
    shelf.restart();
    let ((_a, keeper), (_b, _root)) = (shelf.again("a"), shelf.again("b"));
    let Value::Actor(target) = result(&held_promise(&keeper)).unwrap() else { panic!("no actor") };
    assert_eq!(int(&result(&send(&target, "get", Value::Unit)).unwrap()), 4);
}

#[test]
fn what_its_vat_can_not_store_is_reported_and_leads_nowhere_and_to_nobody_else() {
    // REG-09, G10, SLP-03
    let mut shelf = Shelf::new();
    let ((_a, keeper), (b, _root)) = (shelf.cell("a"), shelf.cell("b"));
    put(&keeper, Value::Actor(spawn(&b, puppet(1)).unwrap()));
    rest(&b);
    let told = reports(&b);
    assert!(told.iter().any(|report| report.contains("vat a refers to it in its state")), "{told:?}");
    shelf.restart();
    let ((_a, keeper), (b, root)) = (shelf.again("a"), shelf.again("b"));
    run(&b, |turn| turn.call(&root, "set", Value::Actor(turn.spawn(counter(0))))).unwrap();
    let error = result(&held_promise(&keeper)).unwrap_err();
    assert!(matches!(error, Fault::Kernel(KernelError::NotStored { slot: 1, .. })), "{error}");
}

#[test]
fn slots_of_actors_that_are_not_stored_are_reserved_with_few_writes() {
    let mut shelf = Shelf::new();
    let (b, _root) = shelf.cell("b");
    let before = shelf.reins.take_batches().len();
    assert!(before > 0);
    let spawned: Vec<_> = (0..300).map(|_| spawn(&b, puppet(0)).unwrap()).collect();
    let last = &spawned[299];
    assert_eq!(shelf.reins.take_batches().len(), 2);
    let last = Toy::actor_cell(last).slot();
    shelf.restart();
    let (b, _root) = shelf.again("b");
    let first = Toy::actor_cell(&spawn(&b, puppet(0)).unwrap()).slot();
    assert!(first > last, "{first} was given away before");
}

#[test]
fn a_reference_to_a_vat_without_a_store_can_not_be_stored() {
    // REG-14, G8
    let shelf = Shelf::new();
    let (a, keeper) = shelf.cell("a");
    let stranger = spawn(&vat(&shelf.runtime, "memory"), counter(0)).unwrap();
    let error = reference::<Toy>((), &a, &stranger).unwrap_err();
    assert!(matches!(error, KernelError::WithoutStore { .. }), "{error}");
    assert_eq!(reference::<Toy>((), &a, &keeper).unwrap(), Reference::Near);
    call(&keeper, "set", Value::Actor(stranger)).unwrap_err();
    assert_eq!(call(&keeper, "get", Value::Unit).unwrap(), Value::Unit);
}

#[test]
fn a_far_promise_stored_again_before_and_after_it_settled_is_the_same_reference() {
    // POR-33
    let mut shelf = Shelf::new();
    let ((_a, keeper), (_b, target)) = (shelf.cell("a"), shelf.cell("b"));
    put(&keeper, Value::Actor(target));
    for other_first in [false, true] {
        shelf.restart();
        let there = other_first.then(|| shelf.again("b"));
        let (_a, keeper) = shelf.again("a");
        let promise = held_promise(&keeper);
        if there.is_some() {
            result(&promise).unwrap();
        }
        put(&keeper, Value::Promise(promise));
    }
    shelf.restart();
    let ((_a, keeper), (_b, target)) = (shelf.again("a"), shelf.again("b"));
    assert_eq!(result(&held_promise(&keeper)).unwrap(), Value::Actor(target));
}

#[test]
fn a_settled_promise_is_stored_and_one_that_settles_later_is_stored_then() {
    // POR-31, POR-32
    let mut shelf = Shelf::new();
    let ((a, keeper), (_b, later)) = (shelf.cell("a"), shelf.cell("b"));
    let (promise, open) = (Promise::default(), Promise::default());
    fulfil(&promise, Value::Int(4));
    put(&keeper, Value::Promise(promise));
    put(&later, Value::Promise(open.clone()));
    fulfil(&open, Value::Int(5));
    rest(&a);
    rest(Toy::actor_cell(&later).vat());
    shelf.restart();
    let ((_a, keeper), (_b, later)) = (shelf.again("a"), shelf.again("b"));
    assert_eq!(result(&held_promise(&keeper)).unwrap(), Value::Int(4));
    assert_eq!(result(&held_promise(&later)).unwrap(), Value::Int(5));
}

#[test]
fn one_that_settles_in_the_churn_that_stores_it_is_one_batch() {
    // G4
    let shelf = Shelf::new();
    let (a, keeper) = shelf.cell("a");
    let promise = Promise::default();
    shelf.reins.take_batches();
    run(&a, |turn| {
        turn.call(&keeper, "set", Value::Promise(promise.clone()))?;
        turn.fulfil(&promise, Value::Int(1));
        Ok(())
    })
    .unwrap();
    assert_eq!(shelf.reins.take_batches().len(), 1);
    a.close(()).unwrap();
    let (_a, keeper) = shelf.again("a");
    assert_eq!(result(&held_promise(&keeper)).unwrap(), Value::Int(1));
}

#[test]
fn one_that_has_not_settled_at_the_end_is_broken() {
    let mut shelf = Shelf::new();
    let (_a, keeper) = shelf.cell("a");
    let open = Promise::default();
    put(&keeper, Value::Promise(open.clone()));
    shelf.restart();
    let (_a, keeper) = shelf.again("a");
    let error = result(&held_promise(&keeper)).unwrap_err();
    assert!(error.to_string().contains("had not settled"), "{error}");
    fulfil(&open, Value::Unit);
}

#[test]
fn settling_with_what_can_not_be_stored_is_reported() {
    // G8, G10
    let shelf = Shelf::new();
    let (a, keeper) = shelf.cell("a");
    let open = Promise::default();
    put(&keeper, Value::Promise(open.clone()));
    fulfil(&open, Value::Code(puppet(0)));
    rest(&a);
    let told = reports(&a);
    assert!(told.iter().any(|report| report.contains("how it did can't be stored")), "{told:?}");
}

#[test]
fn a_failed_write_breaks_nothing_of_the_other_vat() {
    // G9: the request of a stopped vat goes on when it is opened again.
    let shelf = Shelf::new();
    let other = Shelf::new();
    let ((a, keeper), (b, target)) = (shelf.cell("a"), other.cell("b"));
    put(&keeper, Value::Actor(target.clone()));
    rest(&b);
    a.close(()).unwrap();
    let registry = Registry::new();
    let opened = common::open(&shelf.runtime, &shelf.storage, "a");
    opened.vat.use_registry(registry.clone());
    let keeper = opened.vat.roots((), &opened.record.unwrap()).unwrap().remove(0);
    other.reins.fail_write.store(true, std::sync::atomic::Ordering::SeqCst);
    call(&target, "set", Value::Int(1)).unwrap_err();
    b.use_registry(registry.clone());
    b.publish(());
    let promise = held_promise(&keeper);
    assert!(outcome(&promise).is_none(), "a vat that has stopped is no answer");
    assert_eq!(registry.pending().len(), 1);
}

#[test]
fn an_actor_that_another_store_refers_to_is_marked_once_and_only_then() {
    // No walk over one store sees references from another.
    let (here, there) = (Shelf::new(), Shelf::new());
    let ((a, keeper), (b, target)) = (here.cell("a"), there.cell("b"));
    let (_near, sibling) = there.cell("c");
    let marks = |batches: Vec<goblins_core::store::Batch>| {
        let keys = batches.iter().flat_map(|batch| batch.changes()).map(|change| match change {
            goblins_core::store::Change::Put(key, _) | goblins_core::store::Change::Delete(key) => key[4],
        });
        keys.filter(|kind| *kind == Kind::Exported as u8).count()
    };
    there.reins.take_batches();
    put(&sibling, Value::Actor(target.clone()));
    rest(&b);
    assert_eq!(marks(there.reins.take_batches()), 0);
    put(&keeper, Value::Actor(target.clone()));
    rest(&b);
    assert_eq!(marks(there.reins.take_batches()), 1);
    a.close(()).unwrap();
    let (_a, keeper) = here.again("a");
    put(&keeper, Value::Actor(target));
    rest(&b);
    assert_eq!(marks(there.reins.take_batches()), 0, "it is marked already");
}
