//! Actors get new code behind the same references, all or none, in one batch (HOT-01 to HOT-13); what is left of
//! older shapes is stored anew; a rehearsal leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{Reins, ToyVat, add, found, get, int, raised, reopen, run, runtime, slots, try_open};
use goblins_core::actor::Life;
use goblins_core::churn::Churn;
use goblins_core::error::KernelError;
use goblins_core::host::Host;
use goblins_core::ids::Slot;
use goblins_core::memory::MemoryStore;
use goblins_core::record::Shape;
use goblins_core::replacing::Stage;
use goblins_core::storage::Storage;
use goblins_core::survey::Fit;
use goblins_core::toy::{
    Act, Actor, Behavior, Env, Fault, Message, Reply, Sketch, Toy, Turn, Value, call, cell, counter, current,
    list,
};

/// A counter of the new code: it counts in tens.
struct Tens(i64);

impl Act for Tens {
    fn act(&self, _: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        match (message.method, message.value) {
            ("add", Value::Int(more)) => {
                let sum = self.0 + 10 * more;
                Ok(Reply::Become(Arc::new(Tens(sum)), Value::Int(sum)))
            }
            _ => Ok(Reply::Value(Value::Int(self.0))),
        }
    }

    fn sketch(&self) -> Option<Sketch> {
        Some(Sketch { label: "counter", fields: vec![Value::Int(self.0)] })
    }
}

fn tens(fields: Vec<Value>) -> Behavior {
    Arc::new(Tens(int(&fields[0])))
}

fn new_env() -> Env {
    Env::default().with("counter", &["value"], tens)
}

fn slot(actor: &Actor) -> u64 {
    Toy::actor_cell(actor).slot().0
}

fn is_ghost(actor: &Actor) -> bool {
    matches!(Toy::actor_cell(actor).state().life(), Life::Ghost)
}

/// Replaces all actors that are in memory, in the open turn.
fn replace_in(turn: &Turn<'_>, env: Env) -> Result<usize, Fault> {
    let churn = turn.churn();
    let old = churn.vat().persistence().unwrap().env();
    let mut failed = |_: &Actor, _: Stage, error: Fault| Err(error);
    churn.replace((), &old, Arc::new(env), churn.live_actors(()), &mut failed).map(|made| made.actors.len())
}

fn replace(vat: &ToyVat, env: Env) -> Result<usize, Fault> {
    run(vat, |turn| replace_in(turn, env))
}

/// A vat with two counters, one of them not in memory.
fn two_counters(reins: &Reins) -> (ToyVat, [Actor; 2]) {
    let runtime = runtime();
    let (vat, _) = found(&runtime, &reins.storage(), "main", [counter(1), counter(2)]);
    drop(vat);
    let (vat, [used, ghost]) = reopen::<2>(&runtime, &reins.storage(), "main");
    assert_eq!(get(&used), 1);
    reins.take_batches();
    (vat, [used, ghost])
}

#[test]
fn actors_get_new_code_behind_the_same_reference_in_one_batch_and_keep_their_state() {
    // HOT-01, HOT-02, LIM-16
    let reins = Reins::default();
    let (vat, [used, ghost]) = two_counters(&reins);
    assert_eq!(replace(&vat, new_env()).unwrap(), 1);
    let batches = reins.take_batches();
    assert_eq!(batches.iter().map(slots).collect::<Vec<_>>(), [[slot(&used)]]);
    assert_eq!(add(&used, 1).unwrap(), 11);
    assert!(is_ghost(&ghost));
    assert_eq!(add(&ghost, 1).unwrap(), 12, "a ghost comes up with the new code");
}

#[test]
fn actors_with_new_labels_can_be_stored_from_then_on() {
    // LIM-16, HOT-09
    struct Odd;
    impl Act for Odd {
        fn act(&self, _: &Turn<'_>, _: Message) -> Result<Reply, Fault> {
            Ok(Reply::Value(Value::Int(7)))
        }
        fn sketch(&self) -> Option<Sketch> {
            Some(Sketch { label: "odd", fields: vec![] })
        }
    }
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root]) = found(&runtime, &reins.storage(), "main", [cell(Value::Unit)]);
    let keep = || {
        run(&vat, |turn| {
            let odd = turn.spawn(Arc::new(Odd));
            turn.call(&root, "set", Value::Actor(odd))
        })
    };
    keep().unwrap_err();
    replace(&vat, Env::default().with("odd", &[], |_| Arc::new(Odd))).unwrap();
    keep().unwrap();
}

