//! A logged moment of a vat can be looked at: its actors are as they were then, and nothing that is done there
//! has happened.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Reins, ToyVat, becoming, get, named, occupy, puppet, raised, run, runtime};
use goblins_core::error::KernelError;
use goblins_core::log::{EventKind, EventOutcome, Moment};
use goblins_core::toy::{
    Actor, Fault, Promise, Reply, Saved, Toy, Turn, Value, behavior, call, cell, counter, notes, outcome,
    reports, send, spawn, tell,
};
use goblins_core::vat::{Vat, VatOptions};
use proptest::prelude::*;

fn logged(name: &str) -> ToyVat {
    Vat::new(&runtime(), VatOptions { log_capacity: Some(64), ..named(name) })
}

/// What an actor answers right after an event, or just before it.
fn peek(vat: &ToyVat, sequence: u64, before: bool, actor: &Actor) -> Result<Value, Fault> {
    vat.peek((), Moment { sequence, before }, |churn| Turn::new(churn).call(actor, "get", Value::Unit))
}

fn after(vat: &ToyVat, sequence: u64, actor: &Actor) -> Value {
    peek(vat, sequence, false, actor).unwrap()
}

fn why(result: Result<Value, Fault>) -> KernelError {
    match result {
        Err(Fault::Kernel(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_actor_is_as_it_was_at_each_event() {
    // LOG-05, LOG-22
    let vat = logged("as-it-was");
    let tally = spawn(&vat, counter(0)).unwrap();
    for _ in 0..4 {
        call(&tally, "add", Value::Int(1)).unwrap();
    }
    call(&tally, "fail", Value::Unit).unwrap_err();
    let seen: Vec<_> = (0..6).map(|number| after(&vat, number, &tally)).collect();
    assert_eq!(seen, [0, 1, 2, 3, 4, 4].map(Value::Int));
    let seen: Vec<_> = (1..6).map(|number| peek(&vat, number, true, &tally).unwrap()).collect();
    assert_eq!(seen, [0, 1, 2, 3, 4].map(Value::Int));
    let gone = why(peek(&vat, 0, true, &tally));
    assert!(matches!(gone, KernelError::NotYetSpawned { slot: 0, .. }));
    assert_eq!(get(&tally), 4);
}

#[test]
fn nothing_that_is_done_in_a_look_back_has_happened() {
    // LOG-22
    let (vat, promise, heard) = (logged("nothing"), Promise::default(), Promise::default());
    let tally = spawn(&vat, counter(0)).unwrap();
    call(&tally, "add", Value::Int(5)).unwrap();
    let before = vat.log().span();
    let spawned = vat
        .peek((), Moment { sequence: 0, before: false }, |churn| {
            let turn = Turn::new(churn);
            assert!(churn.looks_back());
            turn.call(&tally, "add", Value::Int(1))?;
            turn.tell(&tally, "add", Value::Int(100));
            turn.fulfil(&promise, Value::Int(1));
            let answer = turn.send(&tally, "get", Value::Unit);
            let derived = turn.on(&heard, |_, result| result);
            assert!(churn.awaits(&answer) && churn.awaits(&derived) && churn.awaits(&promise));
            assert!(!churn.awaits(&heard));
            assert_eq!(turn.call(&tally, "get", Value::Unit)?, Value::Int(1));
            Ok(turn.spawn(counter(9)))
        })
        .unwrap();
    vat.drain((), None).unwrap();
    assert_eq!(get(&tally), 5);
    assert!(outcome(&promise).is_none());
    assert!(matches!(why(call(&spawned, "get", Value::Unit)), KernelError::NoSuchActor { .. }));
    assert!(!run(&vat, |turn| Ok(turn.churn().looks_back())).unwrap());
    // The calls since: get, that of the spawned actor, and the last.
    assert_eq!(vat.log().span(), before.start..before.end + 3);
    assert!(reports(&vat).is_empty());
}

#[test]
fn an_error_or_a_panic_in_a_look_back_brings_the_present_back() {
    let vat = logged("back");
    let tally = spawn(&vat, counter(0)).unwrap();
    call(&tally, "add", Value::Int(5)).unwrap();
    let moment = Moment { sequence: 0, before: false };
    let failed: Result<(), _> = vat.peek((), moment, |churn| {
        Turn::new(churn).call(&tally, "add", Value::Int(1))?;
        raised("no")
    });
    assert!(matches!(failed, Err(Fault::Raised(_))));
    assert_eq!(get(&tally), 5);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = vat.peek((), moment, |churn| -> Result<(), Fault> {
            Turn::new(churn).call(&tally, "add", Value::Int(1)).unwrap();
            panic!("as the test wants it");
        });
    }));
    panicked.unwrap_err();
    assert_eq!(get(&tally), 5);
    assert!(!run(&vat, |turn| Ok(turn.churn().looks_back())).unwrap());
}

#[test]
fn a_state_that_is_changed_in_place_goes_back_and_forth() {
    // LOG-05
    let vat = logged("in-place");
    let value = Saved { state: Arc::default(), value: 0 }.state;
    let place = value.clone();
    let actor = spawn(&vat, behavior(move |_, _| Ok(Reply::Value(Value::Int(*place.lock()))))).unwrap();
    for number in 1..4 {
        run(&vat, |turn| {
            let saved = Saved { state: value.clone(), value: *value.lock() };
            turn.churn().touch((), &actor, saved);
            *value.lock() = number * 10;
            Ok(())
        })
        .unwrap();
    }
    let seen: Vec<_> = (0..4).map(|number| after(&vat, number, &actor)).collect();
    assert_eq!(seen, [0, 10, 20, 30].map(Value::Int));
    assert_eq!(*value.lock(), 30);
}

#[test]
fn the_log_reaches_back_only_without_a_gap() {
    // LOG-11, LOG-22
    let vat = logged("gap");
    let tally = spawn(&vat, counter(0)).unwrap();
    let add = || drop(call(&tally, "add", Value::Int(1)).unwrap());
    add();
    vat.log().set_on(false);
    assert!(matches!(why(peek(&vat, 1, false, &tally)), KernelError::NotInLog { event: 1, .. }));
    add();
    vat.log().set_on(true);
    add();
    assert!(matches!(why(peek(&vat, 1, false, &tally)), KernelError::NotInLog { event: 1, .. }));
    assert_eq!(peek(&vat, 2, true, &tally).unwrap(), Value::Int(2));
    vat.log().set_capacity((), 2);
    add();
    add();
    assert_eq!(after(&vat, 2, &tally), Value::Int(3));
    assert!(matches!(why(peek(&vat, 2, true, &tally)), KernelError::NotInLog { event: 2, .. }));
    add();
    assert!(matches!(why(peek(&vat, 2, false, &tally)), KernelError::NotInLog { event: 2, .. }));
    vat.log().clear(());
    assert_eq!(after(&vat, 5, &tally), Value::Int(6), "nothing has happened since the last one");
}

#[test]
fn a_stored_vat_is_looked_at_without_writing() {
    // LOG-22, G5
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (vat, [tally, place]) = common::found(&runtime, &storage, "main", [counter(0), cell(Value::Unit)]);
    vat.log().set_on(true);
    let inner = run(&vat, |turn| {
        let inner = turn.spawn(counter(7));
        turn.call(&place, "set", Value::Actor(inner.clone()))?;
        turn.call(&tally, "add", Value::Int(1))?;
        Ok(inner)
    })
    .unwrap();
    call(&tally, "add", Value::Int(1)).unwrap();
    reins.take_batches();
    assert_eq!(after(&vat, 0, &tally), Value::Int(1));
    assert_eq!(peek(&vat, 0, true, &tally).unwrap(), Value::Int(0));
    assert_eq!(peek(&vat, 0, true, &place).unwrap(), Value::Unit);
    assert!(matches!(why(peek(&vat, 0, true, &inner)), KernelError::NotYetSpawned { .. }));
    vat.peek((), Moment { sequence: 0, before: true }, |churn| {
        Turn::new(churn).call(&tally, "add", Value::Int(50))
    })
    .unwrap();
    assert!(reins.take_batches().is_empty());
    assert_eq!((get(&tally), get(&inner)), (2, 7));
    vat.close(()).unwrap();

    let (vat, [tally, place]) = common::reopen(&runtime, &storage, "main");
    vat.log().set_on(true);
    run(&vat, |_| Ok(())).unwrap();
    call(&tally, "add", Value::Int(1)).unwrap();
    // This one is made of its record in the look back, and is a ghost again.
    assert!(matches!(after(&vat, 0, &place), Value::Actor(_)));
    assert_eq!((after(&vat, 0, &tally), after(&vat, 1, &tally)), (Value::Int(2), Value::Int(3)));
    assert_eq!(get(&tally), 3);
}

#[test]
fn a_log_can_be_read_while_its_vat_is_stuck() {
    let vat = logged("stuck");
    let busy = spawn(&vat, puppet(0)).unwrap();
    let release = occupy(&busy);
    assert_eq!(vat.log().span(), 0..1);
    assert_eq!(vat.log().events((), 0..1).len(), 1);
    vat.log().set_capacity((), 3);
    vat.log().set_on(false);
    vat.log().set_on(true);
    release.send(()).unwrap();
    vat.drain((), None).unwrap();
    assert_eq!(vat.log().span(), 0..2);
}

#[test]
fn a_failed_turn_keeps_its_error_and_the_error_says_where_it_was() {
    // LOG-08
    let vat = logged("errors");
    let tally = spawn(&vat, counter(0)).unwrap();
    send(&tally, "fail", Value::Unit);
    vat.drain((), None).unwrap();
    let event = vat.log().events((), 1..2).remove(0);
    assert_eq!((event.kind, event.outcome), (EventKind::Deliver, EventOutcome::Undone));
    assert!(matches!(&event.error, Some(Value::Text(text)) if !text.is_empty()), "{:?}", event.error);
    let notes = notes(&vat);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].ends_with("turn 2 of actor 0 of vat errors"), "{notes:?}");
}

