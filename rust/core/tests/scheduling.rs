//! Who runs a vat: whoever brings work, and a small pool for what nobody waits for. Whatever threads do at
//! once, each job is done once, in the order of its sender, and nobody waits for ever.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use common::{PATIENCE, ToyVat, add, code, get, int, occupy, puppet, run, runtime, vat};
use goblins_core::error::KernelError;
use goblins_core::host::Host;
use goblins_core::pool::Runtime;
use goblins_core::scheduling::Scheduling;
use goblins_core::toy::{
    Actor, Behavior, Fault, Promise, Reply, Toy, Value, behavior, call, counter, outcome, reports, result,
    send, spawn, tell, wait, warnings,
};

fn is_closed<T>(result: Result<T, Fault>) -> bool {
    matches!(result, Err(Fault::Kernel(KernelError::VatClosed { .. })))
}

fn this_thread() -> ThreadId {
    std::thread::current().id()
}

/// Code for a puppet that hands the thread it runs on to the receiver.
fn where_am_i() -> (Value, Receiver<ThreadId>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let code = code(move |_, _| {
        sender.lock().unwrap().send(this_thread()).unwrap();
        Ok(Value::Unit)
    });
    (code, receiver)
}

/// An actor that sends itself each `go` again from outside, so that its vat always has work, until the flag is
/// set. It answers any other message with how many it got.
fn busy(stop: &Arc<AtomicBool>) -> Behavior {
    let (stop, count) = (stop.clone(), AtomicI64::new(0));
    behavior(move |_, message| match (message.method, message.value) {
        ("go", Value::Actor(me)) => {
            count.fetch_add(1, SeqCst);
            if !stop.load(SeqCst) {
                tell(&me, "go", Value::Actor(me.clone()));
            }
            Ok(Reply::Value(Value::Unit))
        }
        _ => Ok(Reply::Value(Value::Int(count.load(SeqCst)))),
    })
}

/// Keeps a vat busy with a few hundred such messages, each a churn, until the flag is set.
fn keep_busy(vat: &ToyVat, stop: &Arc<AtomicBool>) -> Actor {
    let actor = spawn(vat, busy(stop)).unwrap();
    (0..200).for_each(|_| tell(&actor, "go", Value::Actor(actor.clone())));
    actor
}

#[test]
fn a_caller_runs_the_vat_on_its_own_thread_and_first_what_came_before() {
    let runtime = runtime();
    let vat = vat(&runtime, "own-thread");
    let actor = spawn(&vat, puppet(0)).unwrap();
    let (ask, here) = where_am_i();
    call(&actor, "do", ask).unwrap();
    assert_eq!(here.try_recv(), Ok(this_thread()));

    // Without workers nobody else can have run it.
    runtime.stop((), PATIENCE);
    let (ask, here) = where_am_i();
    let queued = send(&actor, "do", ask.clone());
    assert!(here.try_recv().is_err() && outcome(&queued).is_none());
    assert_eq!(get(&actor), 0);
    assert_eq!(here.try_recv(), Ok(this_thread()));
    assert!(outcome(&queued).is_some());
    for waits in [|vat: &ToyVat| vat.drain((), None).unwrap(), |vat: &ToyVat| vat.help(()).unwrap()] {
        tell(&actor, "do", ask.clone());
        waits(&vat);
        assert_eq!(here.try_recv(), Ok(this_thread()));
    }
}

#[test]
fn a_worker_runs_what_nobody_waits_for_and_is_the_only_thread_more() {
    let vat = vat(&Runtime::new(1), "worker");
    let actor = spawn(&vat, puppet(0)).unwrap();
    let (ask, worked) = where_am_i();
    let mut workers = HashSet::new();
    for _ in 0..20 {
        tell(&actor, "do", ask.clone());
        workers.insert(worked.recv_timeout(PATIENCE).unwrap());
    }
    assert!(workers.len() == 1 && !workers.contains(&this_thread()));
}

#[test]
fn near_messages_run_on_the_thread_of_the_call_that_caused_them() {
    let vat = vat(&runtime(), "near-thread");
    let actor = spawn(&vat, puppet(0)).unwrap();
    let (ask, here) = where_am_i();
    run(&vat, |turn| {
        turn.tell(&actor, "do", ask);
        Ok(())
    })
    .unwrap();
    assert_eq!(here.try_recv(), Ok(this_thread()), "they are done when the call returns");
}

