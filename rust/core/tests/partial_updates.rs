//! Partial updates (ASY-29): who listens to a promise is told of what comes before its outcome, each update once,
//! in order, and of none after the settlement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::unit_arg)]

mod common;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, Reins, ToyVat, found, get, open, raised, run, runtime, vat};
use goblins_core::toy::{Promise, Turn, Value, counter, fulfil, outcome, reports, result, update};
use proptest::prelude::*;

type Notes = Arc<Mutex<Vec<String>>>;

fn notes(notes: &Notes) -> Vec<String> {
    std::mem::take(&mut notes.lock().unwrap())
}

/// Notes updates, and the outcome.
fn listen(turn: &Turn<'_>, promise: &Promise, notes: &Notes) {
    let heard = notes.clone();
    turn.on_update(promise, move |_, value| {
        heard.lock().unwrap().push(format!("{value:?}"));
        Ok(Value::Unit)
    });
    let heard = notes.clone();
    turn.on(promise, move |_, _| {
        heard.lock().unwrap().push("settled".to_owned());
        Ok(Value::Unit)
    });
}

/// Hands updates to the receiver.
fn receive(vat: &ToyVat, promise: &Promise) -> Receiver<Value> {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    run(vat, |turn| {
        turn.on_update(promise, move |_, value| {
            sender.lock().unwrap().send(value).unwrap();
            Ok(Value::Unit)
        });
        Ok(())
    })
    .unwrap();
    receiver
}

fn soon<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("it never came")
}

/// A wait that must be in vain. If it is too short the test is weaker, never wrong.
fn not_yet<T>(receiver: &Receiver<T>) -> bool {
    receiver.recv_timeout(Duration::from_millis(20)).is_err()
}

#[test]
fn listeners_hear_each_update_in_order_and_none_after_the_settlement() {
    let (vat, heard) = (vat(&runtime(), "in-order"), Notes::default());
    let promise = Promise::default();
    run(&vat, |turn| Ok(listen(turn, &promise, &heard))).unwrap();
    run(&vat, |turn| {
        turn.update(&promise, Value::Int(1));
        turn.update(&promise, Value::Int(2));
        Ok(())
    })
    .unwrap();
    assert_eq!(notes(&heard), ["1", "2"]);
    assert!(outcome(&promise).is_none());
    run(&vat, |turn| {
        turn.update(&promise, Value::Int(3));
        turn.fulfil(&promise, Value::Unit);
        turn.update(&promise, Value::Int(4));
        Ok(())
    })
    .unwrap();
    update(&promise, Value::Int(5));
    vat.drain((), None).unwrap();
    assert_eq!(notes(&heard), ["3", "settled"]);
}

#[test]
fn a_turn_that_fails_updates_nothing() {
    let (vat, heard) = (vat(&runtime(), "failing-turn"), Notes::default());
    let promise = Promise::default();
    run(&vat, |turn| Ok(listen(turn, &promise, &heard))).unwrap();
    let failed = run(&vat, |turn| {
        turn.update(&promise, Value::Int(1));
        raised::<()>("no")
    });
    assert!(failed.is_err());
    assert!(notes(&heard).is_empty());
}

#[test]
fn a_listener_that_fails_is_reported_undone_and_told_of_the_next_update() {
    let (vat, heard) = (vat(&runtime(), "failing-listener"), Notes::default());
    let promise = Promise::default();
    run(&vat, |turn| {
        let heard = heard.clone();
        turn.on_update(&promise, move |turn, value| {
            turn.fulfil(&Promise::default(), Value::Unit);
            heard.lock().unwrap().push(format!("{value:?}"));
            raised("listener")
        });
        Ok(())
    })
    .unwrap();
    update(&promise, Value::Int(1));
    update(&promise, Value::Int(2));
    vat.drain((), None).unwrap();
    assert_eq!(notes(&heard), ["1", "2"]);
    let reports = reports(&vat);
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert!(reports[0].contains("partial updates") && reports[0].contains("listener"), "{reports:?}");
}

#[test]
fn an_update_goes_along_a_chain_of_promises_through_several_vats() {
    let runtime = runtime();
    let (here, there) = (vat(&runtime, "chain-here"), vat(&runtime, "chain-there"));
    let heard = Notes::default();
    let ring: Vec<Promise> = (0..20_000).map(|_| Promise::default()).collect();
    run(&here, |turn| Ok(listen(turn, &ring[0], &heard))).unwrap();
    for (index, pair) in ring.windows(2).enumerate() {
        let next = Value::Promise(pair[1].clone());
        match index {
            5 => run(&here, |turn| Ok(turn.fulfil(&pair[0], next))).unwrap(),
            7 => run(&there, |turn| Ok(turn.fulfil(&pair[0], next))).unwrap(),
            _ => fulfil(&pair[0], next),
        }
    }
    let last = ring.last().unwrap();
    run(&there, |turn| Ok(turn.update(last, Value::Int(1)))).unwrap();
    update(last, Value::Int(2));
    // One that waits for another is not updated by itself.
    update(&ring[0], Value::Int(99));
    fulfil(last, Value::Unit);
    for _ in 0..3 {
        there.drain((), None).unwrap();
        here.drain((), None).unwrap();
    }
    assert_eq!(notes(&heard), ["1", "2", "settled"]);
}

