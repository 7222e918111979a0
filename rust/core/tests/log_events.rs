//! The event log: what happened in a vat, in order, why, and how it ended; across vats an effect is always
//! later than its cause.
#![allow(clippy::unwrap_used, clippy::panic, clippy::unit_arg)]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use common::{Reins, ToyVat, add, int, named, puppet, raised, run, runtime};
use goblins_core::host::Host;
use goblins_core::ids::{LamportTime, Slot};
use goblins_core::log::{Cause, Event, EventKind, EventOutcome, Moment};
use goblins_core::pool::Runtime;
use goblins_core::storage::Fit;
use goblins_core::toy::{
    Actor, Env, Promise, Reply, Toy, Turn, Value, behavior, call, cell, counter, fulfil, result, send, spawn,
    tell,
};
use goblins_core::vat::{Vat, VatOptions};

/// A vat that keeps its last events.
fn logged(runtime: &Arc<Runtime<Toy>>, name: &str, capacity: usize) -> ToyVat {
    Vat::new(runtime, VatOptions { log_capacity: Some(capacity), ..named(name) })
}

/// All events, with those of messages that wait.
fn events(vat: &ToyVat) -> Vec<Event<Toy>> {
    drop(vat.enter(()).unwrap());
    vat.log().events((), vat.log().span())
}

fn last(vat: &ToyVat) -> Event<Toy> {
    events(vat).pop().unwrap()
}

/// What an event of a vat causes has this for its cause.
fn as_cause(vat: &ToyVat, event: &Event<Toy>) -> Cause {
    Cause { vat: Some(vat.id()), time: event.time }
}

fn slot(actor: &Option<Actor>) -> Option<Slot> {
    actor.as_ref().map(|actor| Toy::actor_cell(actor).slot())
}

const OUTSIDE: Cause = Cause { vat: None, time: LamportTime(0) };

#[test]
fn each_turn_is_an_event_in_the_order_in_which_they_were_made() {
    let vat = logged(&runtime(), "order", 64);
    let tally = spawn(&vat, counter(0)).unwrap(); // churn 1
    run(&vat, |turn| {
        let answer = turn.send(&tally, "add", Value::Int(1));
        turn.tell(&tally, "fail", Value::Unit);
        turn.on(&answer, |_, result| result);
        turn.finally(&answer, |_| raised("no"));
        Ok(())
    })
    .unwrap(); // churn 2
    tell(&tally, "get", Value::Unit); // churn 3
    let events = events(&vat);
    use EventKind::{Deliver, React, Run};
    use EventOutcome::{Kept, Undone};
    let seen: Vec<_> = events.iter().map(|event| (event.kind, event.outcome, event.churn.0)).collect();
    let expected = [
        (Run, Kept, 1),
        (Run, Kept, 2),
        (Deliver, Kept, 2),
        (Deliver, Undone, 2),
        (React, Kept, 2),
        (React, Undone, 2),
        (Deliver, Kept, 3),
    ];
    assert_eq!(seen, expected);
    assert!(events.iter().map(|event| event.turn.0).eq(1..=7));
    assert!(events.windows(2).all(|pair| pair[0].time < pair[1].time && pair[0].began <= pair[1].began));
    assert!(events.iter().map(|event| event.sequence).eq(0..7));
}

#[test]
fn an_event_names_the_actor_and_the_method() {
    let vat = logged(&runtime(), "names", 64);
    let [first, second] = run(&vat, |turn| Ok([turn.spawn(counter(0)), turn.spawn(counter(0))])).unwrap();
    for (actor, method) in [(&first, "add"), (&second, "fail"), (&second, "add")] {
        send(actor, method, Value::Int(1));
    }
    let events = events(&vat);
    let seen: Vec<_> = events[1..].iter().map(|event| (slot(&event.actor), event.method)).collect();
    let number = |actor| Some(Toy::actor_cell(actor).slot());
    assert_eq!(
        seen,
        [(number(&first), Some("add")), (number(&second), Some("fail")), (number(&second), Some("add"))]
    );
    add(&first, 1).unwrap();
    let call = last(&vat);
    assert_eq!((call.kind, slot(&call.actor), call.method), (EventKind::Run, None, None), "a block of calls");
}