#[test]
fn ten_thousand_vats_need_two_workers() {
    const VATS: i64 = 10_000;
    let runtime = runtime();
    let (sender, threads) = channel();
    let sender = Mutex::new(sender);
    let report = code(move |_, number| {
        sender.lock().unwrap().send(this_thread()).unwrap();
        Ok(Value::Int(number))
    });
    let actors: Vec<Actor> = (0..VATS)
        .map(|number| spawn(&goblins_core::vat::Vat::new(&runtime, Default::default()), puppet(number)))
        .collect::<Result<_, _>>()
        .unwrap();
    let answers: Vec<Promise> = actors.iter().map(|actor| send(actor, "do", report.clone())).collect();
    for (answer, number) in answers.iter().zip(0..) {
        assert_eq!(result(answer).unwrap(), Value::Int(number));
    }
    let threads: Vec<ThreadId> = threads.try_iter().collect();
    assert_eq!(threads.len() as i64, VATS, "each once");
    let threads: HashSet<ThreadId> = threads.into_iter().collect();
    assert!(threads.len() <= 2 && !threads.contains(&this_thread()), "{threads:?}");
}

#[test]
fn a_message_goes_round_a_thousand_vats() {
    let runtime = runtime();
    let first = spawn(&vat(&runtime, "last"), counter(0)).unwrap();
    let last = (0..1000).fold(first, |next, _| {
        let vat = vat(&runtime, "ring");
        spawn(
            &vat,
            behavior(move |turn, message| {
                Ok(Reply::Value(Value::Promise(turn.send(&next, message.method, message.value))))
            }),
        )
        .unwrap()
    });
    let answers: Vec<Promise> = (0..3).map(|_| send(&last, "add", Value::Int(2))).collect();
    let mut sums: Vec<i64> = answers.iter().map(|answer| int(&result(answer).unwrap())).collect();
    sums.sort_unstable();
    assert_eq!(sums, [2, 4, 6]);
}

#[test]
fn calls_of_several_threads_are_done_once_each() {
    const THREADS: usize = 6;
    const CALLS: usize = 300;
    let vat = vat(&runtime(), "several");
    let tally = spawn(&vat, counter(0)).unwrap();
    let start = Barrier::new(THREADS);
    let sums: Vec<i64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (tally, start) = (&tally, &start);
                scope.spawn(move || {
                    start.wait();
                    let one = |_| match thread % 2 {
                        0 => add(tally, 1).unwrap(),
                        _ => int(&result(&send(tally, "add", Value::Int(1))).unwrap()),
                    };
                    (0..CALLS).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<i64> = sums.iter().copied().collect();
    assert_eq!(distinct, (1..=(THREADS * CALLS) as i64).collect(), "no sum was seen twice");
}

#[test]
fn each_sender_keeps_its_order_at_each_receiver() {
    const SENDERS: i64 = 4;
    const MESSAGES: i64 = 300;
    let runtime = runtime();
    let (sender, received) = channel();
    let sender = Mutex::new(sender);
    let receiver = behavior(move |_, message| {
        sender.lock().unwrap().send((message.method, int(&message.value))).unwrap();
        Ok(Reply::Value(Value::Unit))
    });
    let receiver = spawn(&vat(&runtime, "receiver"), receiver).unwrap();
    let names = ["thread 0", "vat 1", "thread 2", "vat 3"];
    std::thread::scope(|scope| {
        for name in names {
            let (receiver, runtime) = (&receiver, &runtime);
            scope.spawn(move || {
                let vat = vat(runtime, name);
                for number in 0..MESSAGES {
                    // From a thread outside, a message or a call; from a vat, a churn with one message.
                    match (name.starts_with("vat"), number % 3) {
                        (true, _) => run(&vat, |turn| {
                            turn.tell(receiver, name, Value::Int(number));
                            Ok(())
                        })
                        .unwrap(),
                        (false, 0) => drop(call(receiver, name, Value::Int(number)).unwrap()),
                        (false, _) => tell(receiver, name, Value::Int(number)),
                    }
                }
            });
        }
    });
    Toy::actor_cell(&receiver).vat().drain((), None).unwrap();
    let mut seen: HashMap<&str, Vec<i64>> = HashMap::new();
    received.try_iter().for_each(|(name, number)| seen.entry(name).or_default().push(number));
    assert_eq!(seen.len() as i64, SENDERS);
    for (name, numbers) in seen {
        assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn busy_vats_starve_neither_the_others_nor_each_other() {
    let (runtime, stop) = (runtime(), Arc::default());
    // More of them than workers.
    let busy: Vec<Actor> =
        (0..3).map(|number| keep_busy(&vat(&runtime, &format!("busy {number}")), &stop)).collect();
    let quiet: Vec<Actor> = (0..50).map(|_| spawn(&vat(&runtime, "quiet"), counter(0)).unwrap()).collect();
    let ask = |actors: &[Actor]| -> Vec<i64> {
        let answers: Vec<Promise> =
            actors.iter().map(|actor| send(actor, "how often", Value::Unit)).collect();
        answers.iter().map(|answer| int(&result(answer).unwrap())).collect()
    };
    for _ in 0..3 {
        ask(&quiet);
        let (before, now) = (ask(&busy), ask(&busy));
        assert!(before.iter().zip(&now).all(|(before, now)| before < now), "{before:?} {now:?}");
    }
    stop.store(true, SeqCst);
}

#[test]
fn a_caller_gets_into_a_vat_that_always_has_work() {
    let (runtime, stop) = (runtime(), Arc::default());
    let vat = vat(&runtime, "always");
    let actor = keep_busy(&vat, &stop);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut before = 0;
                for _ in 0..20 {
                    let now = int(&call(&actor, "how often", Value::Unit).unwrap());
                    assert!(now >= before);
                    before = now;
                }
                assert!(before > 0, "what came before the call was done first");
            });
        }
    });
    stop.store(true, SeqCst);
    vat.drain((), None).unwrap();
}