#[test]
fn an_update_reaches_another_vat_when_the_churn_is_over() {
    let runtime = runtime();
    let (here, there) = (vat(&runtime, "over-here"), vat(&runtime, "over-there"));
    let promise = Promise::default();
    let arrived = receive(&there, &promise);
    run(&here, |turn| {
        turn.update(&promise, Value::Int(1));
        let answer = turn.send(&turn.spawn(counter(0)), "get", Value::Unit);
        turn.on(&answer, |_, _| Ok(Value::Unit));
        Ok(())
    })
    .unwrap();
    assert_eq!(soon(&arrived), Value::Int(1));
}

#[test]
fn an_update_is_seen_in_its_store_when_it_is_written_and_elsewhere_when_it_is_durable() {
    // G2
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (here, [tally]) = found(&runtime, &storage, "here", [counter(0)]);
    let of_store = open(&runtime, &storage, "there").vat;
    let in_memory = vat(&runtime, "durable-memory");
    let promise = Promise::default();
    let (at_store, at_memory) = (receive(&of_store, &promise), receive(&in_memory, &promise));
    reins.sync_gate.closed(|scope| {
        scope.spawn(|| {
            run(&here, |turn| {
                turn.update(&promise, Value::Int(1));
                turn.call(&tally, "add", Value::Int(1))
            })
        });
        assert_eq!(soon(&at_store), Value::Int(1));
        reins.sync_gate.wait_for_one();
        assert!(not_yet(&at_memory));
        // Nor does one who comes later.
        let late = receive(&in_memory, &promise);
        assert!(not_yet(&late));
        reins.sync_gate.open();
        assert_eq!((soon(&at_memory), soon(&late)), (Value::Int(1), Value::Int(1)));
    });
}

#[test]
fn an_update_of_a_churn_that_could_not_be_written_is_never_seen() {
    // G9
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (here, [tally]) = found(&runtime, &storage, "here", [counter(0)]);
    let in_memory = vat(&runtime, "lost-memory");
    let promise = Promise::default();
    let arrived = receive(&in_memory, &promise);
    reins.fail_write.store(true, std::sync::atomic::Ordering::SeqCst);
    run(&here, |turn| {
        turn.update(&promise, Value::Int(1));
        turn.call(&tally, "add", Value::Int(1))
    })
    .unwrap_err();
    update(&promise, Value::Int(2));
    assert_eq!(soon(&arrived), Value::Int(2));
    assert!(outcome(&promise).is_none(), "the promise itself goes on");
}

#[test]
fn a_listener_in_a_closed_vat_hears_nothing_more_and_harms_nobody() {
    let runtime = runtime();
    let (gone, here) = (vat(&runtime, "closed-gone"), vat(&runtime, "closed-here"));
    let promise = Promise::default();
    let (deaf, arrived) = (receive(&gone, &promise), receive(&here, &promise));
    gone.close(()).unwrap();
    update(&promise, Value::Int(1));
    assert_eq!(soon(&arrived), Value::Int(1));
    assert!(not_yet(&deaf));
    assert!(reports(&gone).is_empty());
    fulfil(&promise, Value::Int(7));
    assert_eq!(result(&promise).unwrap(), Value::Int(7));
}

#[test]
fn updates_made_in_a_hurry_by_two_threads_are_heard_once_each_and_in_order() {
    let runtime = runtime();
    let vats = [vat(&runtime, "hurry-0"), vat(&runtime, "hurry-1")];
    let makers = [vat(&runtime, "hurry-2"), vat(&runtime, "hurry-3")];
    let promise = Promise::default();
    let heard = vats.each_ref().map(|vat| receive(vat, &promise));
    let tally = common::run(&vats[0], |turn| Ok(turn.spawn(counter(0)))).unwrap();
    std::thread::scope(|scope| {
        for (index, maker) in makers.iter().enumerate() {
            let promise = &promise;
            scope.spawn(move || {
                for number in 0..500 {
                    let value = Value::Int(index as i64 * 1000 + number);
                    run(maker, |turn| Ok(turn.update(promise, value))).unwrap();
                }
            });
        }
    });
    for receiver in heard {
        let all: Vec<i64> = (0..1000).map(|_| common::int(&soon(&receiver))).collect();
        for maker in 0..2 {
            let own: Vec<i64> = all.iter().copied().filter(|value| value / 1000 == maker).collect();
            assert_eq!(own, (0..500).map(|number| maker * 1000 + number).collect::<Vec<_>>());
        }
    }
    assert_eq!(get(&tally), 0);
}

