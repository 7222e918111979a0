//! Actors that were not used lately go back to the store (SLP-01): nothing of them is lost, and nobody can tell but
//! by counting what is in memory.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use common::{Reins, ToyVat, add, found, get, held, named, open, raised, reopen, run, runtime};
use goblins_core::actor::Life;
use goblins_core::host::Host;
use goblins_core::log::Moment;
use goblins_core::residency::Limits;
use goblins_core::storage::Fit;
use goblins_core::toy::{
    Act, Actor, Env, Fault, Message, Promise, Reply, Sketch, Toy, Turn, Value, call, cell, counter, fulfil,
    list, result, send,
};
use goblins_core::vat::{Vat, VatOptions};
use proptest::prelude::*;

fn actors(most: usize) -> Limits {
    Limits { actors: Some(most), bytes: None }
}

fn is_ghost(actor: &Actor) -> bool {
    matches!(Toy::actor_cell(actor).state().life(), Life::Ghost)
}

fn sleepers(actors: &[Actor]) -> Vec<usize> {
    (0..actors.len()).filter(|index| is_ghost(&actors[*index])).collect()
}

/// A vat with counters, all of them roots, and that limit. The founding churn is one too.
fn counters<const N: usize>(reins: &Reins, limits: Limits) -> (ToyVat, [Actor; N]) {
    let (vat, counters) = found(&runtime(), &reins.storage(), "main", std::array::from_fn(|_| counter(0)));
    vat.set_sleep(limits);
    (vat, counters)
}

#[test]
fn those_that_were_used_longest_ago_sleep_after_a_churn() {
    let reins = Reins::default();
    let (vat, _) = counters::<0>(&reins, actors(2));
    let all: Vec<Actor> = run(&vat, |turn| {
        let made: Vec<Actor> = (0..4).map(|_| turn.spawn(counter(0))).collect();
        turn.spawn(list(made.iter().cloned().map(Value::Actor).collect()));
        Ok(made)
    })
    .unwrap();
    assert_eq!(sleepers(&all), [] as [usize; 0], "what is not stored does not sleep");
    drop((vat, all));

    let reins = Reins::default();
    let (vat, all) = counters::<4>(&reins, actors(2));
    assert_eq!(vat.awake(), Some(4));
    add(&all[2], 1).unwrap();
    assert_eq!(vat.awake(), Some(2));
    assert_eq!(sleepers(&all).len(), 2);
    assert!(!is_ghost(&all[2]), "it was used just now");
    for round in 0..3 {
        for (index, actor) in all.iter().enumerate() {
            add(actor, 1).unwrap();
            assert!(!is_ghost(actor));
            assert_eq!(vat.awake(), Some(2), "{round} {index}");
        }
    }
    assert_eq!(all.each_ref().map(get), [3, 3, 4, 3]);
}

#[test]
fn one_that_sleeps_keeps_its_reference_and_wakes_by_one_read() {
    // SLP-02, SLP-06
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root, other]) =
        found(&runtime, &reins.storage(), "main", [cell(Value::Unit), cell(Value::Unit)]);
    let inner = run(&vat, |turn| {
        let inner = turn.spawn(counter(5));
        turn.call(&root, "set", Value::Actor(inner.clone()))?;
        turn.call(&other, "set", Value::Actor(inner.clone()))?;
        Ok(inner)
    })
    .unwrap();
    vat.set_sleep(actors(0));
    run(&vat, |_| Ok(())).unwrap();
    assert!(is_ghost(&root) && is_ghost(&other) && is_ghost(&inner));
    let reads = reins.gets.load(SeqCst);
    assert!(Arc::ptr_eq(&held(&other), &inner));
    assert_eq!(reins.gets.load(SeqCst), reads + 1);
    assert!(Arc::ptr_eq(&held(&root), &inner));
    assert_eq!(get(&inner), 5);
    assert_eq!(reins.gets.load(SeqCst), reads + 3);

    // What nobody else holds goes.
    let weak = Arc::downgrade(&inner);
    drop(inner);
    run(&vat, |_| Ok(())).unwrap();
    assert!(weak.upgrade().is_none());
    assert_eq!(get(&held(&root)), 5);
}

