//! Promises: who is told what, in which order, and that nobody waits for ever.
#![allow(clippy::unwrap_used, clippy::unit_arg)]

mod common;

use std::sync::{Arc, Mutex};

use common::{ToyVat, code, occupy, puppet, raised, run, runtime, vat};
use goblins_core::error::KernelError;
use goblins_core::host::Host;
use goblins_core::settle_outside;
use goblins_core::toy::{
    Behavior, Fault, Promise, Reply, Toy, Turn, Value, behavior, call, counter, fulfil, looks, outcome,
    reports, result, send, spawn, wait, wait_at,
};

type Notes = Arc<Mutex<Vec<String>>>;

fn notes(notes: &Notes) -> Vec<String> {
    notes.lock().unwrap().clone()
}

/// Notes how the promise settles.
fn listen(turn: &Turn<'_>, promise: &Promise, notes: &Notes, name: &'static str) -> Promise {
    let notes = notes.clone();
    turn.on(promise, move |_, result| {
        notes.lock().unwrap().push(name.to_owned());
        result
    })
}

/// Notes each message by its value.
fn recorder(notes: &Notes) -> Behavior {
    let notes = notes.clone();
    behavior(move |_, message| {
        notes.lock().unwrap().push(format!("{:?}", message.value));
        Ok(Reply::Value(Value::Unit))
    })
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// A listener, a message, a listener, a message: all wait for one promise.
fn wait_in_turns(vat: &ToyVat, promise: &Promise, notes: &Notes) {
    run(vat, |turn| {
        listen(turn, promise, notes, "first listener");
        turn.tell(promise, "", text("first message"));
        listen(turn, promise, notes, "second listener");
        turn.tell(promise, "", text("second message"));
        Ok(())
    })
    .unwrap();
}

const MESSAGES_THEN_LISTENERS: [&str; 4] =
    [r#""first message""#, r#""second message""#, "first listener", "second listener"];

#[test]
fn waiting_messages_go_first_then_listeners_each_oldest_first() {
    // ASY-28, LIM-26
    let (vat, heard) = (vat(&runtime(), "oldest-first"), Notes::default());
    let actor = spawn(&vat, recorder(&heard)).unwrap();
    let promise = Promise::default();
    wait_in_turns(&vat, &promise, &heard);
    run(&vat, |turn| Ok(turn.fulfil(&promise, Value::Actor(actor)))).unwrap();
    assert_eq!(notes(&heard), MESSAGES_THEN_LISTENERS);
}

#[test]
fn waiting_messages_go_first_too_when_the_promise_is_settled_outside_the_vat() {
    // ASY-28
    let runtime = runtime();
    let (here, there) = (vat(&runtime, "outside-first"), vat(&runtime, "outside-first-there"));
    for from_outside in [false, true] {
        let heard = Notes::default();
        let actor = spawn(&here, recorder(&heard)).unwrap();
        let promise = Promise::default();
        wait_in_turns(&here, &promise, &heard);
        match from_outside {
            true => fulfil(&promise, Value::Actor(actor)),
            false => run(&there, |turn| Ok(turn.fulfil(&promise, Value::Actor(actor)))).unwrap(),
        }
        here.drain((), None).unwrap();
        assert_eq!(notes(&heard), MESSAGES_THEN_LISTENERS, "from outside: {from_outside}");
    }
}

#[test]
fn a_promise_fulfilled_with_a_promise_settles_as_that_one_does() {
    // ASY-15
    let vat = vat(&runtime(), "chain");
    for broken in [false, true] {
        let [first, second, third]: [Promise; 3] = Default::default();
        run(&vat, |turn| {
            turn.fulfil(&first, Value::Promise(second.clone()));
            turn.fulfil(&second, Value::Promise(third.clone()));
            Ok(())
        })
        .unwrap();
        assert!(outcome(&first).is_none());
        run(&vat, |turn| {
            turn.fulfil(&first, Value::Int(9)); // it waits for another, so this does nothing
            match broken {
                true => turn.break_(&third, "broken"),
                false => turn.fulfil(&third, Value::Int(1)),
            }
            Ok(())
        })
        .unwrap();
        for promise in [&first, &second, &third] {
            match outcome(promise).unwrap() {
                Ok(value) => assert_eq!((value, broken), (Value::Int(1), false)),
                Err(error) => assert_eq!((error.to_string().as_str(), broken), ("broken", true)),
            }
        }
    }
}

#[test]
fn a_cycle_of_promises_breaks() {
    // ASY-16, LIM-23
    let vat = vat(&runtime(), "cycle");
    let is_cycle =
        |promise: &Promise| matches!(outcome(promise), Some(Err(Fault::Kernel(KernelError::PromiseCycle))));
    for length in 1..4 {
        let ring: Vec<Promise> = (0..length).map(|_| Promise::default()).collect();
        run(&vat, |turn| {
            for (index, promise) in ring.iter().enumerate() {
                turn.fulfil(promise, Value::Promise(ring[(index + 1) % length].clone()));
            }
            Ok(())
        })
        .unwrap();
        assert!(ring.iter().all(is_cycle), "in a vat, length {length}");

        let ring: Vec<Promise> = (0..length).map(|_| Promise::default()).collect();
        for (index, promise) in ring.iter().enumerate() {
            fulfil(promise, Value::Promise(ring[(index + 1) % length].clone()));
        }
        assert!(ring.iter().all(is_cycle), "outside, length {length}");
    }
}

#[test]
fn promises_chained_to_each_other_by_two_threads_at_once_break() {
    // LIM-23
    for _ in 0..500 {
        let (a, b) = (Promise::default(), Promise::default());
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for (one, other) in [(&a, &b), (&b, &a)] {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    fulfil(one, Value::Promise(other.clone()));
                });
            }
        });
        assert!(outcome(&a).unwrap().is_err());
        assert!(outcome(&b).unwrap().is_err());
    }
}

