//! What is written, and when: one batch for each churn (G4), with only what changed (G5); what can't be
//! stored is an error of the turn that wanted to keep it (G8).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{ToyVat, add, get, held, named, puppet, raised, reopen, run, runtime, slots, vat};
use goblins_core::error::KernelError;
use goblins_core::faulty::FaultyStore;
use goblins_core::host::Host;
use goblins_core::memory::MemoryStore;
use goblins_core::pool::Runtime;
use goblins_core::record::Shape;
use goblins_core::schema::{Kind, id_of};
use goblins_core::storage::{Fit, Storage};
use goblins_core::store::{Batch, Change};
use goblins_core::toy::{
    Act, Actor, Behavior, Env, Fault, Message, Promise, Reply, Sketch, Toy, Turn, Value, call, cell, counter,
    fulfil, list, outcome, spawn,
};
use goblins_core::vat::Vat;

/// A store that can be left and opened again, and that remembers its batches.
struct Shelf {
    store: Arc<FaultyStore<MemoryStore>>,
    runtime: Arc<Runtime<Toy>>,
}

impl Shelf {
    fn new() -> Self {
        Self { store: Arc::new(FaultyStore::new(MemoryStore::new(), true)), runtime: runtime() }
    }

    fn storage(&self) -> Arc<Storage<Toy>> {
        Storage::open(self.store.clone()).unwrap()
    }

    fn found<const N: usize>(&self, roots: [Behavior; N]) -> (ToyVat, [Actor; N]) {
        common::found(&self.runtime, &self.storage(), "main", roots)
    }

    /// What was written while `doing`.
    fn batches<T>(&self, doing: impl FnOnce() -> T) -> (T, Vec<Batch>) {
        let before = self.store.writes();
        let done = doing();
        (done, self.store.batches().split_off(before))
    }
}

/// Kinds and numbers of what a batch puts, in the order of the keys.
fn keys(batch: &Batch) -> Vec<(u8, u64)> {
    let mut keys: Vec<_> = batch
        .changes()
        .iter()
        .map(|change| match change {
            Change::Put(key, _) => (key[4], id_of(key).unwrap()),
            Change::Delete(key) => panic!("{key:?} is deleted"),
        })
        .collect();
    keys.sort_unstable();
    keys
}

fn shapes_in(batch: &Batch) -> usize {
    keys(batch).iter().filter(|(kind, _)| *kind == Kind::Shape as u8).count()
}

fn slot(actor: &Actor) -> u64 {
    Toy::actor_cell(actor).slot().0
}

fn is_stored(actor: &Actor) -> bool {
    Toy::actor_cell(actor).is_stored()
}

fn set(actor: &Actor, value: Value) -> Result<Value, Fault> {
    call(actor, "set", value)
}

/// A portable actor of a label of its own.
struct Odd;

impl Act for Odd {
    fn act(&self, _: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        match message.method {
            "counter" => Ok(Reply::Become(counter(0), Value::Unit)),
            "closure" => Ok(Reply::Become(puppet(0), Value::Unit)),
            _ => Ok(Reply::Value(Value::Unit)),
        }
    }

    fn sketch(&self) -> Option<Sketch> {
        Some(Sketch { label: "odd", fields: Vec::new() })
    }
}

#[test]
fn a_new_vat_is_stored_whole_in_one_batch() {
    let shelf = Shelf::new();
    let (_, batches) = shelf.batches(|| shelf.found([counter(0), cell(Value::Unit), counter(5)]));
    let [format, founding] = &batches[..] else { panic!("{} batches", batches.len()) };
    assert_eq!(keys(format), [(Kind::Format as u8, 0)]);
    let expected = [
        (Kind::PartName as u8, 1),
        (Kind::Vat as u8, 0),
        (Kind::NextSlot as u8, 0),
        (Kind::Shape as u8, 0),
        (Kind::Shape as u8, 1),
        (Kind::Actor as u8, 0),
        (Kind::Actor as u8, 1),
        (Kind::Actor as u8, 2),
    ];
    assert_eq!(keys(founding), expected);
}

