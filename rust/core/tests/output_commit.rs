//! Nothing leaves before it is durable (G2): what a churn did is released when a sync that began after its
//! batch was written has come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unit_arg)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::{PATIENCE, Reins, ToyVat, add, code, found, get, open, puppet, run, runtime, vat};
use goblins_core::durability::{Durability, Waited};
use goblins_core::host::Host;
use goblins_core::promise::Outcome;
use goblins_core::toy::{
    Actor, Behavior, Promise, Reply, Toy, Value, behavior, call, cell, counter, fulfil, outcome, result,
    send, spawn, tell, wait,
};

/// An actor that hands each value it gets to the receiver.
fn teller() -> (Behavior, Receiver<Value>) {
    let (sender, receiver) = channel();
    let sender = std::sync::Mutex::new(sender);
    let teller = behavior(move |_, message| {
        sender.lock().unwrap().send(message.value).unwrap();
        Ok(Reply::Value(Value::Unit))
    });
    (teller, receiver)
}

fn soon<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("it never came")
}

/// A wait that must be in vain. If it is too short the test is weaker, never wrong.
fn not_yet<T>(receiver: &Receiver<T>) -> bool {
    receiver.recv_timeout(Duration::from_millis(20)).is_err()
}

fn vat_of(actor: &Actor) -> &ToyVat {
    Toy::actor_cell(actor).vat()
}

#[test]
fn a_result_is_not_returned_before_its_sync_came_back() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_vat, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    let (done, returned) = channel();
    reins.sync_gate.closed(|scope| {
        scope.spawn(|| done.send(add(&tally, 1)).unwrap());
        reins.sync_gate.wait_for_one();
        assert!(not_yet(&returned));
        assert_eq!(reins.take_batches().len(), 3, "format, founding, and this: it is written already");
        reins.sync_gate.open();
        assert_eq!(soon(&returned).unwrap(), 1);
    });
}

#[test]
fn a_caller_that_only_reads_waits_for_what_it_has_read() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_vat, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    reins.sync_gate.close();
    let written = send(&tally, "add", Value::Int(1));
    let (done, returned) = channel();
    reins.sync_gate.closed(|scope| {
        reins.sync_gate.wait_for_one();
        scope.spawn(|| done.send(get(&tally)).unwrap());
        // The vat is free while the sync runs: the call is made, but its result is not returned.
        assert!(outcome(&written).is_none());
        assert!(not_yet(&returned));
        reins.sync_gate.open();
        assert_eq!(soon(&returned), 1);
    });
    assert_eq!(result(&written).unwrap(), Value::Int(1));
}

#[test]
fn messages_to_vats_of_the_store_go_before_the_sync_all_others_after_it() {
    // LIM-01
    let (reins, runtime) = (Reins::default(), runtime());
    let (other_reins, storage) = (Reins::default(), reins.storage());
    let other_storage = other_reins.storage();
    let (here, [tally]) = found(&runtime, &storage, "here", [counter(0)]);
    let (of_store, at_store) = teller();
    let (in_memory, at_memory) = teller();
    let (of_other, at_other) = teller();
    let of_store = spawn(&open(&runtime, &storage, "there").vat, of_store).unwrap();
    let in_memory = spawn(&vat(&runtime, "memory"), in_memory).unwrap();
    let of_other = spawn(&open(&runtime, &other_storage, "other").vat, of_other).unwrap();
    let promise = Promise::default();
    let outside = wait(&promise);
    let heard = run(vat_of(&of_store), |turn| Ok(turn.on(&promise, |_, result| result))).unwrap();

    reins.sync_gate.closed(|scope| {
        scope.spawn(|| {
            run(&here, |turn| {
                for (number, to) in [&in_memory, &of_other, &of_store].into_iter().enumerate() {
                    turn.tell(to, "", Value::Int(number as i64));
                }
                turn.fulfil(&promise, Value::Int(7));
                turn.call(&tally, "add", Value::Int(1))
            })
        });
        assert_eq!(soon(&at_store), Value::Int(2));
        reins.sync_gate.wait_for_one();
        // The vat of the store has seen the outcome; all that it makes of it is held too.
        assert!(outcome(&promise).is_none() && outcome(&heard).is_none());
        assert!(not_yet(&at_memory));
        assert!(not_yet(&at_other));
        assert!(not_yet(&outside));
        reins.sync_gate.open();
        assert_eq!(soon(&at_memory), Value::Int(0));
        assert_eq!(soon(&at_other), Value::Int(1));
        assert!(matches!(soon(&outside), Outcome::Fulfilled(Value::Int(7))));
        assert_eq!(result(&heard).unwrap(), Value::Int(7));
    });
}

