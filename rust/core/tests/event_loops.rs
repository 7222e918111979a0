//! Event loops of the host run the messages that were sent on their threads, if these are known to be quick.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use common::{PATIENCE, Reins, ToyVat, found, get, int, runtime, vat};
use goblins_core::calling::CallsLater;
use goblins_core::error::KernelError;
use goblins_core::pace::Budget;
use goblins_core::toy::{
    Actor, Fault, Promise, Value, call, counter, left_to_loop, on_a_loop, outcome, result, send, spawn, tell,
};

/// Sends messages until one is left to the loop, which has not run it. A busy machine makes any seem slow.
fn left(actor: &Actor) -> (Promise, ToyVat) {
    left_to_do(actor, "get", &Value::Unit)
}

fn left_to_do(actor: &Actor, method: &'static str, value: &Value) -> (Promise, ToyVat) {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let promise = send(actor, method, value.clone());
        if let Some(vat) = left_to_loop().pop() {
            return (promise, vat);
        }
        result(&promise).unwrap();
    }
    panic!("nothing was left to the loop")
}

/// A message that is left to the loop, and twenty that follow it.
fn round_of_additions(tally: &Actor) -> (Vec<Promise>, ToyVat) {
    let (first, vat) = left_to_do(tally, "add", &Value::Int(1));
    let mut answers = vec![first];
    answers.extend((0..20).map(|_| send(tally, "add", Value::Int(1))));
    (answers, vat)
}

#[test]
fn what_is_left_to_a_loop_waits_for_its_round() {
    let runtime = runtime();
    on_a_loop(|| {
        let tally = spawn(&vat(&runtime, "tally"), counter(0)).unwrap();
        let (promise, vat) = left(&tally);
        assert!(outcome(&promise).is_none());
        let more: Vec<_> = (0..5).map(|_| send(&tally, "get", Value::Unit)).collect();
        assert!(left_to_loop().is_empty(), "it stands there once");
        vat.work_for_loop((), &Budget::default()).unwrap();
        assert!(more.iter().chain([&promise]).all(|promise| outcome(promise).is_some()));
        // One call too many does nothing.
        vat.work_for_loop((), &Budget::default()).unwrap();
    });
}

#[test]
fn one_who_awaits_an_answer_need_not_wait_for_the_round() {
    let runtime = runtime();
    on_a_loop(|| {
        let tally = spawn(&vat(&runtime, "tally"), counter(0)).unwrap();
        let (promise, vat) = left(&tally);
        vat.assist((), &Budget::default()).unwrap();
        assert!(outcome(&promise).is_some());
    });
}

#[test]
fn a_loop_does_so_much_and_then_leaves_the_rest_for_its_next_round() {
    let runtime = runtime();
    on_a_loop(|| {
        let tally = spawn(&vat(&runtime, "tally"), counter(0)).unwrap();
        let (_, vat) = left(&tally);
        (0..500).for_each(|_| tell(&tally, "get", Value::Unit));
        let budget = Budget::default();
        vat.assist((), &budget).unwrap();
        assert!(budget.is_spent());
        let backlog = vat.backlog();
        assert!(backlog > 300);
        vat.assist((), &budget).unwrap();
        assert_eq!(vat.backlog(), backlog);
        let mut rounds = 0;
        while vat.backlog() > 0 {
            budget.renew();
            vat.work_for_loop((), &budget).unwrap();
            rounds += 1;
        }
        assert!(rounds > 1);
    });
}

#[test]
fn workers_take_what_a_loop_does_not_come_to() {
    let runtime = runtime();
    on_a_loop(|| {
        let tally = spawn(&vat(&runtime, "tally"), counter(0)).unwrap();
        let (promise, _) = left(&tally);
        // The watch sees to it.
        result(&promise).unwrap();
        let (promise, vat) = left(&tally);
        vat.hand_over();
        result(&promise).unwrap();
        vat.work_for_loop((), &Budget::default()).unwrap();
    });
}

#[test]
fn what_comes_from_elsewhere_calls_a_worker_for_all_of_it() {
    let runtime = runtime();
    on_a_loop(|| {
        let tally = spawn(&vat(&runtime, "tally"), counter(0)).unwrap();
        let (promise, _) = left(&tally);
        std::thread::scope(|scope| {
            scope.spawn(|| tell(&tally, "add", Value::Int(1)));
        });
        result(&promise).unwrap();
        assert_eq!(get(&tally), 1);
    });
}

