//! A vat that is saved by hand: churns write nothing, a save writes all that has changed, in one batch, and
//! what was not saved is as if it had not happened (PV-05, PV-22, LIM-04).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{Reins, ToyVat, add, found, get, held, open, puppet, raised, run, runtime, slots, vat};
use goblins_core::SaveOn;
use goblins_core::actor::Life;
use goblins_core::error::KernelError;
use goblins_core::host::Host;
use goblins_core::schema::Kind;
use goblins_core::store::{Batch, Change};
use goblins_core::toy::{
    Actor, Behavior, Fault, Promise, Toy, Value, call, cell, counter, list, outcome, reports, result, send,
    spawn,
};

struct Bench {
    store: Reins,
    runtime: std::sync::Arc<goblins_core::pool::Runtime<Toy>>,
}

impl Bench {
    fn new() -> Self {
        Self { store: Reins::default(), runtime: runtime() }
    }

    /// A vat with these roots, saved by hand.
    fn found<const N: usize>(&self, roots: [Behavior; N]) -> (ToyVat, [Actor; N]) {
        let (vat, actors) = found(&self.runtime, &self.store.storage(), "main", roots);
        vat.set_save_on(SaveOn::Request);
        self.store.take_batches();
        (vat, actors)
    }

    /// The batches since this was last asked, without those that only write the counter of slots.
    fn batches(&self) -> Vec<Batch> {
        let mut batches = self.store.take_batches();
        batches.retain(|batch| batch.changes().iter().any(|change| !is_counter(change)));
        batches
    }

    /// What somebody finds who opens the store as it is now.
    fn stored<const N: usize>(&self) -> (ToyVat, [Actor; N]) {
        common::reopen(&runtime(), &self.store.storage(), "main")
    }
}

fn is_counter(change: &Change) -> bool {
    matches!(change, Change::Put(key, _) if key[4] == Kind::NextSlot as u8)
}

fn slot(actor: &Actor) -> u64 {
    Toy::actor_cell(actor).slot().0
}

fn is_poisoned<T>(result: Result<T, Fault>) -> bool {
    matches!(result, Err(Fault::Kernel(KernelError::Poisoned { .. })))
}

#[test]
fn the_roots_are_stored_at_once() {
    // PV-03
    let bench = Bench::new();
    let opened = open(&bench.runtime, &bench.store.storage(), "main");
    opened.vat.set_save_on(SaveOn::Request);
    let roots = opened.vat.found((), [7; 16], Vec::new(), |churn| {
        Ok(vec![goblins_core::toy::Turn::new(churn).spawn(counter(4))])
    });
    roots.unwrap();
    let (_vat, [tally]) = bench.stored::<1>();
    assert_eq!(get(&tally), 4);
}

#[test]
fn churns_write_nothing_and_a_save_writes_all_in_one_batch() {
    let bench = Bench::new();
    let (vat, [tally, keeper]) = bench.found([counter(0), cell(Value::Unit)]);
    for _ in 0..10 {
        add(&tally, 1).unwrap();
    }
    let inner = run(&vat, |turn| {
        let inner = turn.spawn(counter(1));
        let middle = turn.spawn(cell(Value::Actor(inner.clone())));
        turn.call(&keeper, "set", Value::Actor(middle))?;
        Ok(inner)
    })
    .unwrap();
    add(&inner, 5).unwrap();
    assert!(bench.batches().is_empty());
    let (_other, [then, empty]) = bench.stored::<2>();
    assert_eq!((get(&then), call(&empty, "get", Value::Unit).unwrap()), (0, Value::Unit));

    vat.save(()).unwrap();
    let batches = bench.batches();
    assert_eq!(batches.len(), 1);
    assert_eq!(slots(&batches[0]), [0, 1, slot(&inner), slot(&inner) + 1], "each once");
    let (_other, [tally, keeper]) = bench.stored::<2>();
    assert_eq!((get(&tally), get(&held(&held(&keeper)))), (10, 6));
}

#[test]
fn a_second_save_writes_what_has_changed_since_and_keeps_the_rest() {
    // PV-22, LIM-04: the original loses what it knew before.
    let bench = Bench::new();
    let (vat, [tally, keeper]) = bench.found([counter(0), cell(Value::Unit)]);
    run(&vat, |turn| turn.call(&keeper, "set", Value::Actor(turn.spawn(counter(7))))).unwrap();
    vat.save(()).unwrap();
    bench.batches();
    add(&tally, 1).unwrap();
    vat.save(()).unwrap();
    assert_eq!(bench.batches().iter().map(slots).collect::<Vec<_>>(), [[slot(&tally)]]);
    vat.save(()).unwrap();
    assert!(bench.batches().is_empty(), "nothing has changed");

    // The first save after an opening, and an actor that is no root.
    vat.close(()).unwrap();
    let (vat, [tally, keeper]) = bench.stored::<2>();
    vat.set_save_on(SaveOn::Request);
    add(&held(&keeper), 1).unwrap();
    assert!(bench.batches().is_empty());
    vat.save(()).unwrap();
    assert_eq!(bench.batches().len(), 1);
    drop((tally, keeper));
    let (_other, [tally, keeper]) = bench.stored::<2>();
    assert_eq!((get(&tally), get(&held(&keeper))), (1, 8));
}