#[test]
fn one_that_is_used_again_and_again_stays() {
    let reins = Reins::default();
    let (vat, all) = counters::<20>(&reins, actors(3));
    run(&vat, |_| Ok(())).unwrap();
    for index in 1..20 {
        add(&all[0], 1).unwrap();
        let reads = reins.gets.load(SeqCst);
        add(&all[0], 1).unwrap();
        assert_eq!(reins.gets.load(SeqCst), reads, "it was awake");
        add(&all[index], 1).unwrap();
    }
    assert_eq!(get(&all[0]), 38);
    assert_eq!(vat.awake(), Some(3));
}

#[test]
fn bytes_count_as_well_and_grow_with_the_record() {
    let (reins, runtime) = (Reins::default(), runtime());
    let text = |len: usize| Value::Text("x".repeat(len).into());
    let (vat, all) = found(
        &runtime,
        &reins.storage(),
        "main",
        [(); 10].map(|()| cell(Value::Text("y".repeat(100).into()))),
    );
    vat.set_sleep(Limits { actors: None, bytes: Some(500) });
    run(&vat, |_| Ok(())).unwrap();
    assert_eq!(vat.awake(), Some(4), "each takes a little more than 100 bytes");
    call(&all[9], "set", text(450)).unwrap();
    assert_eq!((vat.awake(), is_ghost(&all[9])), (Some(1), false));
    call(&all[9], "set", text(501)).unwrap();
    assert_eq!((vat.awake(), is_ghost(&all[9])), (Some(0), true), "it alone is too large");
    call(&all[9], "set", text(1)).unwrap();
    for actor in &all[..4] {
        call(actor, "get", Value::Unit).unwrap();
    }
    assert_eq!(vat.awake(), Some(5));
}

#[test]
fn both_limits_hold_at_once() {
    let reins = Reins::default();
    let (vat, all) = counters::<10>(&reins, Limits { actors: Some(3), bytes: Some(1_000_000) });
    run(&vat, |_| Ok(())).unwrap();
    assert_eq!((vat.awake(), sleepers(&all).len()), (Some(3), 7));
    let reins = Reins::default();
    let (vat, _all) = counters::<10>(&reins, Limits { actors: Some(9), bytes: Some(1) });
    run(&vat, |_| Ok(())).unwrap();
    assert_eq!(vat.awake(), Some(0));
}

#[test]
fn without_limits_nobody_sleeps() {
    let reins = Reins::default();
    let (runtime, storage) = (runtime(), reins.storage());
    let (vat, all) = found(&runtime, &storage, "main", [(); 50].map(|()| counter(0)));
    add(&all[0], 1).unwrap();
    assert_eq!((vat.awake(), sleepers(&all).len()), (Some(50), 0));
    assert_eq!(common::vat(&runtime, "in memory").awake(), None);
}

#[test]
fn nobody_sleeps_during_a_turn_or_with_what_is_not_written() {
    let reins = Reins::default();
    let (vat, all) = counters::<5>(&reins, actors(0));
    run(&vat, |turn| {
        for _ in 0..3 {
            for actor in &all {
                turn.call(actor, "add", Value::Int(1))?;
            }
        }
        assert_eq!(sleepers(&all), [] as [usize; 0]);
        Ok(())
    })
    .unwrap();
    assert_eq!(sleepers(&all).len(), 5);
    reins.fail_write.store(true, SeqCst);
    let reads = reins.gets.load(SeqCst);
    add(&all[0], 1).unwrap_err();
    assert_eq!(reins.gets.load(SeqCst), reads + 1);
    reins.fail_write.store(false, SeqCst);
    let (_vat, [first]) = {
        let opened = open(&runtime(), &reins.storage(), "main");
        let mut roots = opened.vat.roots((), &opened.record.unwrap()).unwrap();
        roots.truncate(1);
        (opened.vat, <[Actor; 1]>::try_from(roots).unwrap())
    };
    assert_eq!(get(&first), 3);
}