#[test]
fn an_actor_that_is_called_before_its_turn_comes_is_made_first_and_loses_no_change() {
    fn counting_list(fields: Vec<Value>) -> Behavior {
        // The constructor of the new code calls others.
        let churn = current().unwrap();
        for item in &fields {
            if let Value::Actor(item) = item {
                Turn::new(&churn).call(item, "add", Value::Int(1)).unwrap();
            }
        }
        list(fields)
    }
    for list_first in [true, false] {
        let (reins, runtime) = (Reins::default(), runtime());
        let (vat, roots) = found(&runtime, &reins.storage(), "main", [list(Vec::new()), list(Vec::new())]);
        let counters = run(&vat, |turn| {
            let mut counters = Vec::new();
            for number in [1, 2] {
                let made = turn.spawn(counter(number));
                turn.call(&roots[0], "push", Value::Actor(made.clone()))?;
                counters.push(made);
            }
            Ok(counters)
        })
        .unwrap();
        let env = new_env().with("list", &["items"], counting_list);
        run(&vat, |turn| {
            let churn = turn.churn();
            let old = churn.vat().persistence().unwrap().env();
            let mut actors = churn.live_actors(());
            if !list_first {
                actors.reverse();
            }
            churn.replace((), &old, Arc::new(env), actors, &mut |_, _, error| Err(error)).map(drop)
        })
        .unwrap();
        assert_eq!(counters.iter().map(get).collect::<Vec<_>>(), [11, 12]);
        let (_, [root, _]) = reopen::<2>(&runtime, &reins.storage(), "main");
        let item = call(&root, "at", Value::Int(0)).unwrap();
        let Value::Actor(item) = item else { panic!("{item:?}") };
        assert_eq!(get(&item), 11, "it is stored, too");
    }
}

#[test]
fn a_new_constructor_may_spawn_and_send() {
    // HOT-05
    fn busy(fields: Vec<Value>) -> Behavior {
        let churn = current().unwrap();
        let turn = Turn::new(&churn);
        let helper = turn.spawn(counter(int(fields.first().unwrap_or(&Value::Int(0)))));
        turn.tell(&helper, "add", Value::Int(5));
        cell(Value::Actor(helper))
    }
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root]) = found(&runtime, &reins.storage(), "main", [cell(Value::Int(3))]);
    reins.take_batches();
    replace(&vat, Env::default().with("cell", &["value"], busy)).unwrap();
    assert_eq!(reins.take_batches().len(), 1);
    assert_eq!(get(&common::held(&root)), 8);
    let (_, [root]) = reopen::<1>(&runtime, &reins.storage(), "main");
    assert_eq!(get(&common::held(&root)), 8);
}

#[test]
fn a_failure_changes_neither_actors_nor_environment_nor_store() {
    // HOT-07
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [count, box_]) = found(&runtime, &reins.storage(), "main", [counter(1), cell(Value::Unit)]);
    let before = reins.contents();
    // The counter is made again, then the cell fails.
    replace(&vat, new_env().without("cell")).unwrap_err();
    assert_eq!(reins.contents(), before);
    assert_eq!(add(&count, 1).unwrap(), 2);
    call(&box_, "set", Value::Int(4)).unwrap();
    assert_eq!(get(&box_), 4);
}

#[test]
fn a_turn_that_fails_after_it_changes_nothing_either() {
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [count, box_]) = found(&runtime, &reins.storage(), "main", [counter(1), cell(Value::Unit)]);
    let failed: Result<(), _> = run(&vat, |turn| {
        replace_in(turn, new_env().without("cell").with("cell", &["value"], |_| cell(Value::Int(9))))?;
        assert_eq!(turn.call(&count, "add", Value::Int(1))?, Value::Int(11));
        raised("no")
    });
    failed.unwrap_err();
    assert_eq!(add(&count, 1).unwrap(), 2);
    assert_eq!(call(&box_, "get", Value::Unit).unwrap(), Value::Unit);
}

#[test]
fn a_write_that_fails_brings_the_old_code_back_and_stops_the_vat() {
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [count]) = found(&runtime, &reins.storage(), "main", [counter(1)]);
    let env = vat.persistence().unwrap().env();
    reins.fail_write.store(true, SeqCst);
    replace(&vat, new_env()).unwrap_err();
    assert!(Arc::ptr_eq(&env, &vat.persistence().unwrap().env()));
    match Toy::actor_cell(&count).state().life() {
        Life::Live(behavior) => assert!(behavior.sketch().unwrap().fields == [Value::Int(1)]),
        other => panic!("{:?}", matches!(other, Life::Ghost)),
    }
    assert!(matches!(add(&count, 1), Err(Fault::Kernel(KernelError::Poisoned { .. }))));
    reins.fail_write.store(false, SeqCst);
    let (_, [count]) = reopen::<1>(&runtime, &reins.storage(), "main");
    assert_eq!(add(&count, 1).unwrap(), 2);
}