#[test]
fn a_message_to_a_promise_for_a_plain_value_breaks_what_waits_for_its_answer() {
    // ASY-34, LIM-24
    let vat = vat(&runtime(), "plain");
    let not_an_actor = |promise: &Promise| {
        matches!(outcome(promise), Some(Err(Fault::Kernel(KernelError::NotAnActor { .. }))))
    };
    let promise = Promise::default();
    let (answer, next) = run(&vat, |turn| {
        let answer = turn.send(&promise, "get", Value::Unit);
        let next = turn.send(&answer, "get", Value::Unit);
        Ok((answer, next))
    })
    .unwrap();
    run(&vat, |turn| Ok(turn.fulfil(&promise, Value::Int(3)))).unwrap();
    assert!(not_an_actor(&answer) && not_an_actor(&next));
    assert_eq!(outcome(&promise).unwrap().unwrap(), Value::Int(3), "the promise itself is sound");

    let late = run(&vat, |turn| Ok(turn.send(&promise, "get", Value::Unit))).unwrap();
    assert!(not_an_actor(&late));
}

#[test]
fn an_error_goes_down_the_whole_pipeline() {
    // ASY-32, ASY-33
    let vat = vat(&runtime(), "pipeline");
    let failing = spawn(&vat, counter(0)).unwrap();
    let answers = run(&vat, |turn| {
        let mut answers = vec![turn.send(&failing, "fail", Value::Unit)];
        for index in 0..3 {
            let next = turn.send(&answers[index], "get", Value::Unit);
            answers.push(next);
        }
        Ok(answers)
    })
    .unwrap();
    for answer in answers {
        assert_eq!(outcome(&answer).unwrap().unwrap_err().to_string(), "the counter was asked to fail");
    }
}

#[test]
fn a_tell_to_a_broken_promise_is_only_reported() {
    // ASY-36, LIM-25
    let (vat, heard) = (vat(&runtime(), "tell-broken"), Notes::default());
    let promise = Promise::default();
    run(&vat, |turn| {
        turn.tell(&promise, "get", Value::Unit);
        listen(turn, &promise, &heard, "listener");
        Ok(())
    })
    .unwrap();
    run(&vat, |turn| Ok(turn.break_(&promise, "broken"))).unwrap();
    run(&vat, |turn| Ok(turn.tell(&promise, "get", Value::Unit))).unwrap();
    assert_eq!(notes(&heard), ["listener"], "the other waiters are served");
    let reports = reports(&vat);
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(reports.iter().all(|report| report.ends_with(": broken")), "{reports:?}");
}