#[test]
fn a_vat_whose_founding_failed_leaves_nothing_and_can_be_founded_again() {
    let shelf = Shelf::new();
    let storage = shelf.storage();
    let opened = common::open(&shelf.runtime, &storage, "main");
    let before = shelf.store.writes();
    let attempt = |roots: fn(&Turn<'_>) -> Result<Vec<Actor>, Fault>| {
        opened.vat.found((), [7; 16], Vec::new(), |churn| roots(&Turn::new(churn)))
    };
    attempt(|_| raised("no")).unwrap_err();
    attempt(|turn| Ok(vec![turn.spawn(counter(0)), turn.spawn(puppet(0))])).unwrap_err();
    let elsewhere = spawn(&vat(&shelf.runtime, "elsewhere"), counter(0)).unwrap();
    let far = opened.vat.found((), [7; 16], Vec::new(), |_| Ok(vec![elsewhere]));
    assert!(matches!(far, Err(Fault::Kernel(KernelError::FarRoot { .. }))));
    assert_eq!(shelf.store.writes(), before);
    assert!(storage.part_names().unwrap().is_empty());

    let roots = attempt(|turn| Ok(vec![turn.spawn(counter(3))])).unwrap();
    assert_eq!(get(&roots[0]), 3);
    assert_eq!(storage.part_names().unwrap(), ["main"]);
}

#[test]
fn a_churn_writes_only_what_changed() {
    // G5
    let shelf = Shelf::new();
    let (_vat, [first, second, third]) = shelf.found([counter(0), counter(0), counter(0)]);
    let (_, batches) = shelf.batches(|| add(&second, 1).unwrap());
    assert_eq!(batches.len(), 1);
    assert_eq!(keys(&batches[0]), [(Kind::Actor as u8, slot(&second))]);
    let (_, batches) = shelf.batches(|| (add(&first, 1).unwrap(), add(&third, 1).unwrap()));
    assert_eq!(batches.iter().map(slots).collect::<Vec<_>>(), [[slot(&first)], [slot(&third)]]);
}

#[test]
fn a_churn_without_change_writes_nothing() {
    // G5
    let shelf = Shelf::new();
    let (vat, [tally, keeper]) = shelf.found([counter(0), cell(Value::Unit)]);
    let (passing, promise) = (spawn(&vat, puppet(0)).unwrap(), Promise::default());
    let synced = shelf.store.synced();
    let ((), batches) = shelf.batches(|| {
        get(&tally);
        call(&tally, "fail", Value::Unit).unwrap_err();
        run(&vat, |turn| {
            turn.call(&tally, "add", Value::Int(1))?;
            turn.call(&keeper, "set", Value::Actor(tally.clone()))?;
            raised::<()>("undone")
        })
        .unwrap_err();
        // What no stored actor refers to is not stored, whatever happens to it.
        set(&passing, Value::Int(1)).unwrap();
        spawn(&vat, counter(0)).unwrap();
        run(&vat, |turn| {
            turn.tell(&tally, "get", Value::Unit);
            turn.fulfil(&promise, Value::Int(1));
            Ok(())
        })
        .unwrap();
        vat.drain((), None).unwrap();
    });
    assert!(batches.is_empty(), "{batches:?}");
    assert_eq!(shelf.store.synced(), synced, "nobody waits for the disk when there is nothing new on it");
    assert_eq!(outcome(&promise).unwrap().unwrap(), Value::Int(1));
}

#[test]
fn all_turns_of_a_churn_are_one_batch() {
    // G4
    let shelf = Shelf::new();
    let (vat, [first, second]) = shelf.found([counter(0), counter(0)]);
    let ((), batches) = shelf.batches(|| {
        run(&vat, |turn| {
            turn.call(&first, "add", Value::Int(1))?;
            turn.tell(&first, "add", Value::Int(1));
            turn.tell(&first, "fail", Value::Unit);
            turn.tell(&second, "add", Value::Int(5));
            let answer = turn.send(&first, "add", Value::Int(1));
            let second = second.clone();
            turn.on(&answer, move |turn, result| turn.call(&second, "add", result?));
            Ok(())
        })
        .unwrap();
    });
    assert_eq!(batches.len(), 1);
    assert_eq!(slots(&batches[0]), [slot(&first), slot(&second)], "each once, whatever it went through");
    drop((vat, first, second));
    let (_vat, [first, second]) = reopen::<2>(&shelf.runtime, &shelf.storage(), "main");
    assert_eq!((get(&first), get(&second)), (3, 8));
}

#[test]
fn each_call_from_outside_is_a_batch_of_its_own() {
    let shelf = Shelf::new();
    let (_vat, [tally]) = shelf.found([counter(0)]);
    let (_, batches) = shelf.batches(|| (1..=5).for_each(|sum| assert_eq!(add(&tally, 1).unwrap(), sum)));
    assert_eq!(batches.len(), 5);
}