#[test]
fn events_are_found_by_time_and_by_cause() {
    // LOG-12, LOG-19
    let vat = logged("found");
    let tally = spawn(&vat, counter(0)).unwrap();
    run(&vat, |turn| {
        (0..3).for_each(|_| turn.tell(&tally, "add", Value::Int(1)));
        Ok(())
    })
    .unwrap();
    let events = vat.log().events((), vat.log().span());
    for event in &events {
        assert_eq!(vat.log().find((), event.time).unwrap().sequence, event.sequence);
        assert!(event.duration.is_some() && event.began <= events[4].began);
    }
    let block = goblins_core::log::Cause { vat: Some(vat.id()), time: events[1].time };
    let effects: Vec<_> = vat.log().effects((), block).iter().map(|event| event.sequence).collect();
    assert_eq!(effects, [2, 3, 4]);
    let nothing = goblins_core::log::Cause { vat: Some(vat.id()), time: events[4].time };
    assert!(vat.log().effects((), nothing).is_empty());
    assert!(vat.log().find((), goblins_core::ids::LamportTime(99)).is_none());
}

#[test]
fn what_a_log_drops_is_dropped_with_nothing_locked() {
    // What is dropped looks at the log, and sends messages.
    struct Loud {
        vat: ToyVat,
        other: Actor,
        heard: Arc<AtomicUsize>,
    }
    impl Drop for Loud {
        fn drop(&mut self) {
            self.heard.fetch_add(1, Ordering::SeqCst);
            self.vat.log().span();
            tell(&self.other, "add", Value::Int(1));
        }
    }
    let vat = Vat::<Toy>::new(&runtime(), VatOptions { log_capacity: Some(2), ..named("drops") });
    let other = spawn(&vat, counter(0)).unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let loud = || {
        let loud = Loud { vat: vat.clone(), other: other.clone(), heard: heard.clone() };
        becoming(move |_, number| {
            let _ = &loud;
            Ok(number + 1)
        })
    };
    let actor = spawn(&vat, puppet(0)).unwrap();
    let keep = |value: Value| {
        // The behavior holds what is loud.
        let next = behavior(move |_, message| {
            let _ = &value;
            match message.value {
                Value::Code(next) => Ok(Reply::Become(next, Value::Unit)),
                _ => Ok(Reply::Value(Value::Unit)),
            }
        });
        Value::Code(next)
    };
    let holder = spawn(
        &vat,
        behavior(|_, message| match message.value {
            Value::Code(next) => Ok(Reply::Become(next, Value::Unit)),
            _ => Ok(Reply::Value(Value::Unit)),
        }),
    )
    .unwrap();
    for _ in 0..3 {
        call(&holder, "", keep(loud())).unwrap();
    }
    assert_eq!(heard.load(Ordering::SeqCst), 0, "the log keeps the first two, the actor has the third");
    call(&actor, "get", Value::Unit).unwrap();
    vat.log().set_capacity((), 1);
    assert_eq!(heard.load(Ordering::SeqCst), 2);
    vat.drain((), None).unwrap();
    call(&holder, "", keep(Value::Unit)).unwrap();
    vat.log().clear(());
    assert_eq!(heard.load(Ordering::SeqCst), 3);
    vat.drain((), None).unwrap();
    assert_eq!(get(&other), 3);
}