#[test]
fn a_rehearsal_tells_all_failures_and_takes_all_back() {
    let (reins, runtime) = (Reins::default(), runtime());
    let roots = [counter(1), cell(Value::Int(1)), cell(Value::Int(2))];
    let (vat, actors) = found(&runtime, &reins.storage(), "main", roots);
    let count = actors[0].clone();
    reins.take_batches();
    let mut failures = Vec::new();
    let made = vat
        .rehearse((), |churn| {
            let (old, env) = (churn.env(())?, Arc::new(new_env().without("cell")));
            let mut failed = |actor: &Actor, stage, _: Fault| {
                failures.push((slot(actor), stage));
                Ok(())
            };
            let made = churn.replace((), &old, env.clone(), churn.live_actors(()), &mut failed)?;
            churn.try_to_store((), &env, &made, &mut failed)?;
            assert_eq!(Turn::new(churn).call(&count, "add", Value::Int(1))?, Value::Int(11));
            Ok(made.actors.len())
        })
        .unwrap();
    assert_eq!(made, 1);
    assert_eq!(failures, [(1, Stage::Make), (2, Stage::Make)]);
    assert_eq!(add(&count, 1).unwrap(), 2);
    assert_eq!(reins.take_batches().len(), 1, "that of the last call");
}

#[test]
fn a_rehearsal_finds_what_could_not_be_stored_and_stores_nothing() {
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root]) = found(&runtime, &reins.storage(), "main", [cell(Value::Int(3))]);
    let before = reins.contents();
    let code = |_| cell(Value::Code(counter(1)));
    let mut stages = Vec::new();
    vat.rehearse((), |churn| {
        let (old, env) = (churn.env(())?, Arc::new(Env::default().with("cell", &["value"], code)));
        let mut failed = |_: &Actor, stage, _: Fault| {
            stages.push(stage);
            Ok(())
        };
        let made = churn.replace((), &old, env.clone(), vec![root.clone()], &mut failed)?;
        churn.try_to_store((), &env, &made, &mut failed)
    })
    .unwrap();
    assert_eq!(stages, [Stage::Store]);
    assert_eq!(reins.contents(), before);
    // What was spawned and tried in a rehearsal is not stored later.
    vat.rehearse((), |churn| {
        let turn = Turn::new(churn);
        let made = turn.spawn(counter(1));
        turn.call(&root, "set", Value::Actor(made.clone()))?;
        churn.try_to_found((), &[made])
    })
    .unwrap();
    assert_eq!(get(&root), 3);
    call(&root, "set", Value::Int(4)).unwrap();
    assert_eq!(get(&reopen::<1>(&runtime, &reins.storage(), "main").1[0]), 4);
}

#[test]
fn stored_actors_are_made_and_stored_again_and_removed_ones_are_left_out() {
    let reins = Reins::default();
    let (vat, [used, ghost]) = two_counters(&reins);
    let stored = vat.stored_actors(0..10).unwrap();
    assert_eq!(stored.iter().map(|one| one.slot.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(vat.stored_actors(1..2).unwrap(), stored[1..]);
    let renew = |is_outdated: fn(&Shape) -> bool| {
        vat.run((), |churn: &std::rc::Rc<Churn<Toy>>| {
            assert_eq!(churn.slots_used(), 2);
            churn.renew((), &[0, 1, 9].map(Slot), is_outdated)
        })
    };
    assert_eq!(renew(|_| false).unwrap(), []);
    assert_eq!(reins.take_batches().len(), 0);
    assert_eq!(renew(|shape| shape.label == "counter").unwrap(), stored);
    let batches = reins.take_batches();
    assert_eq!(batches.iter().map(slots).collect::<Vec<_>>(), [[0, 1]]);
    assert_eq!([get(&used), get(&ghost)], [1, 2]);
}

#[test]
fn what_an_environment_cannot_make_is_counted_by_label_and_reason() {
    let (reins, runtime) = (Reins::default(), runtime());
    let roots = [counter(1), counter(2), cell(Value::Unit), list(Vec::new())];
    let (vat, _) = found(&runtime, &reins.storage(), "main", roots);
    let found = vat.run((), |churn| {
        churn.find_unfit((), |shape| match shape.label.as_str() {
            "counter" => Fit::Unknown,
            "cell" => Fit::Misfit("too old".to_owned()),
            _ => Fit::Fits,
        })
    });
    let found =
        found.unwrap().into_iter().map(|unfit| (unfit.label, unfit.reason, unfit.count, unfit.slot.0));
    let expected =
        [("counter".to_owned(), None, 2, 0), ("cell".to_owned(), Some("too old".to_owned()), 1, 2)];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn a_view_of_a_store_in_use_may_be_written_to_and_the_store_stays_as_it_is() {
    let runtime = runtime();
    let storage: Arc<Storage<Toy>> = Storage::open(MemoryStore::new()).unwrap();
    let (vat, [root]) = found(&runtime, &storage, "main", [counter(1)]);
    let view = storage.view().unwrap();
    add(&root, 1).unwrap();
    let opened = try_open(&runtime, view.claim("main").unwrap(), new_env()).unwrap();
    let [seen] = opened.vat.roots((), &opened.record.unwrap()).unwrap().try_into().unwrap();
    assert_eq!(add(&seen, 1).unwrap(), 11, "as it was when the view was taken");
    view.close(()).unwrap();
    vat.close(()).unwrap();
    let (_, [root]) = reopen::<1>(&runtime, &storage, "main");
    assert_eq!(get(&root), 2);
}
