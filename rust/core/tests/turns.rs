//! A turn is all or nothing (G1): what it changed, made, sent or settled is there if it succeeds, and was
//! never there if it raises.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use common::{becoming, code, get, int, puppet, raised, run, runtime, vat};
use goblins_core::error::KernelError;
use goblins_core::host::Host;
use goblins_core::toy::{
    Actor, Fault, Message, Promise, Reply, Toy, Turn, Value, behavior, call, counter, current, outcome,
    reports, send, spawn, tell,
};

#[test]
fn a_turn_that_raises_leaves_nothing() {
    let vat = vat(&runtime(), "leaves-nothing");
    let tally = spawn(&vat, counter(0)).unwrap();
    let settled = Promise::default();
    let (listened, chained) = (Promise::default(), Promise::default());
    let (spawned, heard) = (Mutex::new(None), Arc::new(Mutex::new(0)));

    let result: Result<(), _> = run(&vat, |turn| {
        turn.call(&tally, "add", Value::Int(1))?;
        *spawned.lock().unwrap() = Some(turn.spawn(counter(5)));
        turn.tell(&tally, "add", Value::Int(10));
        turn.send(&listened, "get", Value::Unit);
        turn.fulfil(&settled, Value::Int(1));
        turn.fulfil(&chained, Value::Promise(listened.clone()));
        let heard = heard.clone();
        turn.on(&listened, move |_, result| {
            *heard.lock().unwrap() += 1;
            result
        });
        raised("no")
    });
    assert!(matches!(result, Err(Fault::Raised(_))));

    vat.drain((), None).unwrap();
    assert_eq!(get(&tally), 0, "neither the change nor the message was kept");
    assert!(outcome(&settled).is_none());
    let spawned = spawned.into_inner().unwrap().unwrap();
    let gone = call(&spawned, "get", Value::Unit);
    assert!(matches!(gone, Err(Fault::Kernel(KernelError::NoSuchActor { .. }))));

    // Neither listener nor message nor chain waits for the promise.
    goblins_core::toy::fulfil(&listened, Value::Int(3));
    vat.drain((), None).unwrap();
    assert_eq!(*heard.lock().unwrap(), 0);
    assert!(outcome(&chained).is_none());
}

#[test]
fn a_turn_sees_its_own_changes() {
    // ACT-12
    let vat = vat(&runtime(), "own-changes");
    let tally = spawn(&vat, counter(0)).unwrap();
    let seen = run(&vat, |turn| {
        turn.call(&tally, "add", Value::Int(2))?;
        turn.call(&tally, "get", Value::Unit)
    });
    assert_eq!(seen.unwrap(), Value::Int(2));
}

#[test]
fn a_turn_sees_its_own_settlements_and_nobody_else_does() {
    let vat = vat(&runtime(), "own-settlements");
    let promise = Promise::default();
    run(&vat, |turn| {
        turn.fulfil(&promise, Value::Int(1));
        turn.fulfil(&promise, Value::Int(2));
        let seen: Result<_, _> = turn.churn().outcome((), &promise).unwrap().into();
        assert_eq!(seen.unwrap(), Value::Int(1), "the first settlement wins (ASY-10)");
        assert!(outcome(&promise).is_none());
        Ok(())
    })
    .unwrap();
    assert_eq!(outcome(&promise).unwrap().unwrap(), Value::Int(1));
}

#[test]
fn a_caught_error_of_a_nested_call_undoes_nothing() {
    // TRN-04
    let vat = vat(&runtime(), "caught");
    let tally = spawn(&vat, counter(0)).unwrap();
    let middle = spawn(&vat, puppet(0)).unwrap();
    let inner = tally.clone();
    let change_and_fail = code(move |turn, _| {
        turn.call(&inner, "add", Value::Int(1))?;
        turn.tell(&inner, "add", Value::Int(10));
        raised("after the change")
    });
    run(&vat, |turn| {
        turn.call(&middle, "do", change_and_fail).unwrap_err();
        Ok(())
    })
    .unwrap();
    assert_eq!(get(&tally), 11, "the change and the message of before the error are kept");
}

#[test]
fn a_stale_become_is_refused_and_the_inner_one_is_kept() {
    // ACT-21
    let vat = vat(&runtime(), "stale");
    let actor = spawn(&vat, puppet(1)).unwrap();
    let me = actor.clone();
    let outer = becoming(move |turn, _| {
        turn.call(&me, "set", Value::Int(2))?;
        Ok(3)
    });

    let refused = call(&actor, "do", outer.clone());
    assert!(matches!(refused, Err(Fault::Kernel(KernelError::StaleBecome { slot: 0, .. }))));
    assert_eq!(get(&actor), 1, "uncaught, it undoes the turn");

    run(&vat, |turn| {
        turn.call(&actor, "do", outer).unwrap_err();
        Ok(())
    })
    .unwrap();
    assert_eq!(get(&actor), 2, "caught, the inner change stays");
}