#[test]
fn a_turn_that_left_nothing_is_told_from_one_that_was_kept() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let options = VatOptions { log_capacity: Some(64), ..named("outcome") };
    let claim = storage.claim("main").unwrap();
    let vat = Vat::open(&runtime, options, claim, Env::default(), |_| Fit::Fits).unwrap().vat;
    let root =
        vat.found((), [7; 16], Vec::new(), |churn| Ok(vec![Turn::new(churn).spawn(cell(Value::Unit))]));
    let root = root.unwrap().remove(0);
    assert_eq!(last(&vat).outcome, EventOutcome::Kept);
    for (value, outcome) in
        [(Value::Int(1), EventOutcome::Kept), (Value::Code(puppet(0)), EventOutcome::Undone)]
    {
        assert_eq!(call(&root, "set", value.clone()).is_ok(), outcome == EventOutcome::Kept);
        assert_eq!(last(&vat).outcome, outcome, "of a call");
        send(&root, "set", value);
        assert_eq!(last(&vat).outcome, outcome, "of a message");
    }
}

#[test]
fn the_newest_events_push_out_the_oldest() {
    let vat = logged(&runtime(), "ring", 3);
    let tally = spawn(&vat, counter(0)).unwrap();
    let turns = |events: Vec<Event<Toy>>| events.iter().map(|event| event.turn.0).collect::<Vec<_>>();
    assert_eq!(turns(events(&vat)), [1]);
    for _ in 0..9 {
        tell(&tally, "add", Value::Int(1));
    }
    assert_eq!(turns(events(&vat)), [8, 9, 10]);
    assert!(events(&vat).windows(2).all(|pair| pair[0].time < pair[1].time));
    vat.log().set_capacity((), 2);
    assert_eq!(turns(events(&vat)), [9, 10]);
    vat.log().clear(());
    tell(&tally, "add", Value::Int(1));
    assert_eq!(turns(events(&vat)), [11]);
}

#[test]
fn a_log_without_room_keeps_nothing() {
    // LIM-39
    let vat = logged(&runtime(), "no-room", 0);
    let tally = spawn(&vat, counter(0)).unwrap();
    assert_eq!(add(&tally, 1).unwrap(), 1);
    assert!(events(&vat).is_empty());
}

#[test]
fn without_a_log_nothing_is_recorded_and_the_clock_runs() {
    // LOG-11, VAT-20
    let runtime = runtime();
    let (silent, heard) = (common::vat(&runtime, "silent"), logged(&runtime, "heard", 64));
    let tally = spawn(&heard, counter(0)).unwrap();
    let relay = spawn(&silent, puppet(0)).unwrap();
    for _ in 0..20 {
        call(&relay, "get", Value::Unit).unwrap();
    }
    assert!(!silent.log().is_on() && events(&silent).is_empty());
    let before = last(&heard).time;
    let answer = run(&silent, |turn| Ok(turn.send(&tally, "add", Value::Int(1)))).unwrap();
    result(&answer).unwrap();
    let event = last(&heard);
    // The silent vat's turns: a spawn, twenty calls, and the one that sent; then the sending.
    assert_eq!(event.cause, Cause { vat: Some(silent.id()), time: LamportTime(23) });
    assert!(before < event.cause.time && event.cause.time < event.time);
}

