//! The error for what can't be stored tells the way to it, from a root (G8).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{Reins, ToyVat, found, get, puppet, reopen, run, runtime};
use goblins_core::host::Host;
use goblins_core::ids::Slot;
use goblins_core::toy::{Actor, Behavior, Fault, Toy, Turn, Value, cell, counter, list};
use goblins_core::trail::{Hop, Trail};

fn new<const N: usize>(roots: [Behavior; N]) -> (Reins, ToyVat, [Actor; N]) {
    let store = Reins::default();
    let (vat, actors) = found(&runtime(), &store.storage(), "main", roots);
    (store, vat, actors)
}

/// The way that the error of a turn tells.
fn way<T>(vat: &ToyVat, body: impl FnOnce(&Turn<'_>) -> Result<T, Fault>) -> String {
    let Err(Fault::Raised(text)) = run(vat, body) else { panic!("the turn went well") };
    let (_, way) = text.split_once("(reached by ").unwrap_or_else(|| panic!("{text}"));
    way.trim_end_matches(')').to_owned()
}

fn bad(turn: &Turn<'_>) -> Actor {
    turn.spawn(puppet(0))
}

#[test]
fn a_root_itself_is_at_the_end_of_the_shortest_way() {
    let (_store, vat, [_, second]) = new([counter(0), cell(Value::Unit)]);
    assert_eq!(way(&vat, |turn| turn.call(&second, "set", Value::Code(puppet(0)))), "root 1");
}

#[test]
fn the_way_goes_from_field_to_field() {
    let (_store, vat, [_, root]) = new([counter(0), cell(Value::Unit)]);
    let told = way(&vat, |turn| {
        let inner = turn.spawn(list(vec![Value::Int(1), Value::Actor(bad(turn))]));
        let middle = turn.spawn(cell(Value::Actor(inner)));
        turn.call(&root, "set", Value::Actor(middle))
    });
    assert_eq!(told, "root 1 -> cell#1.value -> cell#4.value -> list#3.items");
}

#[test]
fn it_goes_over_actors_that_are_not_in_memory() {
    let (store, vat, roots) = new([cell(Value::Unit)]);
    let leaf = run(&vat, |turn| {
        let leaf = turn.spawn(cell(Value::Unit));
        let mut inner = leaf.clone();
        for _ in 0..5 {
            inner = turn.spawn(list(vec![Value::Unit, Value::Actor(inner)]));
        }
        turn.call(&roots[0], "set", Value::Actor(inner))?;
        Ok(Toy::actor_cell(&leaf).slot())
    })
    .unwrap();
    vat.close(()).unwrap();
    let (vat, [root]) = reopen::<1>(&runtime(), &store.storage(), "main");
    let leaf = run(&vat, |turn| Ok(reach(turn, &root, leaf))).unwrap();
    drop(root);
    let told = way(&vat, |turn| turn.call(&leaf, "set", Value::Actor(bad(turn))));
    let lists: String = (2..7).rev().map(|slot| format!("list#{slot}.items -> ")).collect();
    assert_eq!(told, format!("root 0 -> cell#0.value -> {lists}cell#1.value"));
}

/// The actor in a slot, reached from a cell over lists.
fn reach(turn: &Turn<'_>, root: &Actor, slot: Slot) -> Actor {
    let mut here = root.clone();
    while Toy::actor_cell(&here).slot() != slot {
        here = match turn.call(&here, "get", Value::Unit).unwrap() {
            Value::Actor(actor) => actor,
            _ => match turn.call(&here, "at", Value::Int(1)).unwrap() {
                Value::Actor(actor) => actor,
                other => panic!("{here:?} holds {other:?}"),
            },
        };
    }
    here
}

#[test]
fn what_the_turn_has_changed_counts_and_not_what_is_stored() {
    let (_store, vat, [one, two]) = new([cell(Value::Unit), cell(Value::Unit)]);
    let moved = run(&vat, |turn| {
        let moved = turn.spawn(cell(Value::Unit));
        turn.call(&one, "set", Value::Actor(moved.clone()))?;
        Ok(moved)
    })
    .unwrap();
    let told = way(&vat, |turn| {
        turn.call(&two, "set", Value::Actor(moved.clone()))?;
        turn.call(&one, "set", Value::Unit)?;
        turn.call(&moved, "set", Value::Actor(bad(turn)))
    });
    assert_eq!(told, "root 1 -> cell#1.value -> cell#2.value");
}

#[test]
fn roots_that_are_being_made_count_too() {
    let store = Reins::default();
    let opened = common::open(&runtime(), &store.storage(), "main");
    let found = opened.vat.found((), [7; 16], Vec::new(), |churn| {
        let turn = Turn::new(churn);
        Ok(vec![turn.spawn(counter(0)), turn.spawn(cell(Value::Actor(bad(&turn))))])
    });
    let text = found.unwrap_err().to_string();
    assert!(text.contains("root 1 -> cell#2.value"), "{text}");
    // Those that failed are forgotten.
    let roots = opened
        .vat
        .found((), [7; 16], Vec::new(), |churn| Ok(vec![Turn::new(churn).spawn(cell(Value::Unit))]))
        .unwrap();
    let told = way(&opened.vat, |turn| turn.call(&roots[0], "set", Value::Actor(bad(turn))));
    assert_eq!(told, format!("root 0 -> cell#{}.value", Toy::actor_cell(&roots[0]).slot()));
}

#[test]
fn a_way_that_is_too_long_begins_at_what_the_turn_has_changed() {
    let (_store, vat, [root]) = new([cell(Value::Unit)]);
    let leaf = run(&vat, |turn| {
        let leaf = turn.spawn(cell(Value::Unit));
        let mut many: Vec<_> = (0..10_050).map(|_| Value::Actor(turn.spawn(counter(0)))).collect();
        many.push(Value::Actor(turn.spawn(cell(Value::Actor(leaf.clone())))));
        turn.call(&root, "set", Value::Actor(turn.spawn(list(many))))?;
        Ok(leaf)
    })
    .unwrap();
    let told = way(&vat, |turn| {
        let between = turn.spawn(list(vec![Value::Actor(bad(turn))]));
        turn.call(&leaf, "set", Value::Actor(between))
    });
    let between = Toy::actor_cell(&leaf).slot().0 + 10_054;
    assert_eq!(told, format!("cell#{}.value -> list#{between}.items", Toy::actor_cell(&leaf).slot()));
}

#[test]
fn a_ring_that_no_root_reaches_ends_the_way() {
    // Nothing is stored that the roots don't reach; yet what they reached may have been cut off.
    let (_store, vat, [root]) = new([cell(Value::Unit)]);
    let [one, two] = run(&vat, |turn| {
        let ring = [turn.spawn(cell(Value::Unit)), turn.spawn(list(Vec::new()))];
        turn.call(&ring[0], "set", Value::Actor(ring[1].clone()))?;
        turn.call(&ring[1], "push", Value::Actor(ring[0].clone()))?;
        turn.call(&root, "set", Value::Actor(ring[0].clone()))?;
        Ok(ring)
    })
    .unwrap();
    goblins_core::toy::call(&root, "set", Value::Unit).unwrap();
    let told = way(&vat, |turn| {
        turn.call(&one, "set", Value::Actor(two.clone()))?;
        turn.call(&two, "push", Value::Actor(bad(turn)))
    });
    assert!(told.ends_with("list#2.items"), "{told}");
    assert!(!told.contains("root"), "{told}");
}

#[test]
fn the_turn_is_undone_and_the_next_one_works() {
    let (store, vat, [tally, keeper]) = new([counter(0), cell(Value::Unit)]);
    way(&vat, |turn| {
        turn.call(&tally, "add", Value::Int(1))?;
        turn.call(&keeper, "set", Value::Actor(bad(turn)))
    });
    assert_eq!(get(&tally), 0);
    assert_eq!(common::add(&tally, 3).unwrap(), 3);
    vat.close(()).unwrap();
    let (_vat, [tally, keeper]) = reopen::<2>(&runtime(), &store.storage(), "main");
    assert_eq!(get(&tally), 3);
    assert_eq!(goblins_core::toy::call(&keeper, "get", Value::Unit).unwrap(), Value::Unit);
}

#[test]
fn a_way_reads_from_the_root_on() {
    let hop = |label: &str, slot, field: Option<&str>| Hop {
        label: label.to_owned(),
        slot: Slot(slot),
        field: field.map(str::to_owned),
    };
    let hops = vec![hop("bank.Bank", 0, Some("accounts")), hop("bank.Account", 7, None)];
    let trail = Trail { root: Some(0), hops: hops.clone() };
    assert_eq!(trail.to_string(), "root 0 -> bank.Bank#0.accounts -> bank.Account#7");
    assert_eq!(Trail { root: None, hops }.to_string(), "bank.Bank#0.accounts -> bank.Account#7");
    let _: Arc<Trail> = Arc::default();
}