#[test]
fn draining_a_vat_leaves_nothing_to_do() {
    let runtime = runtime();
    let (here, there) = (vat(&runtime, "drain"), vat(&runtime, "drain-there"));
    let tally = spawn(&here, counter(0)).unwrap();
    let relay = {
        let tally = tally.clone();
        behavior(move |turn, message| {
            turn.tell(&tally, "add", message.value);
            Ok(Reply::Value(Value::Unit))
        })
    };
    let (near, far) = (spawn(&here, relay.clone()).unwrap(), spawn(&there, relay).unwrap());
    std::thread::scope(|scope| {
        for actor in [&near, &far] {
            scope.spawn(|| (0..200).for_each(|_| tell(actor, "", Value::Int(1))));
        }
    });
    there.drain((), None).unwrap();
    here.drain((), Some(PATIENCE)).unwrap();
    here.drain((), Some(Duration::ZERO)).unwrap();
    assert_eq!(get(&tally), 400);
}

#[test]
fn draining_waits_for_the_one_inside_but_no_longer_than_it_is_told_to() {
    let vat = vat(&runtime(), "drain-busy");
    let actor = spawn(&vat, puppet(0)).unwrap();
    let release = occupy(&actor);
    let queued = send(&actor, "get", Value::Unit);
    let late = vat.drain((), Some(Duration::ZERO));
    assert!(matches!(late, Err(Fault::Kernel(KernelError::TimedOut { .. }))));
    assert!(outcome(&queued).is_none(), "it goes on");
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| vat.drain((), None).map(|()| outcome(&queued).is_some()));
        release.send(()).unwrap();
        assert!(drained.join().unwrap().unwrap(), "the message was handled before the drain came back");
    });
}