#[test]
fn a_vat_for_workers_alone_leaves_nothing_to_a_loop() {
    let runtime = runtime();
    on_a_loop(|| {
        let tally = spawn(&vat(&runtime, "known"), counter(0)).unwrap();
        let (promise, _) = left(&tally);
        result(&promise).unwrap();
        let vat = vat(&runtime, "workers");
        vat.set_only_workers();
        let tally = spawn(&vat, counter(0)).unwrap();
        for _ in 0..10 {
            result(&send(&tally, "get", Value::Unit)).unwrap();
        }
        assert!(left_to_loop().is_empty());
    });
}

#[test]
fn an_answer_that_a_loop_has_made_is_not_seen_before_it_is_durable_and_the_loop_does_not_wait() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (vat, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    on_a_loop(|| {
        let (promise, _) = left(&tally);
        vat.assist((), &Budget::default()).unwrap();
        result(&promise).unwrap();
        reins.sync_gate.closed(|_| {
            // Known as the other one is, or not: a worker may do it then.
            let promise = send(&tally, "add", Value::Int(1));
            vat.assist((), &Budget::default()).unwrap();
            reins.sync_gate.wait_for_one();
            assert!(outcome(&promise).is_none());
            reins.sync_gate.open();
            result(&promise).unwrap();
        });
    });
}

#[test]
fn what_a_round_of_a_loop_has_changed_is_one_batch_and_one_sync() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    on_a_loop(|| {
        let (answers, vat) = round_of_additions(&tally);
        reins.take_batches();
        let syncs = reins.syncs.load(SeqCst);
        // Who awaits the first of them has to wait in any case.
        vat.assist((), &Budget::default()).unwrap();
        assert_eq!(reins.take_batches().len(), 0);
        vat.work_for_loop((), &Budget::default()).unwrap();
        assert_eq!(reins.take_batches().len(), 1);
        let answers: Vec<_> = answers.iter().map(|answer| int(&result(answer).unwrap())).collect();
        let first = answers[0];
        assert_eq!(answers, (first..=first + 20).collect::<Vec<_>>());
        assert_eq!(reins.syncs.load(SeqCst), syncs + 1);
    });
}

#[test]
fn one_who_awaits_what_was_only_read_need_not_wait_for_the_round() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    on_a_loop(|| {
        let (promise, vat) = left(&tally);
        vat.assist((), &Budget::default()).unwrap();
        assert!(outcome(&promise).is_some());
    });
}

#[test]
fn a_round_of_a_loop_that_can_not_be_written_is_taken_back_as_a_whole() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (_, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    let before = on_a_loop(|| {
        let (answers, vat) = round_of_additions(&tally);
        let before = reins.contents();
        reins.fail_write.store(true, SeqCst);
        vat.work_for_loop((), &Budget::default()).unwrap();
        for answer in &answers {
            let refused = result(answer).unwrap_err();
            assert!(matches!(refused, Fault::Kernel(KernelError::Poisoned { .. })), "{refused:?}");
        }
        call(&tally, "get", Value::Unit).unwrap_err();
        before
    });
    assert_eq!(reins.contents(), before);
}

#[test]
fn a_round_of_a_loop_with_several_vats_is_one_sync() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let tallies = ["a", "b", "c"].map(|name| found(&runtime, &storage, name, [counter(0)]).1[0].clone());
    on_a_loop(|| {
        // The committer looks round now and then, and may do so just now.
        let once = (0..20).any(|_| {
            let left: Vec<_> = tallies.iter().map(|tally| left_to_do(tally, "add", &Value::Int(1))).collect();
            let syncs = reins.syncs.load(SeqCst);
            let later = CallsLater::begin();
            left.iter().for_each(|(_, vat)| vat.work_for_loop((), &Budget::default()).unwrap());
            // A wait that must be in vain. If it is too short the test is weaker, never wrong.
            let begin = Instant::now();
            while reins.syncs.load(SeqCst) == syncs && begin.elapsed() < Duration::from_millis(5) {
                std::thread::yield_now();
            }
            drop(later);
            left.iter().for_each(|(answer, _)| drop(result(answer).unwrap()));
            reins.syncs.load(SeqCst) == syncs + 1
        });
        assert!(once);
    });
}