#[test]
fn the_cause_of_a_near_message_is_the_turn_that_sent_it() {
    // LOG-06
    let vat = logged(&runtime(), "near-cause", 64);
    let tally = spawn(&vat, counter(0)).unwrap();
    let relay = {
        let tally = tally.clone();
        spawn(
            &vat,
            behavior(move |turn, message| {
                turn.tell(&tally, "add", message.value);
                Ok(Reply::Value(Value::Unit))
            }),
        )
        .unwrap()
    };
    vat.log().clear(());
    run(&vat, |turn| {
        let answer = turn.send(&relay, "", Value::Int(1));
        turn.tell(&relay, "", Value::Int(2));
        turn.on(&answer, |_, result| result);
        Ok(())
    })
    .unwrap();
    let events = events(&vat);
    let [run, first, second, heard, by_first, by_second] = &events[..] else { panic!("{events:?}") };
    assert_eq!(run.cause, OUTSIDE);
    assert_eq!((first.cause, second.cause), (as_cause(&vat, run), as_cause(&vat, run)));
    // The listener waits for the answer of the first; its handler was queued by that turn's end.
    let mut caused = [heard, by_first, by_second].map(|event| (event.kind, event.cause));
    caused.sort_by_key(|(kind, cause)| (*kind == EventKind::React, cause.time));
    let expected = [
        (EventKind::Deliver, as_cause(&vat, first)),
        (EventKind::Deliver, as_cause(&vat, second)),
        (EventKind::React, as_cause(&vat, first)),
    ];
    assert_eq!(caused, expected);
}

#[test]
fn the_cause_of_a_message_from_another_vat_is_its_sending() {
    // LOG-01, LOG-06, VAT-20
    let runtime = runtime();
    let vats = ["one", "two", "three"].map(|name| logged(&runtime, name, 64));
    // The clocks start apart.
    for (vat, turns) in vats.iter().zip([0, 50, 5]) {
        (0..turns).for_each(|_| drop(spawn(vat, puppet(0)).unwrap()));
    }
    let end = spawn(&vats[2], puppet(0)).unwrap();
    let middle = spawn(
        &vats[1],
        behavior(move |turn, _| Ok(Reply::Value(Value::Promise(turn.send(&end, "get", Value::Unit))))),
    )
    .unwrap();
    let answer = run(&vats[0], |turn| Ok(turn.send(&middle, "", Value::Unit))).unwrap();
    result(&answer).unwrap();
    let [.., run, sent] = &events(&vats[0])[..] else { panic!("no events") };
    let [.., relayed, sent_on] = &events(&vats[1])[..] else { panic!("no events") };
    let handled = last(&vats[2]);
    let kinds = [run, sent, relayed, sent_on, &handled].map(|event| event.kind);
    use EventKind::{Deliver, Run, Send};
    assert_eq!(kinds, [Run, Send, Deliver, Send, Deliver]);
    assert_eq!(
        (run.cause, sent.cause, relayed.cause),
        (OUTSIDE, as_cause(&vats[0], run), as_cause(&vats[0], sent))
    );
    assert_eq!((sent_on.cause, handled.cause), (as_cause(&vats[1], relayed), as_cause(&vats[1], sent_on)));
    assert_eq!((sent.turn, sent.churn, slot(&sent.actor)), (run.turn, run.churn, slot(&relayed.actor)));
    assert!(run.time < sent.time && sent.time < relayed.time && sent_on.time < handled.time);
    let actor = spawn(&vats[0], puppet(0)).unwrap();
    result(&send(&actor, "get", Value::Unit)).unwrap();
    assert_eq!(last(&vats[0]).cause, OUTSIDE, "a message of no vat");
}

/// A vat that listens, and one far ahead of it in time where promises are settled.
fn listener_and_settler() -> [ToyVat; 2] {
    let runtime = runtime();
    let vats = ["listens", "settles"].map(|name| logged(&runtime, name, 256));
    (0..50).for_each(|_| drop(spawn(&vats[1], puppet(0)).unwrap()));
    vats
}