#[test]
fn a_vat_closed_while_all_use_it_has_done_a_job_or_refused_it() {
    for _ in 0..20 {
        let vat = vat(&runtime(), "closed-busy");
        let done = Arc::new(AtomicI64::new(0));
        let actor = {
            let done = done.clone();
            spawn(&vat, behavior(move |_, _| Ok(Reply::Value(Value::Int(done.fetch_add(1, SeqCst))))))
                .unwrap()
        };
        let start = Barrier::new(4);
        let answers: Vec<Result<Value, Fault>> = std::thread::scope(|scope| {
            let caller = |by_message: bool| {
                let (actor, start) = (&actor, &start);
                move || {
                    start.wait();
                    let mut answers = Vec::new();
                    while !answers.last().is_some_and(Result::is_err) {
                        let ask = |_| send(actor, "", Value::Unit);
                        match by_message {
                            true => answers.extend([(); 5].map(ask).iter().map(result)),
                            false => answers.push(call(actor, "", Value::Unit)),
                        }
                    }
                    answers
                }
            };
            let callers = [true, false, true].map(|by_message| scope.spawn(caller(by_message)));
            start.wait();
            (0..10).for_each(|_| drop(call(&actor, "", Value::Unit).unwrap()));
            vat.close(()).unwrap();
            let done_by_then = done.load(SeqCst);
            let answers = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
            assert_eq!(done.load(SeqCst), done_by_then, "nothing runs after the close");
            answers
        });
        let (good, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!(good.len() as i64 + 10, done.load(SeqCst));
        assert!(refused.len() >= 3 && refused.into_iter().all(is_closed));
        let after = run(&common::vat(&runtime(), "later"), |turn| Ok(turn.send(&actor, "", Value::Unit)));
        assert!(is_closed(result(&after.unwrap())));
    }
}

#[test]
fn closing_ends_the_wait_of_those_who_want_in() {
    let vat = vat(&runtime(), "closed-wait");
    let actor = spawn(&vat, puppet(0)).unwrap();
    let release = occupy(&actor);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| call(&actor, "get", Value::Unit))).collect();
        let closers: Vec<_> = (0..2).map(|_| scope.spawn(|| vat.close(()))).collect();
        // The turn inside goes on until all of them were told.
        for caller in waiting {
            assert!(is_closed(caller.join().unwrap()));
        }
        release.send(()).unwrap();
        closers.into_iter().for_each(|closer| closer.join().unwrap().unwrap());
    });
}

#[test]
fn stopping_the_workers_waits_for_their_turns_but_no_longer_than_it_is_told_to() {
    let runtime = runtime();
    let vat = vat(&runtime, "stopping");
    let actor = spawn(&vat, puppet(0)).unwrap();
    let release = occupy(&actor);
    let queued = send(&actor, "get", Value::Unit);
    runtime.stop((), Duration::ZERO);
    release.send(()).unwrap();
    assert_eq!(get(&actor), 0, "callers still get in");
    assert!(outcome(&queued).is_some());
}

#[test]
fn a_worker_that_dies_is_replaced_and_its_vat_goes_on() {
    let runtime = Runtime::new(1);
    let (here, there) = (vat(&runtime, "dies"), vat(&runtime, "dies-there"));
    let (actor, other) = (spawn(&here, puppet(0)).unwrap(), spawn(&there, counter(0)).unwrap());
    for sum in 1..=5 {
        // Unwinds without the message that a panic prints.
        tell(&actor, "do", code(|_, _| std::panic::resume_unwind(Box::new(()))));
        assert_eq!(result(&send(&other, "add", Value::Int(1))).unwrap(), Value::Int(sum));
        assert_eq!(result(&send(&actor, "get", Value::Unit)).unwrap(), Value::Int(0));
    }
}