#[test]
fn an_actor_that_becomes_reachable_is_stored_with_what_refers_to_it() {
    let shelf = Shelf::new();
    let (vat, [root]) = shelf.found([cell(Value::Unit)]);
    let (chain, batches) = shelf.batches(|| {
        run(&vat, |turn| {
            turn.spawn(counter(9)); // nobody refers to it
            let end = turn.spawn(counter(1));
            let pair = vec![Value::Actor(end.clone()), Value::Actor(end.clone())];
            let middle = turn.spawn(list(pair));
            let first = turn.spawn(cell(Value::Actor(middle.clone())));
            turn.call(&root, "set", Value::Actor(first.clone()))?;
            Ok([root.clone(), first, middle, end])
        })
        .unwrap()
    });
    let mut expected = chain.each_ref().map(slot);
    expected.sort_unstable();
    assert_eq!(batches.len(), 1);
    assert_eq!(slots(&batches[0]), expected);
    assert!(chain.iter().all(is_stored));
}

#[test]
fn an_actor_is_stored_when_it_becomes_reachable_as_it_is_then() {
    let shelf = Shelf::new();
    let (vat, [root]) = shelf.found([cell(Value::Unit)]);
    let later = spawn(&vat, counter(1)).unwrap();
    let (_, batches) = shelf.batches(|| add(&later, 1).unwrap());
    assert!(batches.is_empty() && !is_stored(&later));
    set(&root, Value::Actor(later.clone())).unwrap();
    let (_, batches) = shelf.batches(|| add(&later, 1).unwrap());
    assert_eq!(batches.iter().map(slots).collect::<Vec<_>>(), [[slot(&later)]], "now it is");
    let (_vat, [root]) = reopen::<1>(&shelf.runtime, &shelf.storage(), "main");
    let later = held(&root);
    assert_eq!(get(&later), 3);
}