/// An actor that waits for the promise it is sent, and answers with its number then.
struct Waits(i64, Promise);

impl Act for Waits {
    fn act(&self, turn: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        let (number, answer) = (self.0, Promise::default());
        match message.value {
            Value::Actor(me) if message.method == "wait" => {
                let go_on = Box::new(move |_: &Turn<'_>, _, _: &Promise| Ok(Some(Value::Int(number))));
                turn.suspend_in(&me, &self.1, go_on, &answer);
                Ok(Reply::Value(Value::Promise(answer)))
            }
            _ => Ok(Reply::Value(Value::Int(number))),
        }
    }

    fn sketch(&self) -> Option<Sketch> {
        Some(Sketch { label: "counter", fields: vec![Value::Int(self.0)] })
    }
}

#[test]
fn one_whose_code_waits_for_a_promise_stays_awake_until_it_has_gone_on() {
    // SLP-04
    let (reins, runtime, promise) = (Reins::default(), runtime(), Promise::default());
    let (vat, [waiter, other]) =
        found(&runtime, &reins.storage(), "main", [Arc::new(Waits(7, promise.clone())), counter(0)]);
    vat.set_sleep(actors(0));
    let answers = [0, 1].map(|_| send(&waiter, "wait", Value::Actor(waiter.clone())));
    for _ in 0..3 {
        add(&other, 1).unwrap();
        assert!(!is_ghost(&waiter) && is_ghost(&other));
    }
    fulfil(&promise, Value::Unit);
    assert_eq!(answers.map(|answer| result(&answer).unwrap()), [7, 7].map(Value::Int));
    vat.drain((), None).unwrap();
    run(&vat, |_| Ok(())).unwrap();
    assert!(is_ghost(&waiter));
    assert_eq!(get(&waiter), 7);
}

#[test]
fn one_whose_behavior_is_held_by_others_stays_awake() {
    let reins = Reins::default();
    let (vat, all) = counters::<3>(&reins, actors(0));
    let behavior = match Toy::actor_cell(&all[1]).state().life() {
        Life::Live(behavior) => behavior.clone(),
        _ => panic!("it is awake"),
    };
    for _ in 0..3 {
        run(&vat, |_| Ok(())).unwrap();
        assert_eq!(sleepers(&all), [0, 2]);
    }
    drop(behavior);
    run(&vat, |_| Ok(())).unwrap();
    assert_eq!(sleepers(&all), [0, 1, 2]);
}

/// A number that it changes in place, without saying so.
struct Sly(Arc<AtomicI64>);

impl Act for Sly {
    fn act(&self, _: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        match message.value {
            Value::Int(number) if message.method == "become" => {
                Ok(Reply::Become(Arc::new(Sly(Arc::new(number.into()))), Value::Unit))
            }
            Value::Int(number) => Ok(Reply::Value(Value::Int(self.0.swap(number, SeqCst)))),
            _ => Ok(Reply::Value(Value::Int(self.0.load(SeqCst)))),
        }
    }

    fn sketch(&self) -> Option<Sketch> {
        Some(Sketch { label: "counter", fields: vec![Value::Int(self.0.load(SeqCst))] })
    }