#[test]
fn workers_that_are_held_up_are_replaced_and_those_that_stood_in_for_them_leave() {
    let runtime = runtime();
    let held_up: Vec<_> = (0..5)
        .map(|number| {
            let actor = spawn(&vat(&runtime, "held up"), puppet(number)).unwrap();
            let release = occupy(&actor);
            (actor, release)
        })
        .collect();
    let free = spawn(&vat(&runtime, "free"), counter(0)).unwrap();
    let (answer, (ask, here)) = (wait(&send(&free, "add", Value::Int(1))), where_am_i());
    assert!(answer.recv_timeout(PATIENCE).is_ok(), "nobody waits for the workers that are held up");
    for (actor, release) in &held_up {
        tell(actor, "do", ask.clone());
        release.send(()).unwrap();
    }
    let workers: HashSet<_> = held_up.iter().map(|_| here.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(!workers.contains(&this_thread()));
    assert!(warnings().iter().any(|report| report.contains("turns that take long")));
}

/// An actor that tells itself again and again, until it is told to `stop`; it answers `get` with how often.
fn restless(vat: &ToyVat) -> Actor {
    let itself = Arc::new(Mutex::new(None::<Actor>));
    let (me, count, stopped) = (itself.clone(), AtomicU64::new(0), AtomicBool::new(false));
    let actor = spawn(
        vat,
        behavior(move |turn, message| match message.method {
            "stop" => {
                stopped.store(true, SeqCst);
                me.lock().unwrap().take();
                Ok(Reply::Value(Value::Unit))
            }
            "get" => Ok(Reply::Value(Value::Int(count.load(SeqCst) as i64))),
            _ => {
                count.fetch_add(1, SeqCst);
                if let (false, Some(me)) = (stopped.load(SeqCst), &*me.lock().unwrap()) {
                    turn.tell(me, "go", Value::Unit);
                }
                Ok(Reply::Value(Value::Unit))
            }
        }),
    )
    .unwrap();
    *itself.lock().unwrap() = Some(actor.clone());
    actor
}

#[test]
fn a_churn_without_end_is_cut_so_that_others_get_in() {
    let runtime = runtime();
    let here = vat(&runtime, "restless");
    let actor = restless(&here);
    let beside = spawn(&here, counter(0)).unwrap();
    tell(&actor, "go", Value::Unit);
    let mut before = 0;
    for sum in 1..=3 {
        assert_eq!(call(&beside, "add", Value::Int(1)).unwrap(), Value::Int(2 * sum - 1));
        assert_eq!(result(&send(&beside, "add", Value::Int(1))).unwrap(), Value::Int(2 * sum));
        let now = get(&actor);
        assert!(now > before, "and it goes on");
        before = now;
    }
    let told = || warnings().iter().filter(|what| what.contains("vat restless:")).count();
    while told() == 0 {
        get(&actor);
    }
    for _ in 0..3 {
        get(&actor);
    }
    assert_eq!(told(), 1, "whoever runs the program is told of it once");
    call(&actor, "stop", Value::Unit).unwrap();
    here.drain((), None).unwrap();
    assert!(reports(&here).is_empty());
}

#[test]
fn a_call_that_begins_a_churn_without_end_returns() {
    let here = vat(&runtime(), "restless-call");
    let actor = restless(&here);
    call(&actor, "go", Value::Unit).unwrap();
    assert!(get(&actor) > 1);
    call(&actor, "stop", Value::Unit).unwrap();
}

#[test]
fn a_vat_whose_churn_has_no_end_can_be_closed() {
    let here = vat(&runtime(), "restless-closed");
    let actor = restless(&here);
    tell(&actor, "go", Value::Unit);
    while get(&actor) == 0 {}
    here.close(()).unwrap();
    assert!(reports(&here).iter().all(|report| report.contains("was not delivered")));
}

#[test]
fn draining_a_churn_without_end_ends_when_its_time_is_over() {
    let here = vat(&runtime(), "restless-drained");
    here.set_scheduling(Scheduling::Manual);
    let actor = restless(&here);
    tell(&actor, "go", Value::Unit);
    let drained = here.drain((), Some(Duration::from_millis(1)));
    assert!(matches!(drained, Err(Fault::Kernel(KernelError::TimedOut { .. }))));
    assert!(here.step(()).unwrap(), "what is left waits for the next step");
    call(&actor, "stop", Value::Unit).unwrap();
    here.drain((), None).unwrap();
}

#[test]
fn the_rest_of_a_churn_that_was_cut_keeps_its_order_and_is_one_message_that_waits() {
    const MESSAGES: i64 = 25_000;
    let here = vat(&runtime(), "cut");
    here.set_scheduling(Scheduling::Manual);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    let ear = spawn(
        &here,
        behavior(move |_, message| {
            ears.lock().unwrap().push(int(&message.value));
            Ok(Reply::Value(Value::Unit))
        }),
    )
    .unwrap();
    let mouth = spawn(&here, puppet(0)).unwrap();
    let target = ear.clone();
    let speak = code(move |turn, _| {
        (0..MESSAGES).for_each(|number| turn.tell(&target, "hear", Value::Int(number)));
        Ok(Value::Unit)
    });
    tell(&mouth, "do", speak);
    tell(&ear, "hear", Value::Int(-1));
    here.drain((), None).unwrap();
    let heard = heard.lock().unwrap();
    let own: Vec<_> = heard.iter().copied().filter(|number| *number >= 0).collect();
    assert_eq!(own, (0..MESSAGES).collect::<Vec<_>>());
    let other = heard.iter().position(|number| *number == -1).unwrap();
    assert!(other < MESSAGES as usize, "what came meanwhile is handled in between");
}