#[test]
fn an_actor_that_left_memory_before_the_save_is_made_again_from_what_it_was() {
    let bench = Bench::new();
    let (vat, [keeper]) = bench.found([cell(Value::Unit)]);
    let slot = run(&vat, |turn| {
        let inner = turn.spawn(counter(1));
        turn.call(&keeper, "set", Value::Actor(inner.clone()))?;
        Ok(slot(&inner))
    })
    .unwrap();
    let inner = held(&keeper);
    assert_eq!((slot, add(&inner, 10).unwrap()), (self::slot(&inner), 11));
    drop(inner);
    vat.save(()).unwrap();
    vat.close(()).unwrap();

    let (vat, [keeper]) = bench.stored::<1>();
    vat.set_save_on(SaveOn::Request);
    bench.batches();
    let inner = held(&keeper);
    add(&inner, 100).unwrap();
    let before = std::sync::Arc::downgrade(&inner);
    // The keeper itself refers to it, until that leaves memory too.
    drop((inner, keeper));
    assert!(before.upgrade().is_none());
    let [keeper]: [Actor; 1] = roots(&vat);
    let gets = bench.store.gets.load(SeqCst);
    let inner = held(&keeper);
    assert!(matches!(Toy::actor_cell(&inner).state().life(), Life::Ghost));
    assert_eq!(get(&inner), 111);
    assert_eq!(bench.store.gets.load(SeqCst), gets + 1, "the keeper is read, the counter is not");
    assert!(bench.batches().is_empty());
    vat.save(()).unwrap();
    let (_other, [keeper]) = bench.stored::<1>();
    assert_eq!(get(&held(&keeper)), 111);
}

fn roots<const N: usize>(vat: &ToyVat) -> [Actor; N] {
    let record = goblins_core::record::VatRecord {
        id: [7; 16],
        roots_version: Vec::new(),
        roots: (0..N as u64).map(goblins_core::ids::Slot).collect(),
    };
    vat.roots((), &record).unwrap().try_into().unwrap()
}

#[test]
fn what_cant_be_stored_fails_its_turn_long_before_the_save() {
    // G8
    let bench = Bench::new();
    let (vat, [keeper, tally]) = bench.found([cell(Value::Int(7)), counter(0)]);
    run(&vat, |turn| {
        turn.call(&tally, "add", Value::Int(1))?;
        turn.call(&keeper, "set", Value::Code(puppet(0)))
    })
    .unwrap_err();
    run(&vat, |turn| {
        turn.call(&tally, "add", Value::Int(1))?;
        raised::<()>("undone")
    })
    .unwrap_err();
    add(&tally, 5).unwrap();
    vat.save(()).unwrap();
    let (_other, [keeper, tally]) = bench.stored::<2>();
    assert_eq!((get(&keeper), get(&tally)), (7, 5));
}

#[test]
fn results_messages_and_promises_wait_for_nothing() {
    let bench = Bench::new();
    let (here, [tally]) = bench.found([counter(0)]);
    let there = spawn(&vat(&bench.runtime, "there"), puppet(3)).unwrap();
    let (syncs, promise) = (bench.store.syncs.load(SeqCst), Promise::default());
    let answer = run(&here, |turn| {
        turn.call(&tally, "add", Value::Int(1))?;
        turn.fulfil(&promise, Value::Int(1));
        Ok(turn.send(&there, "get", Value::Unit))
    })
    .unwrap();
    assert_eq!(outcome(&promise).unwrap().unwrap(), Value::Int(1));
    assert_eq!(result(&answer).unwrap(), Value::Int(3));
    assert_eq!(result(&send(&tally, "add", Value::Int(1))).unwrap(), Value::Int(2));
    assert_eq!(bench.store.syncs.load(SeqCst), syncs);
    here.save(()).unwrap();
    assert_eq!(bench.store.syncs.load(SeqCst), syncs + 1, "a save does");
}