#[test]
fn a_reentrant_call_that_changes_nothing_lets_the_outer_become_through() {
    let vat = vat(&runtime(), "reentrant");
    let actor = spawn(&vat, puppet(1)).unwrap();
    let me = actor.clone();
    let outer = becoming(move |turn, _| turn.call(&me, "get", Value::Unit).map(|seen| int(&seen) + 1));
    assert_eq!(call(&actor, "do", outer).unwrap(), Value::Int(2));
    assert_eq!(get(&actor), 2);
}

/// An actor that keeps a list of what it got, outside the vat's reach.
fn recorder(list: &Arc<Mutex<Vec<Value>>>) -> goblins_core::toy::Behavior {
    let list = list.clone();
    behavior(move |_, message| {
        list.lock().unwrap().push(message.value);
        Ok(Reply::Value(Value::Unit))
    })
}

#[test]
fn messages_are_handled_in_the_order_in_which_they_were_sent() {
    // ASY-04, TRN-11
    let runtime = runtime();
    let (here, there) = (vat(&runtime, "here"), vat(&runtime, "there"));
    let (near, far) = (Arc::default(), Arc::default());
    let near_recorder = spawn(&here, recorder(&near)).unwrap();
    let far_recorder = spawn(&there, recorder(&far)).unwrap();
    run(&here, |turn| {
        for number in 0..100 {
            turn.tell(&near_recorder, "", Value::Int(number));
            turn.tell(&far_recorder, "", Value::Int(number));
        }
        Ok(())
    })
    .unwrap();
    there.drain((), None).unwrap();
    let expected: Vec<Value> = (0..100).map(Value::Int).collect();
    assert_eq!(*near.lock().unwrap(), expected);
    assert_eq!(*far.lock().unwrap(), expected);
}

#[test]
fn a_threads_messages_and_calls_keep_their_order() {
    let vat = vat(&runtime(), "thread-order");
    let list = Arc::default();
    let actor = spawn(&vat, recorder(&list)).unwrap();
    for number in 0..100 {
        tell(&actor, "", Value::Int(2 * number));
        call(&actor, "", Value::Int(2 * number + 1)).unwrap();
    }
    assert_eq!(*list.lock().unwrap(), (0..200).map(Value::Int).collect::<Vec<_>>());
}

#[test]
fn far_messages_leave_when_the_churn_has_come_to_rest() {
    // TRN-15
    let runtime = runtime();
    let (here, there) = (vat(&runtime, "rest-here"), vat(&runtime, "rest-there"));
    let (list, near_list) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
    let far = spawn(&there, recorder(&list)).unwrap();
    let near = spawn(&here, recorder(&near_list)).unwrap();
    let seen = Arc::new(Mutex::new(0));
    let (count, list_now) = (seen.clone(), list.clone());
    let last = spawn(
        &here,
        behavior(move |_, _| {
            *count.lock().unwrap() = list_now.lock().unwrap().len();
            Ok(Reply::Value(Value::Unit))
        }),
    )
    .unwrap();
    run(&here, |turn| {
        turn.tell(&far, "", Value::Int(1));
        turn.tell(&near, "", Value::Int(1));
        turn.tell(&last, "", Value::Unit);
        Ok(())
    })
    .unwrap();
    there.drain((), None).unwrap();
    assert_eq!(
        (*seen.lock().unwrap(), list.lock().unwrap().len(), near_list.lock().unwrap().len()),
        (0, 1, 1)
    );
}

#[test]
fn every_turn_of_a_churn_stands_alone() {
    // TRN-12, 14
    let vat = vat(&runtime(), "alone");
    let tally = spawn(&vat, counter(0)).unwrap();
    let answers = run(&vat, |turn| {
        let first = turn.send(&tally, "add", Value::Int(1));
        let second = turn.send(&tally, "fail", Value::Unit);
        let third = turn.send(&tally, "add", Value::Int(1));
        Ok([first, second, third])
    })
    .unwrap();
    let [first, second, third] = answers.map(|answer| outcome(&answer).unwrap());
    assert_eq!((first.unwrap(), third.unwrap()), (Value::Int(1), Value::Int(2)));
    assert!(matches!(second, Err(Fault::Raised(_))));
}

#[test]
fn a_failed_first_turn_does_not_discard_what_its_broken_promise_caused() {
    // TRN-13, LIM-30
    let vat = vat(&runtime(), "first-turn");
    let (tally, failing) = (spawn(&vat, counter(0)).unwrap(), spawn(&vat, counter(0)).unwrap());
    let answer = Promise::default();
    let caught = run(&vat, |turn| {
        let tally = tally.clone();
        Ok(turn.on(&answer, move |turn, result| {
            result.unwrap_err();
            turn.call(&tally, "add", Value::Int(1))
        }))
    })
    .unwrap();
    goblins_core::send_outside::<Toy>(
        (),
        failing,
        Message { method: "fail", value: Value::Unit },
        Some(answer.clone()),
    );
    vat.drain((), None).unwrap();
    assert!(outcome(&answer).unwrap().is_err());
    assert_eq!(outcome(&caught).unwrap().unwrap(), Value::Int(1));
    assert_eq!(get(&tally), 1);
}