#[test]
fn the_first_settlement_wins() {
    // ASY-10
    let (here, promise) = (vat(&runtime(), "first-wins"), Promise::default());
    run(&here, |turn| {
        turn.break_(&promise, "first");
        turn.fulfil(&promise, Value::Int(2));
        Ok(())
    })
    .unwrap();
    fulfil(&promise, Value::Int(3));
    settle_outside::<Toy>((), promise.clone(), raised("fourth").into(), false);
    assert_eq!(outcome(&promise).unwrap().unwrap_err().to_string(), "first");
}

#[test]
fn a_settlement_from_outside_reaches_listeners_chains_and_waiters() {
    let (vat, heard) = (vat(&runtime(), "from-outside"), Notes::default());
    let (promise, chained, outer) = (Promise::default(), Promise::default(), Promise::default());
    let derived = run(&vat, |turn| {
        turn.fulfil(&chained, Value::Promise(promise.clone()));
        Ok(listen(turn, &promise, &heard, "listener"))
    })
    .unwrap();
    fulfil(&outer, Value::Promise(promise.clone()));
    fulfil(&promise, Value::Int(5));
    for promise in [&promise, &chained, &outer, &derived] {
        assert_eq!(result(promise).unwrap(), Value::Int(5));
    }
    assert_eq!(notes(&heard), ["listener"]);
}

#[test]
fn messages_answers_and_listeners_cross_vats() {
    // ASY-30, ASY-31
    let runtime = runtime();
    let (here, there) = (vat(&runtime, "cross-here"), vat(&runtime, "cross-there"));
    let tally = spawn(&there, counter(1)).unwrap();
    let giver = spawn(&there, puppet(0)).unwrap();
    let gift = code({
        let tally = tally.clone();
        move |_, _| Ok(Value::Actor(tally.clone()))
    });
    let sum = run(&here, |turn| {
        let given = turn.send(&giver, "do", gift);
        let added = turn.send(&given, "add", Value::Int(2));
        Ok(turn.on(&added, |_, result| Ok(Value::Int(10 * common::int(&result?)))))
    })
    .unwrap();
    assert_eq!(result(&sum).unwrap(), Value::Int(30));
}

#[test]
fn a_handlers_error_breaks_only_its_own_promise() {
    // ASY-22, ASY-26
    let (vat, promise, heard) = (vat(&runtime(), "handler"), Promise::default(), Notes::default());
    let (failed, chained, passed) = run(&vat, |turn| {
        let inner = Promise::default();
        fulfil(&inner, Value::Int(2));
        let failed = turn.on(&promise, |_, _| raised("handler"));
        let chained = turn.on(&promise, move |_, _| Ok(Value::Promise(inner.clone())));
        Ok((failed, chained, listen(turn, &promise, &heard, "heard")))
    })
    .unwrap();
    run(&vat, |turn| Ok(turn.fulfil(&promise, Value::Int(1)))).unwrap();
    assert_eq!(outcome(&failed).unwrap().unwrap_err().to_string(), "handler");
    assert_eq!(outcome(&chained).unwrap().unwrap(), Value::Int(2));
    assert_eq!(outcome(&passed).unwrap().unwrap(), Value::Int(1));
}

#[test]
fn finally_runs_in_both_cases_and_passes_the_outcome_on() {
    // ASY-21
    let (vat, ran) = (vat(&runtime(), "finally"), Notes::default());
    let finally = |turn: &Turn<'_>, promise: &Promise, fail: bool| {
        let ran = ran.clone();
        turn.finally(promise, move |_| {
            ran.lock().unwrap().push("ran".to_owned());
            if fail { raised("in finally") } else { Ok(Value::Int(9)) }
        })
    };
    let (good, bad) = (Promise::default(), Promise::default());
    let [passed, broken, failed] = run(&vat, |turn| {
        Ok([finally(turn, &good, false), finally(turn, &bad, false), finally(turn, &good, true)])
    })
    .unwrap();
    fulfil(&good, Value::Int(1));
    run(&vat, |turn| Ok(turn.break_(&bad, "bad"))).unwrap();
    vat.drain((), None).unwrap();
    assert_eq!(outcome(&passed).unwrap().unwrap(), Value::Int(1));
    assert_eq!(outcome(&broken).unwrap().unwrap_err().to_string(), "bad");
    assert_eq!(outcome(&failed).unwrap().unwrap_err().to_string(), "in finally");
    assert_eq!(notes(&ran).len(), 3);
}