#[test]
fn what_a_vat_learnt_from_another_of_its_store_waits_for_that_ones_sync() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_here, [tally]) = found(&runtime, &storage, "here", [cell(Value::Unit)]);
    // It has nothing stored, so no batch of its own to wait for.
    let there = open(&runtime, &storage, "there").vat;
    let (notes, by_promise) = (spawn(&there, puppet(0)).unwrap(), Promise::default());
    let (told, was_told) = channel();
    let told = std::sync::Mutex::new(told);
    let teller = spawn(
        &there,
        behavior(move |turn, message| {
            turn.call(&notes, "set", message.value)?;
            told.lock().unwrap().send(notes.clone()).unwrap();
            Ok(Reply::Value(Value::Unit))
        }),
    )
    .unwrap();

    reins.sync_gate.closed(|scope| {
        let here = vat_of(&tally);
        scope.spawn(|| {
            run(here, |turn| {
                turn.tell(&teller, "", Value::Int(5));
                turn.fulfil(&by_promise, Value::Int(6));
                turn.call(&tally, "set", Value::Int(1))
            })
        });
        let notes = soon(&was_told);
        reins.sync_gate.wait_for_one();
        let (done, returned) = channel();
        let also_done = done.clone();
        scope.spawn(move || done.send(get(&notes)).unwrap());
        let (there, by_promise) = (&there, &by_promise);
        scope.spawn(move || {
            let seen = run(there, |turn| Ok(turn.churn().outcome((), by_promise))).unwrap();
            also_done.send(common::int(&Result::from(seen.unwrap()).unwrap())).unwrap();
        });
        // Both see what is not durable yet.
        assert!(not_yet(&returned));
        reins.sync_gate.open();
        let mut seen = [soon(&returned), soon(&returned)];
        seen.sort_unstable();
        assert_eq!(seen, [5, 6]);
    });
}

#[test]
fn one_sync_serves_all_who_wait() {
    const CALLERS: usize = 16;
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_vat, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    reins.sync_gate.close();
    let before = reins.syncs.load(SeqCst);
    reins.sync_gate.closed(|scope| {
        let (done, returned) = channel();
        let leader = done.clone();
        let first = &tally;
        scope.spawn(move || leader.send(add(first, 1).unwrap()).unwrap());
        reins.sync_gate.wait_for_one();
        reins.take_batches();
        for _ in 1..CALLERS {
            let (done, tally) = (done.clone(), &tally);
            scope.spawn(move || done.send(add(tally, 1).unwrap()).unwrap());
        }
        let mut written = 0;
        while written < CALLERS - 1 {
            written += reins.take_batches().len();
            std::thread::yield_now();
        }
        reins.sync_gate.open();
        let mut results: Vec<i64> = (0..CALLERS).map(|_| soon(&returned)).collect();
        results.sort_unstable();
        assert_eq!(results, (1..=CALLERS as i64).collect::<Vec<_>>());
    });
    assert_eq!(reins.syncs.load(SeqCst) - before, 2, "the first caller's, and one for all the others");
}

