//! What is stored comes back: in any order, with cycles and sharing as they were (G6), each actor when it is
//! first used (G7); and what can't be trusted is refused and left alone (G11).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{Reins, ToyVat, add, found, get, held, open, puppet, raised, reopen, run, runtime, try_open};
use goblins_core::actor::Life;
use goblins_core::error::KernelError;
use goblins_core::host::Host;
use goblins_core::ids::{PartId, ShapeId, Slot};
use goblins_core::record::Record;
use goblins_core::schema::{self, FORMAT, Kind};
use goblins_core::storage::Storage;
use goblins_core::store::{Batch, Store, StoreError};
use goblins_core::toy::{Actor, Env, Fault, Toy, Value, call, cell, counter, list, spawn};
use goblins_core::vat::OpenError;
use proptest::prelude::*;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn slot(actor: &Actor) -> u64 {
    Toy::actor_cell(actor).slot().0
}

fn is_ghost(actor: &Actor) -> bool {
    matches!(Toy::actor_cell(actor).state().life(), Life::Ghost)
}

/// What a list holds, all of it actors.
fn items(list: &Actor) -> Result<Vec<Actor>, Fault> {
    let count = common::int(&call(list, "len", Value::Unit)?);
    let items = (0..count).map(|index| match call(list, "at", Value::Int(index))? {
        Value::Actor(actor) => Ok(actor),
        other => panic!("{other:?} is not an actor"),
    });
    items.collect()
}

/// A store that holds this.
fn store_of(contents: &Contents) -> Reins {
    let (reins, mut batch) = (Reins::default(), Batch::new());
    contents.iter().for_each(|(key, value)| batch.put(key.clone(), value.clone()));
    reins.write(&batch).unwrap();
    reins.take_batches();
    reins
}

/// What stands in a store with a list of a counter and a cell that holds the list.
fn small_store() -> Contents {
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root]) = found(&runtime, &reins.storage(), "main", [list(Vec::new())]);
    run(&vat, |turn| {
        let cell = turn.spawn(cell(Value::Actor(root.clone())));
        let counter = turn.spawn(counter(3));
        turn.call(&root, "push", Value::Actor(counter))?;
        turn.call(&root, "push", Value::Actor(cell))
    })
    .unwrap();
    reins.contents()
}

/// Opens the store and uses all actors of [`small_store`].
fn use_all(reins: &Reins) -> Result<(), Fault> {
    let fault = |error: StoreError| Fault::Kernel(error.into());
    let storage = Storage::<Toy>::open(reins.clone()).map_err(fault)?;
    let opened = try_open(&runtime(), storage.claim("main").map_err(fault)?, Env::default());
    let opened = opened.map_err(|error| match error {
        OpenError::Store(error) => fault(*error),
        other => panic!("{other}"),
    })?;
    let roots = opened.vat.roots((), &opened.record.unwrap())?;
    let [counter, cell]: [Actor; 2] = items(&roots[0])?.try_into().unwrap();
    // What is damaged takes nothing else with it.
    let (counted, kept) = (call(&counter, "get", Value::Unit), call(&cell, "get", Value::Unit));
    assert!(counted.is_ok() || kept.is_ok());
    assert_eq!(counted?, Value::Int(3));
    assert_eq!(kept?, Value::Actor(roots[0].clone()));
    Ok(())
}