#[test]
fn a_handler_registered_on_a_settled_promise_runs_in_a_later_turn() {
    // ASY-19
    let (vat, promise, heard) = (vat(&runtime(), "later-turn"), Promise::default(), Notes::default());
    fulfil(&promise, Value::Int(1));
    run(&vat, |turn| {
        listen(turn, &promise, &heard, "listener");
        assert!(notes(&heard).is_empty());
        Ok(())
    })
    .unwrap();
    assert_eq!(notes(&heard), ["listener"]);
}

#[test]
fn closing_a_vat_breaks_what_is_queued_and_wakes_who_waits() {
    // VAT-05, VAT-16
    let runtime = runtime();
    let (here, there) = (vat(&runtime, "closed"), vat(&runtime, "closed-there"));
    let actor = spawn(&here, puppet(1)).unwrap();
    let listener = spawn(&there, puppet(1)).unwrap();
    let closed =
        |promise: &Promise| matches!(result(promise), Err(Fault::Kernel(KernelError::VatClosed { .. })));

    let (pending, chained) = (Promise::default(), Promise::default());
    let derived = run(&here, |turn| {
        turn.fulfil(&chained, Value::Promise(pending.clone()));
        Ok(turn.on(&pending, |_, result| result))
    })
    .unwrap();
    let release = occupy(&actor);
    let queued = send(&actor, "get", Value::Unit);
    let heard =
        run(&there, |turn| Ok(turn.on(&queued, |_, result| Ok(Value::Int(result.is_err().into()))))).unwrap();
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| here.close(()));
        // The closer refuses new work at once, and waits for the turn that runs.
        while !here.is_closed() {
            std::thread::yield_now();
        }
        let late = send(&actor, "get", Value::Unit);
        assert!(closed(&late));
        release.send(()).unwrap();
        closing.join().unwrap().unwrap();
    });
    assert!(closed(&queued));
    assert_eq!(result(&heard).unwrap(), Value::Int(1));
    assert!(matches!(call(&actor, "get", Value::Unit), Err(Fault::Kernel(KernelError::VatClosed { .. }))));
    here.close(()).unwrap();

    // What waits in the closed vat for a promise that settles later.
    fulfil(&pending, Value::Int(4));
    assert!(closed(&derived));
    assert_eq!(result(&chained).unwrap(), Value::Int(4), "a chain needs no vat");

    let from_vat = run(&there, |turn| {
        turn.tell(&actor, "get", Value::Unit);
        Ok(turn.send(&actor, "get", Value::Unit))
    })
    .unwrap();
    assert!(closed(&from_vat));
    assert_eq!(reports(&here).len(), 1, "the tell is reported");
    assert_eq!(common::get(&listener), 1);
}

#[test]
fn long_chains_and_long_pipelines_need_no_stack() {
    const LENGTH: usize = 50_000;
    let vat = vat(&runtime(), "long");
    for from_outside in [false, true] {
        let chain: Vec<Promise> = (0..LENGTH).map(|_| Promise::default()).collect();
        let last = chain.last().unwrap();
        for pair in chain.windows(2) {
            let (promise, next) = (&pair[0], Value::Promise(pair[1].clone()));
            match from_outside {
                true => fulfil(promise, next),
                false => run(&vat, |turn| Ok(turn.fulfil(promise, next))).unwrap(),
            }
        }
        match from_outside {
            true => fulfil(last, Value::Int(1)),
            false => run(&vat, |turn| Ok(turn.fulfil(last, Value::Int(1)))).unwrap(),
        }
        assert_eq!(result(&chain[0]).unwrap(), Value::Int(1));

        let start = Promise::default();
        let end = run(&vat, |turn| {
            let mut end = start.clone();
            for _ in 0..LENGTH {
                end = turn.send(&end, "get", Value::Unit);
            }
            Ok(end)
        })
        .unwrap();
        match from_outside {
            true => fulfil(&start, Value::Int(1)),
            false => run(&vat, |turn| Ok(turn.fulfil(&start, Value::Int(1)))).unwrap(),
        }
        assert!(result(&end).is_err());
    }
}