/// One step of a random program: which actor, what to do, and whether the turn fails.
fn steps() -> impl Strategy<Value = Vec<(usize, u8, i64, bool)>> {
    prop::collection::vec((0usize..12, 0u8..3, 1i64..100, prop::bool::weighted(0.2)), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// LOG-05, LOG-22: at every event, the state is that which a plain model had then.
    #[test]
    fn every_moment_is_as_it_was(steps in steps()) {
        let vat = Vat::<Toy>::new(&runtime(), VatOptions { log_capacity: Some(1000), ..named("model") });
        let mut actors: Vec<Actor> = Vec::new();
        let mut states: Vec<Vec<i64>> = vec![Vec::new()];
        for (which, what, number, fails) in steps {
            let mut state = states.last().unwrap().clone();
            let made = run(&vat, |turn| {
                let mut made = None;
                let count = state.len();
                if what == 0 || count == 0 {
                    made = Some(turn.spawn(counter(number)));
                    state.push(number);
                } else {
                    // Several actors in one turn, one of them twice.
                    for index in [which % count, (which + 1) % count, which % count] {
                        turn.call(&actors[index], "add", Value::Int(number))?;
                        state[index] += number;
                    }
                }
                if fails { raised("no") } else { Ok(made) }
            });
            match made {
                Ok(made) => {
                    actors.extend(made);
                    states.push(state);
                }
                Err(_) => states.push(states.last().unwrap().clone()),
            }
        }
        prop_assert_eq!(vat.log().span(), 0..states.len() as u64 - 1);
        for (number, pair) in (0u64..).zip(states.windows(2)) {
            for (index, actor) in actors.iter().enumerate() {
                for (before, state) in [(true, &pair[0]), (false, &pair[1])] {
                    let expected = state.get(index).copied().map(Value::Int);
                    prop_assert_eq!(peek(&vat, number, before, actor).ok(), expected);
                }
            }
        }
        let now: Vec<i64> = actors.iter().map(get).collect();
        prop_assert_eq!(&now, states.last().unwrap());
    }
}