    fn changes_in_place(&self) -> bool {
        true
    }
}

#[test]
fn one_that_is_not_as_it_is_stored_stays_awake() {
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [sly]) = found(&runtime, &reins.storage(), "main", [Arc::new(Sly(Arc::new(5.into())))]);
    vat.set_sleep(actors(0));
    call(&sly, "swap", Value::Int(6)).unwrap();
    for _ in 0..3 {
        run(&vat, |_| Ok(())).unwrap();
        assert!(!is_ghost(&sly));
    }
    assert_eq!(get(&sly), 6);
    call(&sly, "become", Value::Int(7)).unwrap();
    run(&vat, |_| Ok(())).unwrap();
    assert!(is_ghost(&sly), "now it is stored");
    assert_eq!(get(&sly), 7);
}

#[test]
fn many_that_must_stay_awake_do_not_keep_the_others_awake_for_ever() {
    let reins = Reins::default();
    let (vat, all) = counters::<400>(&reins, actors(0));
    let hold = |actor: &Actor| match Toy::actor_cell(actor).state().life() {
        Life::Live(behavior) => behavior.clone(),
        _ => panic!("it is awake"),
    };
    let held: Vec<_> = all[..300].iter().map(hold).collect();
    for _ in 0..20 {
        run(&vat, |_| Ok(())).unwrap();
    }
    assert_eq!(vat.awake(), Some(300));
    drop(held);
    for _ in 0..20 {
        run(&vat, |_| Ok(())).unwrap();
    }
    assert_eq!(vat.awake(), Some(0));
}

#[test]
fn those_that_a_failed_turn_woke_are_ghosts_and_do_not_count() {
    let reins = Reins::default();
    let (vat, all) = counters::<6>(&reins, actors(2));
    run(&vat, |_| Ok(())).unwrap();
    for _ in 0..5 {
        run(&vat, |turn| {
            for actor in &all {
                turn.call(actor, "add", Value::Int(1))?;
            }
            raised::<()>("undone")
        })
        .unwrap_err();
        assert_eq!((vat.awake(), sleepers(&all).len()), (Some(2), 4));
    }
    add(&all[0], 1).unwrap();
    assert_eq!(all.each_ref().map(get), [1, 0, 0, 0, 0, 0]);
}

#[test]
fn those_that_died_do_not_count() {
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root]) = found(&runtime, &reins.storage(), "main", [list(Vec::new())]);
    vat.set_sleep(actors(10));
    for round in 0..2_000 {
        run(&vat, |turn| {
            let short_lived = turn.spawn(cell(Value::Unit));
            turn.call(&root, "push", Value::Actor(short_lived.clone()))?;
            // It is stored, and then the root forgets it again.
            turn.call(&short_lived, "set", Value::Int(round))?;
            Ok(())
        })
        .unwrap();
        assert!(vat.awake().unwrap() <= 11);
    }
}

#[test]
fn roots_are_made_anew_of_sleepers() {
    // SLP-05
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (vat, _) = found(&runtime, &storage, "main", [counter(1), counter(2)]);
    vat.close(()).unwrap();
    let opened = open(&runtime, &storage, "main");
    opened.vat.set_sleep(actors(0));
    let old = opened.vat.roots((), opened.record.as_ref().unwrap()).unwrap();
    run(&opened.vat, |turn| turn.call(&old[0], "get", Value::Unit)).unwrap();
    assert!(is_ghost(&old[0]) && is_ghost(&old[1]));
    let new = opened.vat.found((), [7; 16], vec![1], |churn| {
        let turn = Turn::new(churn);
        let sum = common::int(&turn.call(&old[0], "get", Value::Unit)?)
            + common::int(&turn.call(&old[1], "add", Value::Int(10))?);
        Ok(vec![old[1].clone(), turn.spawn(list(vec![Value::Int(sum), Value::Actor(old[0].clone())]))])
    });
    let new = new.unwrap();
    assert!(is_ghost(&new[0]) && is_ghost(&new[1]));
    opened.vat.close(()).unwrap();
    let (_vat, [first, second]) = reopen::<2>(&runtime, &reins.storage(), "main");
    assert_eq!(get(&first), 12);
    assert_eq!(call(&second, "at", Value::Int(0)).unwrap(), Value::Int(13));
}