#[test]
fn a_store_that_does_not_sync_releases_at_once() {
    let (reins, runtime) = (Reins::default(), runtime());
    reins.relaxed.store(true, SeqCst);
    let storage = reins.storage();
    let (_vat, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    assert_eq!(add(&tally, 1).unwrap(), 1);
    assert_eq!(result(&send(&tally, "add", Value::Int(1))).unwrap(), Value::Int(2));
    assert_eq!(reins.syncs.load(SeqCst), 0);
    storage.close(()).unwrap();
    assert_eq!(reins.syncs.load(SeqCst), 1, "closing makes all durable");
}

#[test]
fn nobody_has_to_wait_for_an_answer_to_be_released() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_vat, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    let answers: Vec<Promise> = (0..10).map(|_| send(&tally, "add", Value::Int(1))).collect();
    // No caller syncs here: the committer does.
    for (answer, number) in answers.iter().zip(1..) {
        assert_eq!(result(answer).unwrap(), Value::Int(number));
    }
}

#[test]
fn output_held_at_close_goes_out() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (here, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    let (memory, told) = teller();
    let memory = spawn(&vat(&runtime, "memory"), memory).unwrap();
    let helper = run(&here, |turn| Ok(turn.spawn(puppet(0)))).unwrap();
    reins.sync_gate.close();
    let tell_it = code({
        let (memory, tally) = (memory.clone(), tally.clone());
        move |turn, _| {
            turn.tell(&memory, "", Value::Int(1));
            turn.call(&tally, "add", Value::Int(1))
        }
    });
    reins.sync_gate.closed(|scope| {
        tell(&helper, "do", tell_it);
        reins.sync_gate.wait_for_one();
        let closing = scope.spawn(|| storage.close(()));
        reins.sync_gate.open();
        closing.join().unwrap().unwrap();
    });
    assert_eq!(soon(&told), Value::Int(1));
    assert_eq!(reins.closes.load(SeqCst), 1);
    call(&helper, "get", Value::Unit).unwrap_err();
}

#[test]
fn output_of_one_vat_keeps_its_order_through_the_committer() {
    const MESSAGES: i64 = 300;
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_vat, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    let here = vat_of(&tally).clone();
    let (memory, told) = teller();
    let memory = spawn(&vat(&runtime, "memory"), memory).unwrap();
    let (tally_too, memory_too) = (tally.clone(), memory.clone());
    let relay = spawn(
        &here,
        behavior(move |turn, message| {
            // Every third turn changes what is stored: the others' output is durable when it is made.
            if common::int(&message.value) % 3 == 0 {
                turn.call(&tally_too, "add", Value::Int(1))?;
            }
            turn.tell(&memory_too, "", message.value);
            Ok(Reply::Value(Value::Unit))
        }),
    )
    .unwrap();
    for number in 0..MESSAGES {
        tell(&relay, "", Value::Int(number));
    }
    let seen: Vec<i64> = (0..MESSAGES).map(|_| common::int(&soon(&told))).collect();
    assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>());
}

#[test]
fn no_output_overtakes_what_is_held() {
    let durability: Durability<u8> = Durability::new(Arc::new(Reins::default()));
    assert_eq!(durability.hold(0), Some(0), "nothing was written");
    let ticket = durability.wrote();
    assert_eq!(durability.hold(1), None);
    assert!(matches!(durability.wait(ticket, PATIENCE), Ok(Waited::Durable)));
    assert_eq!(durability.hold(2), None, "1 is on its way still");
    let mut out = Vec::new();
    durability.emit(|output| {
        if output < 3 {
            assert_eq!(durability.hold(3 + output), None, "{output} is on its way still");
            durability.emit(|_| panic!("only one lets out"));
        }
        out.push(output);
    });
    assert_eq!(out, [1, 2, 4, 5]);
    assert_eq!(durability.hold(6), Some(6));
}

#[test]
fn an_in_memory_vat_waits_for_nothing() {
    let (here, promise) = (vat(&runtime(), "memory"), Promise::default());
    let outside = wait(&promise);
    run(&here, |turn| Ok(turn.fulfil(&promise, Value::Int(1)))).unwrap();
    assert!(outside.try_recv().is_ok());
    fulfil(&promise, Value::Int(2));
}