#[test]
fn the_cause_of_a_handler_is_the_turn_that_settled_its_promise() {
    // LOG-06, VAT-20
    let [here, there] = listener_and_settler();
    let tally = spawn(&here, counter(0)).unwrap();
    let [promise, chained, target]: [Promise; 3] = Default::default();
    let heard = run(&here, |turn| {
        turn.fulfil(&chained, Value::Promise(promise.clone()));
        turn.tell(&target, "add", Value::Int(1));
        Ok([&promise, &chained].map(|promise| turn.on(promise, |_, result| result)))
    })
    .unwrap();
    here.log().clear(());
    run(&there, |turn| {
        turn.fulfil(&promise, Value::Int(1));
        turn.fulfil(&target, Value::Actor(tally.clone()));
        Ok(())
    })
    .unwrap();
    let settled = last(&there);
    heard.iter().for_each(|heard| drop(result(heard).unwrap()));
    let events = events(&here);
    assert_eq!(events.len(), 3, "a handler, the handler behind a chain, a message that waited: {events:?}");
    for event in &events {
        assert_eq!(event.cause, as_cause(&there, &settled), "{event:?}");
        assert!(settled.time < event.time, "{event:?}");
    }

    // Settled outside, or by the vat itself.
    let [promise, own]: [Promise; 2] = Default::default();
    let heard = run(&here, |turn| Ok([&promise, &own].map(|promise| turn.on(promise, |_, result| result))));
    fulfil(&promise, Value::Int(1));
    result(&heard.unwrap()[0]).unwrap();
    assert_eq!(last(&here).cause, OUTSIDE);
    run(&here, |turn| Ok(turn.fulfil(&own, Value::Int(1)))).unwrap();
    let [.., settled, handled] = &self::events(&here)[..] else { panic!("no events") };
    assert_eq!((handled.kind, handled.cause), (EventKind::React, as_cause(&here, settled)));
}

#[test]
fn what_a_vat_does_with_an_outcome_is_later_than_the_settlement() {
    // VAT-20
    let [here, there] = listener_and_settler();
    let promise = Promise::default();
    run(&there, |turn| Ok(turn.fulfil(&promise, Value::Int(1)))).unwrap();
    let settled = last(&there);
    run(&here, |turn| Ok(turn.on(&promise, |_, result| result))).unwrap();
    let [listened, handled] = &events(&here)[..] else { panic!("no events") };
    assert_eq!((handled.kind, handled.cause.vat), (EventKind::React, Some(here.id())));
    assert_eq!(handled.cause, as_cause(&here, listened));
    assert!(listened.time < handled.time && settled.time < handled.time);

    let [here, _] = listener_and_settler();
    run(&here, |turn| Ok(drop(turn.churn().outcome((), &promise).unwrap()))).unwrap();
    assert!(settled.time < last(&here).time);
}

#[test]
fn every_cause_is_found_in_the_log_of_its_vat_and_is_earlier() {
    // VAT-20: whatever many vats send to each other at once.
    const HOPS: i64 = 6;
    let runtime = runtime();
    let vats: Vec<ToyVat> =
        (0..4).map(|number| logged(&runtime, &format!("vat {number}"), 100_000)).collect();
    let actors: Arc<Mutex<Vec<Actor>>> = Arc::default();
    let pending: Arc<Mutex<Vec<Promise>>> = Arc::default();
    // Sends two messages further for each it gets, settles with what comes of one, and looks at what others
    // have caused; some of it fails.
    let hopper = {
        let (actors, pending) = (actors.clone(), pending.clone());
        behavior(move |turn, message| {
            let hops = int(&message.value);
            let next = |by: i64| actors.lock().unwrap()[((hops + by) % 4) as usize].clone();
            if hops == 0 {
                return Ok(Reply::Value(Value::Int(0)));
            }
            let [answer, other] = [1, 3].map(|by| turn.send(&next(by), "", Value::Int(hops - 1)));
            let refused = turn.send(&answer, "to no actor", Value::Unit);
            let heard = turn.on(&other, move |_, result| if hops % 3 == 0 { raised("no") } else { result });
            let mut pending = pending.lock().unwrap();
            if let Some(promise) = pending.get(pending.len() / 2) {
                turn.churn().outcome((), promise);
                let heard = turn.on(promise, |_, result| result);
                pending.push(heard);
            }
            pending.extend([answer.clone(), other, refused, heard]);
            Ok(Reply::Value(Value::Promise(answer)))
        })
    };
    *actors.lock().unwrap() = vats.iter().map(|vat| spawn(vat, hopper.clone()).unwrap()).collect();
    let actors = actors.lock().unwrap().clone();
    std::thread::scope(|scope| {
        for actor in &actors {
            scope.spawn(|| (0..5).for_each(|_| drop(result(&send(actor, "", Value::Int(HOPS))))));
        }
    });
    // Each turn has a promise, and has noted those of what it caused before that one settles.
    let next = || pending.lock().unwrap().pop();
    while let Some(promise) = next() {
        let _ = result(&promise);
    }

    let logs: HashMap<_, _> = vats.iter().map(|vat| (vat.id(), events(vat))).collect();
    let mut caused = 0;
    for events in logs.values() {
        assert!(events.windows(2).all(|pair| pair[0].time < pair[1].time));
        for event in events {
            let Some(vat) = event.cause.vat else { continue };
            assert!(event.cause.time < event.time, "{event:?}");
            let found = logs[&vat].binary_search_by_key(&event.cause.time, |cause| cause.time);
            assert!(found.is_ok(), "nothing happened in {vat} then: {event:?}");
            caused += 1;
        }
    }
    assert!(caused > 1000, "{caused}");
}

