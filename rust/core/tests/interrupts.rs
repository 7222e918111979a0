//! An interrupt that comes up in a message has nothing to do with it: the message stays to be done, and whoever runs the
//! vat gets the interrupt.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use common::{PATIENCE, ToyVat, get, puppet, run, runtime, vat};
use goblins_core::scheduling::Scheduling;
use goblins_core::toy::{Actor, Fault, Reply, Value, behavior, outcome, send, spawn, tell};

/// An actor that becomes one more with each `add`, and is interrupted in the first so many.
fn interrupted(vat: &ToyVat, times: i64) -> Actor {
    let (left, count) = (AtomicI64::new(times), AtomicI64::new(0));
    let code = behavior(move |_, message| match message.method {
        "add" if left.fetch_sub(1, SeqCst) > 0 => Err(Fault::Interrupt),
        "add" => Ok(Reply::Value(Value::Int(count.fetch_add(1, SeqCst) + 1))),
        _ => Ok(Reply::Value(Value::Int(count.load(SeqCst)))),
    });
    spawn(vat, code).unwrap()
}

fn is_interrupt<T>(result: Result<T, Fault>) -> bool {
    matches!(result, Err(Fault::Interrupt))
}

#[test]
fn a_call_whose_messages_are_interrupted_says_so_and_they_are_done_in_their_order() {
    let runtime = runtime();
    let vat = vat(&runtime, "near");
    // Nobody else runs them.
    runtime.stop((), PATIENCE);
    let (count, other) = (interrupted(&vat, 1), interrupted(&vat, 0));
    let result = run(&vat, |turn| {
        turn.tell(&count, "add", Value::Unit);
        turn.tell(&other, "add", Value::Unit);
        turn.tell(&count, "add", Value::Unit);
        Ok(())
    });
    assert!(is_interrupt(result));
    assert_eq!(vat.backlog(), 3);
    vat.drain((), None).unwrap();
    assert_eq!((get(&count), get(&other), vat.backlog()), (2, 1, 0));
}

#[test]
fn one_who_comes_after_an_interrupted_message_gets_the_interrupt_before_its_own_turn() {
    let runtime = runtime();
    let vat = vat(&runtime, "before");
    runtime.stop((), PATIENCE);
    let (count, other) = (interrupted(&vat, 2), spawn(&vat, puppet(0)).unwrap());
    let answer = send(&count, "add", Value::Unit);
    assert!(is_interrupt(run(&vat, |turn| turn.call(&other, "add", Value::Int(5)))));
    assert!(is_interrupt(vat.help(())));
    assert!(outcome(&answer).is_none());
    assert_eq!(get(&other), 0);
    assert!(outcome(&answer).is_some());
}

#[test]
fn a_manual_vat_keeps_an_interrupted_message() {
    let vat = vat(&runtime(), "manual");
    vat.set_scheduling(Scheduling::Manual);
    let count = interrupted(&vat, 2);
    tell(&count, "add", Value::Unit);
    assert!(is_interrupt(vat.step(())));
    assert!(is_interrupt(vat.drain((), None)));
    assert_eq!(vat.backlog(), 1);
    assert!(vat.step(()).unwrap());
    assert_eq!((get(&count), vat.backlog()), (1, 0));
}