#[test]
fn what_it_has_seen_of_another_vat_is_durable_before_it_is_told() {
    // G2
    let bench = Bench::new();
    let storage = bench.store.storage();
    let (by_hand, [keeper]) = found(&bench.runtime, &storage, "by hand", [cell(Value::Unit)]);
    by_hand.set_save_on(SaveOn::Request);
    let (_other, [tally]) = found(&bench.runtime, &storage, "other", [counter(0)]);
    let syncs = bench.store.syncs.load(SeqCst);
    let learned = run(&by_hand, |turn| {
        let answer = turn.send(&tally, "add", Value::Int(1));
        let keeper = keeper.clone();
        Ok(turn.on(&answer, move |turn, result| turn.call(&keeper, "set", result?)))
    })
    .unwrap();
    result(&learned).unwrap();
    assert_eq!(call(&keeper, "get", Value::Unit).unwrap(), Value::Int(1));
    assert!(bench.store.syncs.load(SeqCst) > syncs);
}

#[test]
fn a_failed_save_stops_the_vat_and_the_store_has_the_save_before() {
    // G9, LIM-06, PV-25
    let bench = Bench::new();
    let (vat, [tally]) = bench.found([counter(0)]);
    add(&tally, 1).unwrap();
    vat.save(()).unwrap();
    add(&tally, 1).unwrap();
    bench.store.fail_write.store(true, SeqCst);
    assert!(matches!(vat.save(()), Err(Fault::Kernel(KernelError::Store(_)))));
    assert!(is_poisoned(vat.save(())));
    assert!(is_poisoned(call(&tally, "get", Value::Unit)));
    bench.store.fail_write.store(false, SeqCst);
    vat.close(()).unwrap();
    assert!(reports(&vat).is_empty(), "it has been told");
    let (vat, [tally]) = bench.stored::<1>();
    vat.set_save_on(SaveOn::Request);
    assert_eq!(add(&tally, 1).unwrap(), 2);
    vat.save(()).unwrap();
    let (_other, [tally]) = bench.stored::<1>();
    assert_eq!(get(&tally), 2);
}

#[test]
fn a_save_whose_sync_fails_stops_the_vat() {
    // G9
    let bench = Bench::new();
    let (vat, [tally]) = bench.found([counter(0)]);
    add(&tally, 1).unwrap();
    bench.store.fail_sync.store(true, SeqCst);
    assert!(is_poisoned(vat.save(())));
    assert!(is_poisoned(add(&tally, 1)));
}

#[test]
fn closing_without_a_save_loses_what_was_not_saved_and_says_so() {
    let bench = Bench::new();
    let (vat, [tally]) = bench.found([counter(0)]);
    add(&tally, 1).unwrap();
    vat.save(()).unwrap();
    vat.close(()).unwrap();
    assert!(reports(&vat).is_empty());
    let (vat, [tally]) = bench.stored::<1>();
    vat.set_save_on(SaveOn::Request);
    add(&tally, 1).unwrap();
    vat.close(()).unwrap();
    let said = reports(&vat);
    assert!(said.len() == 1 && said[0].contains("changed 1 actor(s) since its last save"), "{said:?}");
    let (_other, [tally]) = bench.stored::<1>();
    assert_eq!(get(&tally), 1);
}

#[test]
fn a_save_of_a_vat_that_saves_each_churn_is_harmless_and_without_a_store_it_is_an_error() {
    let bench = Bench::new();
    let (vat, [tally]) = found(&bench.runtime, &bench.store.storage(), "main", [counter(0)]);
    add(&tally, 1).unwrap();
    bench.batches();
    vat.save(()).unwrap();
    assert!(bench.batches().is_empty());
    add(&tally, 1).unwrap();
    assert_eq!(bench.batches().len(), 1);
    let memory = common::vat(&bench.runtime, "memory");
    assert!(matches!(memory.save(()), Err(Fault::Kernel(KernelError::NotPersistent { .. }))));
}

#[test]
fn what_waits_for_the_next_save_is_one_record_for_each_actor_and_no_way_back() {
    let bench = Bench::new();
    let (vat, [tally, items]) = bench.found([counter(0), list(Vec::new())]);
    // Each behavior of old would keep the value that it holds.
    let probe = spawn(&vat, counter(0)).unwrap();
    let weak = std::sync::Arc::downgrade(&probe);
    let keeper = run(&vat, |turn| {
        let keeper = turn.spawn(cell(Value::Actor(probe.clone())));
        turn.call(&items, "push", Value::Actor(keeper.clone()))?;
        Ok(keeper)
    })
    .unwrap();
    drop(probe);
    assert!(weak.upgrade().is_some());
    call(&keeper, "set", Value::Unit).unwrap();
    assert!(weak.upgrade().is_none(), "what the cell held is kept for no undoing");
    for _ in 0..1000 {
        add(&tally, 1).unwrap();
    }
    vat.save(()).unwrap();
    assert_eq!(slots(&bench.batches()[0]).iter().filter(|one| **one == slot(&tally)).count(), 1);
}