fn corrupt_place(error: Fault) -> String {
    match error {
        Fault::Kernel(KernelError::Store(error)) => match &*error {
            StoreError::Corrupt { place, .. } => place.clone(),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

#[test]
fn opening_reads_no_actor_and_each_is_read_at_its_first_use() {
    // G7
    let mut reads = HashSet::new();
    for size in [1, 500] {
        let (reins, runtime) = (Reins::default(), runtime());
        let (vat, [root]) = found(&runtime, &reins.storage(), "main", [list(Vec::new())]);
        run(&vat, |turn| {
            for number in 0..size {
                turn.call(&root, "push", Value::Actor(turn.spawn(counter(number))))?;
            }
            Ok(())
        })
        .unwrap();

        let before = reins.gets.load(SeqCst);
        let gets = || reins.gets.load(SeqCst) - before;
        let (_vat, [root]) = reopen::<1>(&runtime, &reins.storage(), "main");
        reads.insert(gets());
        assert!(is_ghost(&root));
        let opened = gets();
        let items = items(&root).unwrap();
        assert_eq!(gets(), opened + 1, "the root alone");
        assert!(!is_ghost(&root) && items.iter().all(is_ghost));
        for _ in 0..2 {
            assert_eq!(get(items.last().unwrap()), size - 1);
            assert_eq!(gets(), opened + 2);
        }
    }
    assert_eq!(reads.len(), 1, "whatever the number of actors: {reads:?}");
}

#[test]
fn a_call_wakes_all_that_it_goes_through() {
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root]) = found(&runtime, &reins.storage(), "main", [cell(Value::Unit)]);
    run(&vat, |turn| {
        let end = turn.spawn(counter(8));
        let middle = turn.spawn(cell(Value::Actor(end)));
        turn.call(&root, "set", Value::Actor(middle))
    })
    .unwrap();
    let (vat, [root]) = reopen::<1>(&runtime, &reins.storage(), "main");
    let ended = run(&vat, |turn| {
        let Value::Actor(end) = turn.call(&root, "call", Value::Unit)? else { panic!("no actor") };
        turn.call(&end, "get", Value::Unit)
    });
    assert_eq!(ended.unwrap(), Value::Int(8));
}

#[test]
fn an_actor_that_left_memory_comes_back_with_its_last_state() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (vat, [root]) = found(&runtime, &storage, "main", [cell(Value::Unit)]);
    run(&vat, |turn| turn.call(&root, "set", Value::Actor(turn.spawn(counter(0))))).unwrap();
    drop((vat, root));
    let opened = open(&runtime, &storage, "main");
    let (vat, record) = (opened.vat, opened.record.unwrap());
    for sum in 1..=3 {
        // Nobody had a reference to them.
        let root = vat.roots((), &record).unwrap().remove(0);
        assert!(is_ghost(&root));
        let counter = held(&root);
        assert!(is_ghost(&counter));
        assert_eq!((slot(&root), slot(&counter)), (0, 1));
        assert_eq!(add(&counter, 1).unwrap(), sum);
        assert!(Arc::ptr_eq(&counter, &held(&root)));
    }
}