#[test]
fn a_long_pipeline_into_a_closed_vat_needs_no_stack() {
    let runtime = runtime();
    let (closed, other) = (vat(&runtime, "long-closed"), vat(&runtime, "long-closed-other"));
    let actor = spawn(&closed, puppet(0)).unwrap();
    let start = Promise::default();
    let end = run(&closed, |turn| {
        let mut end = start.clone();
        for _ in 0..50_000 {
            end = turn.send(&end, "get", Value::Unit);
        }
        Ok(end)
    })
    .unwrap();
    let waiting = wait(&end);
    closed.close(()).unwrap();
    run(&other, |turn| Ok(turn.fulfil(&start, Value::Actor(actor)))).unwrap();
    assert!(Result::from(waiting.recv_timeout(common::PATIENCE).unwrap()).is_err());
}

#[test]
fn one_who_waits_no_longer_is_not_told_and_does_not_count_as_having_asked() {
    let promise = Promise::default();
    let ((one, first), (other, second)) = (wait_at(&promise), wait_at(&promise));
    let cell = Toy::promise_cell(&promise);
    drop(cell.forget(one));
    assert!(cell.state().heard);
    drop(cell.forget(other));
    assert!(!cell.state().heard);
    fulfil(&promise, Value::Unit);
    assert!(first.recv().is_err());
    assert!(second.recv().is_err());
    assert_eq!(outcome(&promise).unwrap().unwrap(), Value::Unit);
    assert!(cell.state().heard);
    assert!(cell.forget(one).is_empty());
    assert!(cell.state().heard);
}

/// Of as many who wait for one promise, all but the last leave: in that order, each step takes the same time.
fn leave_in(order: impl Fn(usize) -> Vec<usize>) {
    const MANY: usize = 20_000;
    let promise = Promise::default();
    let cell = Toy::promise_cell(&promise);
    let mut waiting: Vec<_> = (0..MANY).map(|_| Some(wait_at(&promise))).collect();
    let (_, last) = wait_at(&promise);
    let before = looks();
    for (done, index) in order(MANY).into_iter().enumerate() {
        let (place, receiver) = waiting[index].take().unwrap();
        let gone = cell.forget(place);
        assert!(gone.is_empty() || gone.len() >= (MANY - done) / 2 || MANY - done < 64);
        drop(gone);
        // Those who have left are never more than those who wait.
        assert!(cell.state().waiters.len() <= 64.max(2 * (MANY - done)));
        assert!(cell.state().heard);
        drop(receiver);
    }
    let looked_at = looks() - before;
    assert!(looked_at < 10 * MANY, "{looked_at} looks at {MANY} who wait");
    fulfil(&promise, Value::Unit);
    assert!(Result::from(last.recv().unwrap()).is_ok());
}

#[test]
fn to_leave_a_line_takes_no_longer_the_more_wait_in_it() {
    leave_in(|many| (0..many).collect());
    leave_in(|many| (0..many).rev().collect());
    // Each number once, all over the line.
    leave_in(|many| (0..many).map(|step| step * 7919 % many).collect());
}

#[test]
fn who_has_left_a_long_line_is_not_told() {
    let promise = Promise::default();
    let cell = Toy::promise_cell(&promise);
    let waiting: Vec<_> = (0..100).map(|_| wait_at(&promise)).collect();
    for (place, _) in waiting.iter().step_by(10) {
        assert!(cell.forget(*place).is_empty());
    }
    fulfil(&promise, Value::Int(5));
    for (index, (_, receiver)) in waiting.iter().enumerate() {
        assert_eq!(receiver.recv().is_ok(), index % 10 != 0);
    }
}

#[test]
fn if_all_leave_a_long_line_nobody_has_asked() {
    let promise = Promise::default();
    let cell = Toy::promise_cell(&promise);
    let waiting: Vec<_> = (0..100).map(|_| wait_at(&promise)).collect();
    for (index, (place, _)) in waiting.iter().enumerate() {
        assert!(cell.state().heard, "after {index}");
        drop(cell.forget(*place));
    }
    assert!(!cell.state().heard);
    assert!(cell.state().waiters.is_empty());
}