fn logged(reins: &Reins, limits: Limits) -> (ToyVat, [Actor; 2]) {
    let claim = reins.storage().claim("main").unwrap();
    let options = VatOptions { log_capacity: Some(64), ..named("main") };
    let opened = Vat::open(&runtime(), options, claim, Env::default(), |_| Fit::Fits).unwrap();
    opened.vat.set_sleep(limits);
    let made = opened.vat.found((), [7; 16], Vec::new(), |churn| {
        let turn = Turn::new(churn);
        Ok(vec![turn.spawn(counter(0)), turn.spawn(counter(100))])
    });
    (opened.vat, made.unwrap().try_into().unwrap())
}

#[test]
fn a_sleeper_is_looked_at_as_it_was_and_sleeps_on() {
    // LOG-05, LOG-22
    let reins = Reins::default();
    let (vat, [tally, other]) = logged(&reins, actors(0));
    for _ in 0..4 {
        add(&tally, 1).unwrap();
    }
    assert!(is_ghost(&tally) && is_ghost(&other));
    let peek = |sequence, actor: &Actor| {
        vat.peek((), Moment { sequence, before: false }, |churn| {
            Turn::new(churn).call(actor, "get", Value::Unit)
        })
        .unwrap()
    };
    for number in 0..5 {
        assert_eq!(peek(number, &tally), Value::Int(i64::try_from(number).unwrap()));
        assert_eq!(peek(number, &other), Value::Int(100));
        assert!(is_ghost(&tally) && is_ghost(&other));
        assert_eq!(vat.awake(), Some(0));
    }
    assert_eq!((get(&tally), get(&other)), (4, 100));
}

#[derive(Clone, Debug)]
enum Op {
    Spawn(u8),
    Add(usize, i64),
    Put(usize, usize),
    Through(usize),
    At(usize, i64),
    Tell(usize, i64),
    Fail,
    /// The program's own reference to an actor goes; it is found again in the root.
    LetGo(usize),
}

fn program() -> impl Strategy<Value = Vec<Vec<Op>>> {
    let actor = || 0usize..12;
    let op = prop_oneof![
        3 => (0u8..3).prop_map(Op::Spawn),
        5 => (actor(), 0i64..50).prop_map(|(a, n)| Op::Add(a, n)),
        4 => (actor(), actor()).prop_map(|(a, b)| Op::Put(a, b)),
        3 => actor().prop_map(Op::Through),
        2 => (actor(), 0i64..3).prop_map(|(a, n)| Op::At(a, n)),
        2 => (actor(), 0i64..50).prop_map(|(a, n)| Op::Tell(a, n)),
        1 => Just(Op::Fail),
        2 => actor().prop_map(Op::LetGo),
    ];
    prop::collection::vec(prop::collection::vec(op, 1..6), 1..24)
}

/// What a program saw, and what was stored in the end.
type Seen = (Vec<String>, BTreeMap<Vec<u8>, Vec<u8>>);