#[test]
fn a_failed_turn_makes_ghosts_of_what_it_woke() {
    let reins = store_of(&small_store());
    let (vat, [root]) = reopen::<1>(&runtime(), &reins.storage(), "main");
    let counter = items(&root).unwrap().swap_remove(0);
    for _ in 0..2 {
        run(&vat, |turn| {
            turn.call(&counter, "add", Value::Int(1))?;
            raised::<()>("undone")
        })
        .unwrap_err();
        assert!(is_ghost(&counter));
    }
    assert!(reins.take_batches().is_empty());
    assert_eq!(add(&counter, 1).unwrap(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// G6. Node 0 is the root; each node is a list of others, perhaps of itself, perhaps of one twice.
    #[test]
    fn cycles_sharing_and_self_references_come_back_in_any_order(
        graph in prop::collection::vec(prop::collection::vec(0usize..8, 0..4), 8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let (reins, runtime) = (Reins::default(), runtime());
        let (vat, [root]) = found(&runtime, &reins.storage(), "main", [list(Vec::new())]);
        let slots: Vec<u64> = run(&vat, |turn| {
            let mut nodes = vec![root.clone()];
            nodes.extend((1..graph.len()).map(|_| turn.spawn(list(Vec::new()))));
            for (node, edges) in nodes.iter().zip(&graph) {
                for edge in edges {
                    turn.call(node, "push", Value::Actor(nodes[*edge].clone()))?;
                }
            }
            Ok(nodes.iter().map(slot).collect())
        }).unwrap();

        let (_vat, [root]) = reopen::<1>(&runtime, &reins.storage(), "main");
        let mut known: HashMap<u64, Actor> = HashMap::from([(slot(&root), root)]);
        for index in order {
            let node = index.get(&known.values().cloned().collect::<Vec<_>>()).clone();
            let at = slots.iter().position(|slot| *slot == self::slot(&node)).unwrap();
            let found = items(&node).unwrap();
            let expected: Vec<u64> = graph[at].iter().map(|edge| slots[*edge]).collect();
            prop_assert_eq!(found.iter().map(slot).collect::<Vec<_>>(), expected);
            for item in found {
                let same = known.entry(slot(&item)).or_insert_with(|| item.clone());
                prop_assert!(Arc::ptr_eq(same, &item), "two references to one actor");
            }
        }
    }
}

#[test]
fn parts_of_a_store_know_nothing_of_each_other() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_b, [b]) = found(&runtime, &storage, "b", [counter(1)]);
    let (_a, [a, _]) = found(&runtime, &storage, "a", [cell(Value::Unit), counter(2)]);
    add(&b, 10).unwrap();
    assert_eq!((slot(&a), slot(&b)), (0, 0));
    assert_eq!(storage.part_names().unwrap(), ["a", "b"]);
    let storage = reins.storage();
    let (_b, [b]) = reopen::<1>(&runtime, &storage, "b");
    let (_a, [_, a]) = reopen::<2>(&runtime, &storage, "a");
    assert_eq!((get(&a), get(&b)), (2, 11));
}

#[test]
fn no_slot_is_given_twice_over_restarts() {
    // LIM-43
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root]) = found(&runtime, &reins.storage(), "main", [list(Vec::new())]);
    let mut stored = vec![slot(&root)];
    vat.close(()).unwrap();
    for round in 0..5 {
        let storage = reins.storage();
        let (vat, [root]) = reopen::<1>(&runtime, &storage, "main");
        for number in 0..3 {
            let kept = run(&vat, |turn| {
                turn.spawn(puppet(0));
                let kept = turn.spawn(counter(round * 10 + number));
                turn.call(&root, "push", Value::Actor(kept.clone()))?;
                Ok(kept)
            });
            stored.push(slot(&kept.unwrap()));
            spawn(&vat, counter(0)).unwrap();
            run(&vat, |turn| Ok::<_, Fault>(turn.spawn(counter(0))).and(raised::<()>("undone"))).unwrap_err();
        }
        vat.close(()).unwrap();
        let next = storage.claim("main").unwrap().read_next_slot().unwrap();
        assert!(stored.iter().all(|slot| Slot(*slot) < next), "{stored:?} {next:?}");
    }
    assert!(stored.windows(2).all(|pair| pair[0] < pair[1]), "{stored:?}");
    let (_vat, [root]) = reopen::<1>(&runtime, &reins.storage(), "main");
    let numbers: Vec<i64> = items(&root).unwrap().iter().map(get).collect();
    assert_eq!(items(&root).unwrap().iter().map(slot).collect::<Vec<_>>(), stored[1..]);
    assert_eq!(numbers, (0..15).map(|index| index / 3 * 10 + index % 3).collect::<Vec<_>>());
}

#[test]
fn one_flipped_bit_is_found_and_its_record_named() {
    let contents = small_store();
    use_all(&store_of(&contents)).unwrap();
    assert_eq!(contents.len(), 10, "format, part name, vat, next slot, three shapes, three actors");
    for (key, value) in &contents {
        for bit in 0..value.len() * 8 {
            let mut damaged = contents.clone();
            damaged.get_mut(key).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let reins = store_of(&damaged);
            let place = corrupt_place(use_all(&reins).unwrap_err());
            assert_eq!(place, schema::describe(key), "bit {bit}");
            assert!(reins.contents() == damaged, "it was written to");
        }
    }
}

/// `small_store` with another record for the counter.
fn with_record(change: impl FnOnce(&mut Record) -> Vec<u8>) -> Reins {
    let mut contents = small_store();
    let key = schema::actor_key(PartId(1), Slot(2));
    let mut record = Record::decode(schema::open("", &key, &contents[&key]).unwrap()).unwrap();
    let content = change(&mut record);
    contents.insert(key.clone(), schema::seal(&key, content));
    store_of(&contents)
}