#[test]
fn what_cant_be_stored_fails_its_own_turn_only_and_leaves_nothing() {
    // G8
    let shelf = Shelf::new();
    let (vat, [root, tally, odd]) = shelf.found([cell(Value::Int(7)), counter(0), counter(0)]);
    let elsewhere = spawn(&common::vat(&shelf.runtime, "elsewhere"), counter(0)).unwrap();
    let offers: [fn(&Turn<'_>, &Actor) -> Value; 5] = [
        |_, _| Value::Code(puppet(0)),
        |_, _| {
            let promise = Promise::default();
            fulfil(&promise, Value::Code(puppet(0)));
            Value::Promise(promise)
        },
        |turn, _| Value::Actor(turn.spawn(puppet(0))),
        |turn, _| {
            // The first of the two could be stored.
            let (good, bad) = (turn.spawn(list(Vec::new())), turn.spawn(cell(Value::Code(puppet(0)))));
            Value::Actor(turn.spawn(list(vec![Value::Actor(good), Value::Actor(bad)])))
        },
        |_, elsewhere| Value::Actor(elsewhere.clone()),
    ];
    for offer in offers {
        let (spawned, batches) = shelf.batches(|| {
            let spawned = std::sync::Mutex::new(None);
            let result = run(&vat, |turn| {
                turn.call(&tally, "add", Value::Int(1))?;
                let value = offer(turn, &elsewhere);
                *spawned.lock().unwrap() = Some(value.clone());
                turn.call(&root, "set", value)
            });
            result.unwrap_err();
            spawned.into_inner().unwrap().unwrap()
        });
        assert!(batches.is_empty(), "{spawned:?}");
        if let Value::Actor(spawned) = &spawned {
            assert!(!is_stored(spawned), "{spawned:?}");
        }
        assert_eq!(call(&root, "get", Value::Unit).unwrap(), Value::Int(7), "{spawned:?}");
        assert_eq!(get(&tally), 0, "{spawned:?}");
    }

    // The turns before and after it, in one churn.
    let (answers, batches) = shelf.batches(|| {
        run(&vat, |turn| {
            let before = turn.send(&tally, "add", Value::Int(1));
            let failed = turn.send(&root, "set", Value::Code(puppet(0)));
            Ok([before, failed, turn.send(&odd, "add", Value::Int(2))])
        })
        .unwrap()
    });
    let [before, failed, after] = answers.map(|answer| outcome(&answer).unwrap());
    assert_eq!((before.unwrap(), after.unwrap()), (Value::Int(1), Value::Int(2)));
    assert!(failed.unwrap_err().to_string().contains("can't be stored"));
    assert_eq!(batches.iter().map(slots).collect::<Vec<_>>(), [[slot(&tally), slot(&odd)]]);
}

#[test]
fn a_label_is_not_stored_with_a_turn_that_failed() {
    // G8
    let shelf = Shelf::new();
    let (vat, [root, tally]) = shelf.found([cell(Value::Unit), counter(0)]);
    run(&vat, |turn| {
        // The list is described first: its label was new to the store by then.
        let bad = turn.spawn(cell(Value::Code(puppet(0))));
        turn.call(&root, "set", Value::Actor(turn.spawn(list(vec![Value::Actor(bad)]))))
    })
    .unwrap_err();
    let (_, batches) = shelf.batches(|| add(&tally, 1).unwrap());
    assert_eq!(batches.iter().map(shapes_in).collect::<Vec<_>>(), [0]);
    let (_, batches) = shelf.batches(|| {
        run(&vat, |turn| turn.call(&root, "set", Value::Actor(turn.spawn(list(Vec::new()))))).unwrap()
    });
    assert_eq!(batches.iter().map(shapes_in).collect::<Vec<_>>(), [1]);
    let (_vat, [root, _]) = reopen::<2>(&shelf.runtime, &shelf.storage(), "main");
    let list = held(&root);
    assert_eq!(get(&list), 0);
}

#[test]
fn a_label_with_its_fields_is_stored_once() {
    let shelf = Shelf::new();
    let (vat, batches) = shelf.batches(|| shelf.found([cell(Value::Unit), counter(0), counter(0)]).0);
    assert_eq!(batches.iter().map(shapes_in).collect::<Vec<_>>(), [0, 2]);
    vat.close(()).unwrap();

    let grow = |root: &Actor, behavior: Behavior| {
        let vat = Toy::actor_cell(root).vat();
        let (_, batches) = shelf
            .batches(|| run(vat, |turn| turn.call(root, "set", Value::Actor(turn.spawn(behavior)))).unwrap());
        batches.iter().map(shapes_in).collect::<Vec<_>>()
    };
    let (vat, [root, ..]) = reopen::<3>(&shelf.runtime, &shelf.storage(), "main");
    assert_eq!(grow(&root, counter(1)), [0], "known from the store");
    assert_eq!(grow(&root, list(Vec::new())), [1]);
    assert_eq!(grow(&root, list(Vec::new())), [0]);
    vat.close(()).unwrap();

    // The same label with other fields is another shape. Those who have the old one keep it until they change.
    let env = Env::default().with("counter", &["value", "step"], |fields| match fields[..] {
        [Value::Int(value), ..] => counter(value),
        _ => counter(0),
    });
    let storage = shelf.storage();
    let claim = storage.claim("main").unwrap();
    let opened = Vat::open(&shelf.runtime, named("main"), claim, env, |_| Fit::Fits).unwrap();
    let roots = opened.vat.roots((), &opened.record.unwrap()).unwrap();
    let (_, batches) = shelf.batches(|| [(); 2].map(|()| add(&roots[1], 1).unwrap()));
    assert_eq!(batches.iter().map(shapes_in).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(get(&roots[2]), 0);
    opened.vat.close(()).unwrap();
    let shapes = storage.claim("main").unwrap().read_shapes().unwrap();
    let shape = |label: &str, fields: &[&str]| {
        Arc::new(Shape {
            label: label.to_owned(),
            version: Vec::new(),
            fields: fields.iter().map(|s| (*s).to_owned()).collect(),
        })
    };
    let mut labels = shapes.clone();
    labels.sort_by(|a, b| (&a.label, a.fields.len()).cmp(&(&b.label, b.fields.len())));
    let expected = [
        shape("cell", &["value"]),
        shape("counter", &["value"]),
        shape("counter", &["value", "step"]),
        shape("list", &["items"]),
    ];
    assert_eq!(labels, expected);
}

#[test]
fn an_actor_may_become_what_has_another_label_but_not_what_has_no_portrait() {
    let shelf = Shelf::new();
    let env = Env::default().with("odd", &[], |_| Arc::new(Odd));
    let storage = shelf.storage();
    let opened = common::try_open(&shelf.runtime, storage.claim("main").unwrap(), env).unwrap();
    let odd: Behavior = Arc::new(Odd);
    let roots = opened.vat.found((), [7; 16], Vec::new(), |churn| Ok(vec![Turn::new(churn).spawn(odd)]));
    let root = &roots.unwrap()[0];
    let (refused, batches) = shelf.batches(|| call(root, "closure", Value::Unit).unwrap_err());
    assert!(refused.to_string().contains("actor 0 of vat main"), "{refused}");
    assert!(batches.is_empty());
    call(root, "counter", Value::Unit).unwrap();
    assert_eq!(add(root, 4).unwrap(), 4);
    opened.vat.close(()).unwrap();
    // No actor has the label `odd` any more: an environment without it will do.
    let (_vat, [root]) = reopen::<1>(&shelf.runtime, &storage, "main");
    assert_eq!(get(&root), 4);
}