#[test]
fn a_long_churn_enters_its_events_in_groups_and_leaves_none_behind() {
    let vat = logged(&runtime(), "groups", 512);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, noted) = (vat.clone(), seen.clone());
    // What others see of the log in the middle of a turn, and what there is for one who looks from within.
    let watcher = behavior(move |turn, _| {
        let before = log.log().span().end;
        turn.churn().enter_events();
        noted.lock().unwrap().push((before, log.log().span().end));
        Ok(Reply::Value(Value::Unit))
    });
    let idler = spawn(&vat, behavior(|_, _| Ok(Reply::Value(Value::Unit)))).unwrap();
    let watcher = spawn(&vat, watcher).unwrap();
    run(&vat, |turn| {
        for number in 0..300 {
            turn.tell(if number < 10 || number % 7 == 0 { &watcher } else { &idler }, "", Value::Unit);
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(vat.log().span(), 0..303);
    let turns: Vec<u64> = (0..300).filter(|number| *number < 10 || number % 7 == 0).collect();
    for (number, (before, within)) in turns.into_iter().zip(seen.lock().unwrap().iter()) {
        let made = number + 3;
        assert_eq!(*within, made);
        assert!(*before <= made && before + 16 > made, "{before} of {made}");
        assert!(number >= 10 || *before == made, "the first are entered one by one: {before} of {made}");
    }
    let events = vat.log().events((), 0..303);
    assert!(events.windows(2).all(|pair| pair[0].time < pair[1].time && pair[0].began <= pair[1].began));
    assert!(events.iter().all(|event| event.duration.is_some()), "all times are known at rest");
}

#[test]
fn a_log_that_is_switched_or_cleared_in_a_long_churn_keeps_no_event_of_before() {
    for clear in [false, true] {
        let vat = logged(&runtime(), if clear { "cleared-within" } else { "switched-within" }, 512);
        let log = vat.clone();
        let switch = behavior(move |_, _| {
            if clear {
                log.log().clear(());
            } else {
                log.log().set_on(false);
                log.log().set_on(true);
            }
            Ok(Reply::Value(Value::Unit))
        });
        let (tally, switch) = (spawn(&vat, counter(0)).unwrap(), spawn(&vat, switch).unwrap());
        run(&vat, |turn| {
            for number in 0..100 {
                turn.tell(&tally, "add", Value::Int(1));
                if number == 52 {
                    turn.tell(&switch, "", Value::Unit);
                }
            }
            Ok(())
        })
        .unwrap();
        let events = vat.log().events((), vat.log().span());
        // Of after the switch there are all, and of before none that the log did not have.
        let is_after = |event: &&Event<Toy>| event.turn.0 > 56;
        assert_eq!(events.iter().filter(is_after).count(), 48);
        assert!(clear || events.iter().any(|event| event.turn.0 < 52));
        for event in events.iter().filter(is_after).filter(|event| slot(&event.actor) == Some(Slot(0))) {
            let moment = Moment { sequence: event.sequence, before: false };
            let then = vat.peek((), moment, |churn| Turn::new(churn).call(&tally, "get", Value::Unit));
            assert_eq!(int(&then.unwrap()), event.turn.0 as i64 - 4, "{event:?}");
        }
    }
}