#[test]
fn a_record_that_is_whole_but_makes_no_sense_is_found() {
    let key = schema::describe(&schema::actor_key(PartId(1), Slot(2)));
    let no_shape = with_record(|record| {
        record.shape = ShapeId(99);
        record.encode()
    });
    assert_eq!(corrupt_place(use_all(&no_shape).unwrap_err()), key);
    let newer = with_record(|record| [&[9], &record.encode()[1..]].concat());
    let error = use_all(&newer).unwrap_err();
    assert!(error.to_string().contains("record format 9"), "{error}");
    assert_eq!(corrupt_place(error), key);
    assert_eq!(corrupt_place(use_all(&with_record(|_| Vec::new())).unwrap_err()), key);

    let mut contents = small_store();
    contents.remove(&schema::actor_key(PartId(1), Slot(2))).unwrap();
    let missing = use_all(&store_of(&contents)).unwrap_err();
    assert!(matches!(missing, Fault::Kernel(KernelError::MissingRecord { slot: 2, .. })), "{missing}");
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    // G11
    let mut contents = small_store();
    let key = schema::key(PartId(0), Kind::Format, 0);
    let mut newer = Vec::new();
    schema::put_varint(&mut newer, FORMAT + 1);
    contents.insert(key.clone(), schema::seal(&key, newer));
    let reins = store_of(&contents);
    let error = Storage::<Toy>::open(reins.clone()).err().unwrap();
    assert!(
        matches!(error, StoreError::NewerFormat { found, supported: FORMAT, .. } if found == FORMAT + 1),
        "{error}"
    );
    assert!(reins.contents() == contents && reins.take_batches().is_empty());
    assert_eq!(reins.closes.load(SeqCst), 1, "it is let go");
}

#[test]
fn an_unknown_label_is_refused_and_the_store_left_as_it_was() {
    let contents = small_store();
    let reins = store_of(&contents);
    let (runtime, storage) = (runtime(), reins.storage());
    for label in ["counter", "cell", "list"] {
        let env = Env::default().without(label);
        let error = try_open(&runtime, storage.claim("main").unwrap(), env).err().unwrap();
        let text = error.to_string();
        let OpenError::UnknownLabel { unfit: unknown, .. } = error else { panic!("{text}") };
        assert_eq!((unknown.label.as_str(), unknown.count), (label, 1));
        assert!(text.contains(label) && text.contains("nothing was changed"), "{text}");
        assert!(reins.contents() == contents);
    }
    use_all(&reins).unwrap();
}

#[test]
fn a_part_has_one_live_vat_and_can_be_had_again_after_it() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let in_use = || match storage.claim("main") {
        Err(StoreError::PartInUse { part, .. }) => part == "main",
        _ => false,
    };
    drop(open(&runtime, &storage, "main"));
    let claim = storage.claim("main").unwrap();
    assert!(in_use(), "claimed, not open");
    drop(claim);

    let (old, [old_root]) = found(&runtime, &storage, "main", [counter(1)]);
    assert!(in_use());
    storage.claim("other").unwrap();
    old.close(()).unwrap();
    let (new, [new_root]) = reopen::<1>(&runtime, &storage, "main");
    old.close(()).unwrap();
    assert!(in_use(), "the second close has not freed the new vat's part");
    let closed = call(&old_root, "add", Value::Int(1));
    assert!(matches!(closed, Err(Fault::Kernel(KernelError::VatClosed { .. }))));
    drop((old, old_root));
    assert!(in_use(), "nor has the end of the old vat");
    assert_eq!(add(&new_root, 1).unwrap(), 2);

    drop::<(ToyVat, Actor)>((new, new_root));
    let (_vat, [root]) = reopen::<1>(&runtime, &storage, "main");
    assert_eq!(get(&root), 2, "a vat that nobody has any more needs no close");
}