/// What may be done to two promises, the second of which the first may come to wait for.
#[derive(Clone, Debug)]
enum Step {
    Update { promise: usize, place: usize },
    Listen { promise: usize, place: usize },
    Chain { place: usize },
    Settle { promise: usize, place: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (promise, place) = (0..2usize, 0..3usize);
    let step = prop_oneof![
        5 => (promise.clone(), place.clone()).prop_map(|(promise, place)| Step::Update { promise, place }),
        3 => (promise.clone(), 0..2usize).prop_map(|(promise, place)| Step::Listen { promise, place }),
        1 => place.clone().prop_map(|place| Step::Chain { place }),
        1 => (promise, place).prop_map(|(promise, place)| Step::Settle { promise, place }),
    ];
    prop::collection::vec(step, 0..25)
}

/// What a promise is in the model.
#[derive(Default)]
struct Plain {
    newest: Option<usize>,
    settled: bool,
    listeners: Vec<usize>,
}

#[derive(Default)]
struct Model {
    promises: [Plain; 2],
    chained: bool,
    heard: Vec<Vec<String>>,
}

impl Model {
    fn update(&mut self, promise: usize, value: usize) {
        let plain = &mut self.promises[promise];
        if plain.settled {
            return;
        }
        plain.newest = Some(value);
        for listener in &plain.listeners {
            self.heard[*listener].push(value.to_string());
        }
        if promise == 1 && self.chained {
            self.update(0, value);
        }
    }

    fn settle(&mut self, promise: usize) {
        let plain = &mut self.promises[promise];
        if std::mem::replace(&mut plain.settled, true) {
            return;
        }
        for listener in std::mem::take(&mut plain.listeners) {
            self.heard[listener].push("settled".to_owned());
        }
        if promise == 1 && self.chained {
            self.settle(0);
        }
    }

    fn step(&mut self, number: usize, step: &Step) {
        match *step {
            Step::Update { promise: 0, .. } | Step::Settle { promise: 0, .. } if self.chained => {}
            Step::Update { promise, .. } => self.update(promise, number),
            Step::Settle { promise, .. } => self.settle(promise),
            Step::Listen { promise, .. } => {
                let plain = &mut self.promises[promise];
                let mut heard = Vec::new();
                if plain.settled {
                    heard.push("settled".to_owned());
                } else {
                    heard.extend(plain.newest.map(|newest| newest.to_string()));
                    plain.listeners.push(self.heard.len());
                }
                self.heard.push(heard);
            }
            Step::Chain { .. } if self.chained || self.promises[0].settled => {}
            Step::Chain { .. } => {
                self.chained = true;
                if self.promises[1].settled {
                    self.settle(0);
                } else if let Some(newest) = self.promises[1].newest {
                    self.update(0, newest);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is done, from wherever, each listener hears what the model says.
    #[test]
    fn listeners_hear_what_the_model_says(steps in steps()) {
        let runtime = runtime();
        let vats = [vat(&runtime, "model-0"), vat(&runtime, "model-1")];
        let promises = [Promise::default(), Promise::default()];
        let (mut model, mut heard) = (Model::default(), Vec::new());
        for (number, step) in steps.iter().enumerate() {
            model.step(number, step);
            let value = Value::Int(number as i64);
            match *step {
                Step::Update { promise, place: 2 } => update(&promises[promise], value),
                Step::Update { promise, place } => {
                    run(&vats[place], |turn| Ok(turn.update(&promises[promise], value))).unwrap();
                }
                Step::Settle { promise, place: 2 } => fulfil(&promises[promise], value),
                Step::Settle { promise, place } => {
                    run(&vats[place], |turn| Ok(turn.fulfil(&promises[promise], value))).unwrap();
                }
                Step::Listen { promise, place } => {
                    let notes = Notes::default();
                    run(&vats[place], |turn| Ok(listen(turn, &promises[promise], &notes))).unwrap();
                    heard.push(notes);
                }
                Step::Chain { place } => {
                    let next = Value::Promise(promises[1].clone());
                    match place {
                        2 => fulfil(&promises[0], next),
                        place => run(&vats[place], |turn| Ok(turn.fulfil(&promises[0], next))).unwrap(),
                    }
                }
            }
            for vat in vats.iter().chain(&vats) {
                vat.drain((), None).unwrap();
            }
        }
        let heard: Vec<_> = heard.iter().map(notes).collect();
        prop_assert_eq!(heard, model.heard);
    }
}