#[test]
fn a_failed_tell_is_reported_once_and_stops_nothing() {
    // G10
    let vat = vat(&runtime(), "failed-tell");
    let tally = spawn(&vat, counter(0)).unwrap();
    tell(&tally, "fail", Value::Unit);
    tell(&tally, "add", Value::Int(1));
    vat.drain((), None).unwrap();
    assert_eq!(get(&tally), 1);
    let reports = reports(&vat);
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(reports[0].contains("actor 0 of vat failed-tell"), "{reports:?}");
}

/// When it is dropped, looks at the vat that this thread runs and at its actor: nothing may be borrowed or
/// locked there.
struct Probe(Actor);

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(churn) = current() {
            churn.in_turn();
            churn.new_slot();
        }
        assert!(Toy::actor_cell(&self.0).try_state().is_some());
    }
}

fn holding(probe: Probe) -> goblins_core::toy::Behavior {
    behavior(move |_, _| {
        let _ = &probe;
        Ok(Reply::Value(Value::Unit))
    })
}

#[test]
fn values_are_dropped_where_the_host_may_run_any_code() {
    let vat = vat(&runtime(), "probes");
    let keeper = spawn(&vat, puppet(0)).unwrap();
    let promise = Promise::default();
    for raise in [false, true] {
        let result = run(&vat, |turn| {
            let me = turn.spawn(puppet(0));
            let first = holding(Probe(keeper.clone()));
            let actor = turn.spawn(first.clone());
            turn.churn().change((), &actor, &first, holding(Probe(me.clone())))?;
            let refused = turn.churn().change((), &actor, &first, holding(Probe(actor.clone())));
            refused.unwrap_err();
            drop(first);
            turn.fulfil(&promise, Value::Code(holding(Probe(me.clone()))));
            turn.fulfil(&promise, Value::Code(holding(Probe(me.clone()))));
            turn.tell(&keeper, "get", Value::Code(holding(Probe(me.clone()))));
            let kept = holding(Probe(me));
            turn.on(&promise, move |_, _| {
                let _ = &kept;
                raised("in a handler")
            });
            if raise { raised("no") } else { Ok(()) }
        });
        assert_eq!(result.is_err(), raise);
    }
    vat.close(()).unwrap();
}

/// When it is dropped, sends the number that a puppet holds, unless that one's spawn was undone.
struct Look(Actor, std::sync::mpsc::Sender<&'static str>);

impl Drop for Look {
    fn drop(&mut self) {
        let gone = matches!(Toy::actor_cell(&self.0).state().life(), goblins_core::actor::Life::Gone);
        let _ = self.1.send(if gone { "gone" } else { "alive" });
    }
}

#[test]
fn nothing_is_dropped_before_all_of_a_failed_turn_is_taken_back() {
    let vat = vat(&runtime(), "dropped-last");
    let (sender, receiver) = channel();
    let result: Result<(), _> = run(&vat, |turn| {
        let first = turn.spawn(puppet(0));
        let look = Look(first.clone(), sender.clone());
        turn.spawn(behavior(move |_: &Turn<'_>, _| {
            let _ = &look;
            Ok(Reply::Value(Value::Unit))
        }));
        turn.tell(&first, "set", Value::Code(holding_look(Look(first.clone(), sender))));
        raised("no")
    });
    result.unwrap_err();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["gone", "gone"]);
}

fn holding_look(look: Look) -> goblins_core::toy::Behavior {
    behavior(move |_, _| {
        let _ = &look;
        Ok(Reply::Value(Value::Unit))
    })
}

#[test]
fn a_session_that_is_dropped_takes_its_open_turn_back_and_leaves_the_vat() {
    let vat = vat(&runtime(), "dropped-session");
    let tally = spawn(&vat, counter(0)).unwrap();
    let session = vat.enter(()).unwrap();
    session.churn().begin_turn();
    Turn::new(session.churn()).call(&tally, "add", Value::Int(1)).unwrap();
    drop(session);
    assert!(current().is_none());
    assert_eq!(get(&tally), 0);
    assert_eq!(common::add(&tally, 1).unwrap(), 1);
}

#[test]
fn a_turn_that_panics_does_not_lock_the_vat_up() {
    let vat = vat(&runtime(), "panic");
    let tally = spawn(&vat, counter(0)).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = run(&vat, |turn| -> Result<(), Fault> {
            turn.call(&tally, "add", Value::Int(1)).unwrap();
            panic!("as the test wants it");
        });
    }));
    panicked.unwrap_err();
    assert_eq!(get(&tally), 0);
    let answer = send(&tally, "add", Value::Int(1));
    assert_eq!(goblins_core::toy::result(&answer).unwrap(), Value::Int(1));
}