fn run_program(program: &[Vec<Op>], limits: Option<Limits>) -> Seen {
    let (reins, runtime) = (Reins::default(), runtime());
    let (vat, [root]) = found(&runtime, &reins.storage(), "main", [list(Vec::new())]);
    if let Some(limits) = limits {
        vat.set_sleep(limits);
    }
    let mut seen = Vec::new();
    let mut known: Vec<Option<Actor>> = Vec::new();
    for turn_ops in program {
        let mut made = Vec::new();
        let result = run(&vat, |turn| {
            let find = |index: usize| match known.get(index % known.len().max(1)) {
                None => Ok(root.clone()),
                Some(Some(actor)) => Ok(actor.clone()),
                Some(None) => match turn.call(&root, "at", Value::Int((index % known.len()) as i64))? {
                    Value::Actor(actor) => Ok(actor),
                    other => panic!("{other:?} stands in the root"),
                },
            };
            let mut answers = Vec::new();
            for op in turn_ops {
                let answer = match *op {
                    Op::Spawn(kind) => {
                        let behavior = match kind {
                            0 => counter(0),
                            1 => cell(Value::Unit),
                            _ => list(Vec::new()),
                        };
                        let actor = turn.spawn(behavior);
                        made.push(actor.clone());
                        turn.call(&root, "push", Value::Actor(actor))
                    }
                    Op::Add(actor, number) => turn.call(&find(actor)?, "add", Value::Int(number)),
                    Op::Put(actor, other) if known.is_empty() => {
                        turn.call(&find(actor)?, "len", Value::Int(other as i64))
                    }
                    Op::Put(actor, other) => {
                        let (target, other) = (find(actor)?, find(other)?);
                        turn.call(&target, "set", Value::Actor(other))
                    }
                    Op::Through(actor) => turn.call(&find(actor)?, "call", Value::Unit),
                    Op::At(actor, index) => turn.call(&find(actor)?, "at", Value::Int(index)),
                    Op::Tell(actor, number) => {
                        turn.tell(&find(actor)?, "add", Value::Int(number));
                        Ok(Value::Unit)
                    }
                    Op::Fail => raised("the program said so"),
                    Op::LetGo(_) => Ok(Value::Unit),
                };
                answers.push(format!("{:?}", answer?));
            }
            Ok(answers)
        });
        let text = match result {
            Ok(answers) => {
                known.extend(made.into_iter().map(Some));
                answers.join(", ")
            }
            Err(error) => error.to_string(),
        };
        seen.push(text);
        for op in turn_ops {
            if let Op::LetGo(index) = op
                && !known.is_empty()
            {
                let len = known.len();
                known[index % len] = None;
            }
        }
        if let Some(Limits { actors: Some(most), .. }) = limits {
            assert!(vat.awake().unwrap() <= most);
        }
    }
    vat.close(()).unwrap();
    (seen, reins.contents())
}

#[test]
fn many_that_are_woken_in_order_are_read_in_portions_as_they_are() {
    let reins = Reins::default();
    let (vat, all) = counters::<300>(&reins, actors(0));
    run(&vat, |_| Ok(())).unwrap();
    for round in 1..=3 {
        let reads = reins.gets.load(SeqCst);
        for (index, actor) in all.iter().enumerate() {
            assert_eq!(add(actor, 1).unwrap(), round);
            // One that was read ahead, perhaps, and is changed before it is its turn.
            if let Some(other) = all.get(index + 2).filter(|_| index % 7 == 0) {
                add(other, 1).unwrap();
                add(other, -1).unwrap();
            }
        }
        assert!(reins.gets.load(SeqCst) - reads < 300);
    }
    assert!(all.iter().all(|actor| get(actor) == 3));
}

#[test]
fn a_record_that_was_read_ahead_is_not_used_once_its_actor_has_changed() {
    let reins = Reins::default();
    let (vat, all) = counters::<40>(&reins, actors(0));
    run(&vat, |_| Ok(())).unwrap();
    run(&vat, |turn| {
        turn.call(&all[10], "add", Value::Int(1))?;
        // Its record is read once more together with theirs, as it was before.
        all[..5].iter().try_for_each(|actor| turn.call(actor, "get", Value::Unit).map(drop))
    })
    .unwrap();
    assert!(is_ghost(&all[10]));
    assert_eq!(get(&all[10]), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// SLP-03, SLP-04: with sleep, programs see and store the same as without.
    #[test]
    fn programs_do_the_same_with_sleep_and_without(program in program()) {
        let expected = run_program(&program, None);
        for most in [0, 1, 3] {
            prop_assert_eq!(&run_program(&program, Some(actors(most))), &expected);
        }
        let few_bytes = Limits { actors: None, bytes: Some(40) };
        prop_assert_eq!(&run_program(&program, Some(few_bytes)), &expected);
    }
}
