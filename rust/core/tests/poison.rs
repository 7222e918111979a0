//! After a write that failed, or of which it isn't known whether it succeeded, the vats of the store stop and
//! say so (G9): the churn is taken back as a whole, and what is found on opening again is true.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;

use common::{
    PATIENCE, Reins, ToyVat, add, found, get, occupy, open, puppet, reopen, run, runtime, slots, vat,
};
use goblins_core::actor::Life;
use goblins_core::error::KernelError;
use goblins_core::faulty::FaultyStore;
use goblins_core::host::Host;
use goblins_core::memory::MemoryStore;
use goblins_core::storage::Storage;
use goblins_core::store::{Store, StoreError};
use goblins_core::toy::{
    Actor, Behavior, Fault, Promise, Reply, Toy, Value, behavior, call, cell, counter, fulfil, outcome,
    reports, result, send, spawn, tell, wait,
};

type Faulty = Arc<FaultyStore<MemoryStore>>;

fn faulty(syncing: bool) -> (Faulty, Arc<Storage<Toy>>) {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), syncing));
    (store.clone(), Storage::open(store).unwrap())
}

fn is_poisoned<T>(result: Result<T, Fault>) -> bool {
    matches!(result, Err(Fault::Kernel(KernelError::Poisoned { .. })))
}

/// Whether it is the error of the write itself.
fn is_failed_write<T>(result: Result<T, Fault>) -> bool {
    match result {
        Err(Fault::Kernel(KernelError::Store(error))) => {
            matches!(&*error, StoreError::Failed { doing: "writing", .. })
        }
        _ => false,
    }
}

/// What the actor does, as it stands in memory; `None` if it is a ghost or gone.
fn now(actor: &Actor) -> Option<Behavior> {
    match Toy::actor_cell(actor).state().life() {
        Life::Live(behavior) => Some(behavior.clone()),
        Life::Ghost | Life::Gone => None,
    }
}

/// One call of two counters, the second by twice as much.
fn pay(vat: &ToyVat, [first, second]: &[Actor; 2]) -> Result<(), Fault> {
    run(vat, |turn| {
        turn.call(first, "add", Value::Int(1))?;
        turn.tell(second, "add", Value::Int(2));
        Ok(())
    })
}

/// The numbers of the two counters, in what the store holds.
fn paid(store: impl Store) -> (i64, i64) {
    let (_vat, [first, second]) = reopen::<2>(&runtime(), &Storage::open(store).unwrap(), "main");
    (get(&first), get(&second))
}

#[test]
fn a_churn_whose_write_fails_is_taken_back_as_a_whole() {
    let (store, storage) = faulty(true);
    let roots = [counter(0), cell(Value::Unit), counter(0)];
    let (founded, _) = found(&runtime(), &storage, "main", roots);
    founded.close(()).unwrap();
    let (vat, [tally, keeper, sleeper]) = reopen::<3>(&runtime(), &storage, "main");
    let notes = spawn(&vat, puppet(0)).unwrap();
    assert_eq!(get(&tally), 0);
    call(&keeper, "get", Value::Unit).unwrap();
    let awake = [&tally, &keeper, &notes];
    let before = awake.map(|actor| now(actor).unwrap());

    let (promise, spawned) = (Promise::default(), std::sync::Mutex::new(None));
    store.fail_write_after(0);
    let written = run(&vat, |turn| {
        turn.call(&tally, "add", Value::Int(1))?;
        turn.call(&notes, "set", Value::Int(5))?;
        turn.call(&sleeper, "add", Value::Int(1))?;
        let kept = turn.spawn(counter(1));
        *spawned.lock().unwrap() = Some(kept.clone());
        turn.call(&keeper, "set", Value::Actor(kept))?;
        turn.tell(&tally, "add", Value::Int(10));
        turn.tell(&notes, "set", Value::Int(6));
        turn.fulfil(&promise, Value::Int(1));
        Ok(())
    });
    assert!(is_failed_write(written));
    for (actor, before) in awake.into_iter().zip(before) {
        assert!(Toy::same_behavior(&now(actor).unwrap(), &before), "{actor:?}");
    }
    assert!(now(&sleeper).is_none(), "a ghost again");
    let spawned = spawned.into_inner().unwrap().unwrap();
    assert!(now(&spawned).is_none() && !Toy::actor_cell(&spawned).is_stored());
    assert!(is_poisoned(outcome(&promise).unwrap()), "nobody has seen what it was settled with");
}

#[test]
fn a_call_that_has_sent_and_settled_nothing_is_taken_back_too() {
    let (store, storage) = faulty(true);
    let (_vat, [tally]) = found(&runtime(), &storage, "main", [counter(0)]);
    let before = now(&tally).unwrap();
    store.fail_write_after(0);
    assert!(is_failed_write(add(&tally, 1)));
    assert!(Toy::same_behavior(&now(&tally).unwrap(), &before));
}

#[test]
fn after_a_failed_write_everybody_is_told() {
    let runtime = runtime();
    let (store, storage) = faulty(true);
    let (here, [tally]) = found(&runtime, &storage, "told", [counter(0)]);
    let there = vat(&runtime, "told-there");
    let promise = Promise::default();
    let (heard, waiting) = run(&here, |turn| {
        Ok((turn.on(&promise, |_, result| result), turn.send(&promise, "get", Value::Unit)))
    })
    .unwrap();
    store.fail_write_after(0);
    assert!(is_failed_write(add(&tally, 1)));
    let told = |when: &str| {
        assert!(is_poisoned(add(&tally, 1)), "{when}");
        assert!(is_poisoned(call(&tally, "get", Value::Unit)), "{when}");
        assert!(is_poisoned(spawn(&here, counter(0))), "{when}");
        assert!(is_poisoned(run(&here, |_| Ok(()))), "{when}");
        assert!(is_poisoned(here.enter(())), "{when}");
        assert!(is_poisoned(here.drain((), None)), "{when}");
        assert!(is_poisoned(result(&send(&tally, "add", Value::Int(1)))), "{when}");
        let from_vat = run(&there, |turn| Ok(turn.send(&tally, "add", Value::Int(1)))).unwrap();
        assert!(is_poisoned(result(&from_vat)), "{when}");
    };
    told("at once");
    fulfil(&promise, Value::Actor(tally.clone()));
    assert!(is_poisoned(result(&heard)), "a listener");
    assert!(is_poisoned(result(&waiting)), "a message that waited for a promise");
    tell(&tally, "add", Value::Int(1));
    let text = add(&tally, 1).unwrap_err().to_string();
    assert!(text.contains("vat told has stopped") && text.contains("told to fail"), "{text}");
    here.close(()).unwrap();
    told("after closing");
    here.close(()).unwrap();
    let reports = reports(&here);
    assert_eq!(reports.len(), 1, "the tell: {reports:?}");
    store.fail_write_after(u64::MAX);
    assert!(is_poisoned(add(&tally, 1)), "for good");
    assert_eq!(get(&reopen::<1>(&runtime, &Storage::open(store).unwrap(), "told").1[0]), 0);
}

#[test]
fn what_is_queued_when_a_write_fails_is_refused() {
    let runtime = runtime();
    let (store, storage) = faulty(true);
    let (here, [tally]) = found(&runtime, &storage, "queued", [counter(0)]);
    let blocker = spawn(&here, puppet(0)).unwrap();
    let (settled, derived) = (Promise::default(), Promise::default());
    let heard = run(&here, |turn| Ok(turn.on(&settled, |_, result| result))).unwrap();
    let release = occupy(&blocker);
    store.fail_write_after(0);
    let queued: Vec<Promise> = (0..3).map(|_| send(&tally, "add", Value::Int(1))).collect();
    fulfil(&settled, Value::Int(1));
    fulfil(&derived, Value::Promise(queued[2].clone()));
    tell(&tally, "add", Value::Int(1));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| add(&tally, 1))).collect();
        release.send(()).unwrap();
        for caller in callers {
            assert!(is_poisoned(caller.join().unwrap()));
        }
    });
    for promise in queued.iter().chain([&heard, &derived]) {
        assert!(is_poisoned(result(promise)));
    }
    let reports = reports(&here);
    assert_eq!(reports.len(), 2, "the churn that failed, and the tell: {reports:?}");
    assert_eq!(store.writes(), 3, "format, founding, and the slot of the blocker");
}

#[test]
fn what_was_acknowledged_is_found_on_opening_again_and_the_failed_churn_is_not() {
    const CALLS: u64 = 5;
    for syncing in [false, true] {
        for good in 0..CALLS {
            let (store, storage) = faulty(syncing);
            let (vat, counters) = found(&runtime(), &storage, "main", [counter(0), counter(0)]);
            let early = send(&counters[0], "get", Value::Unit);
            assert_eq!(result(&early).unwrap(), Value::Int(0));
            store.fail_write_after(good);
            for call in 0..CALLS {
                let paid = pay(&vat, &counters);
                assert!(if call < good { paid.is_ok() } else { paid.is_err() });
            }
            assert_eq!(outcome(&early).unwrap().unwrap(), Value::Int(0));
            let good = good as i64;
            assert_eq!(paid(store), (good, 2 * good));
        }
    }
}

#[test]
fn a_churn_whose_write_is_unknown_happened_as_a_whole_or_not_at_all() {
    let (store, storage) = faulty(true);
    let (vat, counters) = found(&runtime(), &storage, "main", [counter(0), counter(0)]);
    pay(&vat, &counters).unwrap();
    store.keep_failed_writes();
    store.fail_write_after(0);
    assert!(is_failed_write(pay(&vat, &counters)));
    assert!(is_poisoned(pay(&vat, &counters)));
    assert_eq!(paid(store), (2, 4), "the one that said it failed was kept; the next one was not tried");
}

#[test]
fn a_failed_sync_stops_the_vat_and_what_was_written_may_be_there() {
    for good in 0..3 {
        let (store, storage) = faulty(true);
        let (vat, counters) = found(&runtime(), &storage, "main", [counter(0), counter(0)]);
        store.fail_sync_after(good);
        for _ in 0..good {
            pay(&vat, &counters).unwrap();
        }
        for _ in 0..3 {
            assert!(is_poisoned(pay(&vat, &counters)));
        }
        let good = good as i64;
        assert_eq!(paid(store), (good + 1, 2 * (good + 1)), "the batch whose sync failed, and no later one");
    }
}

#[test]
fn a_failed_sync_is_that_of_all_who_waited_for_it() {
    // Group commit: one sync serves all, in whichever vat of the store they are.
    const CALLERS: usize = 4;
    let (reins, runtime) = (Reins::default(), runtime());
    let (other_reins, storage) = (Reins::default(), reins.storage());
    let vats: Vec<(ToyVat, [Actor; 1])> = (0..CALLERS)
        .map(|number| found(&runtime, &storage, &format!("part {number}"), [counter(0)]))
        .collect();
    let (_idle, [idle]) = found(&runtime, &storage, "idle", [counter(0)]);
    let (_other, [other]) = found(&runtime, &other_reins.storage(), "main", [counter(0)]);
    let memory = spawn(&vat(&runtime, "memory"), counter(0)).unwrap();
    reins.take_batches();
    let before = reins.syncs.load(SeqCst);
    reins.sync_gate.closed(|scope| {
        let callers: Vec<_> = vats.iter().map(|(_, [tally])| scope.spawn(|| add(tally, 1))).collect();
        let mut written = 0;
        while written < CALLERS {
            written += reins.take_batches().len();
            std::thread::yield_now();
        }
        reins.fail_sync.store(true, SeqCst);
        reins.sync_gate.open();
        for caller in callers {
            assert!(is_poisoned(caller.join().unwrap()));
        }
    });
    assert_eq!(reins.syncs.load(SeqCst) - before, 1, "nobody has tried again");
    assert!(is_poisoned(add(&idle, 1)), "a vat that had nothing to do with it");
    assert!(is_poisoned(call(&idle, "get", Value::Unit)));
    assert_eq!((add(&other, 1).unwrap(), add(&memory, 1).unwrap()), (1, 1), "other stores go on");
}

#[test]
fn a_failed_write_in_one_vat_stops_the_others_of_its_store() {
    let runtime = runtime();
    let (store, storage) = faulty(false);
    let (here, [first]) = found(&runtime, &storage, "here", [counter(0)]);
    let (there, [second]) = found(&runtime, &storage, "there", [counter(0)]);
    let notes = spawn(&there, puppet(0)).unwrap();
    add(&second, 1).unwrap();
    store.fail_write_after(0);
    add(&first, 1).unwrap_err();
    store.fail_write_after(u64::MAX);
    for _ in 0..2 {
        assert!(is_poisoned(add(&second, 1)));
        assert!(is_poisoned(call(&notes, "get", Value::Unit)));
        assert!(is_poisoned(result(&send(&second, "add", Value::Int(1)))));
    }
    let late = open(&runtime, &storage, "late");
    assert!(is_poisoned(late.vat.found((), [7; 16], Vec::new(), |_| Ok(Vec::new()))), "nor a new one");
    here.close(()).unwrap();
    there.close(()).unwrap();
    let storage = Storage::open(store).unwrap();
    assert_eq!(get(&reopen::<1>(&runtime, &storage, "here").1[0]), 0);
    assert_eq!(get(&reopen::<1>(&runtime, &storage, "there").1[0]), 1);
}

#[test]
fn output_that_waited_for_a_sync_that_failed_never_gets_out() {
    // LIM-02
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (here, [tally]) = found(&runtime, &storage, "held", [counter(0)]);
    let memory = vat(&runtime, "held-memory");
    let notes = spawn(&memory, puppet(0)).unwrap();
    let (promise, listening) = (Promise::default(), Promise::default());
    let outside = wait(&promise);
    let heard = run(&memory, |turn| Ok(turn.on(&promise, |_, result| result))).unwrap();
    let returned = reins.sync_gate.closed(|scope| {
        let caller = scope.spawn(|| {
            run(&here, |turn| {
                turn.call(&tally, "add", Value::Int(1))?;
                turn.tell(&notes, "set", Value::Int(1));
                turn.fulfil(&promise, Value::Int(7));
                let answer = turn.send(&notes, "set", Value::Int(2));
                turn.fulfil(&listening, Value::Promise(answer));
                Ok(())
            })
        });
        reins.sync_gate.wait_for_one();
        reins.fail_sync.store(true, SeqCst);
        reins.sync_gate.open();
        caller.join().unwrap()
    });
    assert!(is_poisoned(returned));
    assert!(is_poisoned(outside.recv_timeout(PATIENCE).unwrap().into()));
    assert!(is_poisoned(result(&heard)), "the listener in memory hears of the error only");
    assert!(is_poisoned(result(&listening)));
    memory.drain((), None).unwrap();
    assert_eq!(get(&notes), 0);
    assert_eq!(reports(&memory).len(), 1, "the tell is reported");
}

#[test]
fn a_failure_that_no_caller_waits_for_is_found_by_the_committer() {
    let (store, storage) = faulty(true);
    let (_vat, [tally]) = found(&runtime(), &storage, "main", [counter(0)]);
    store.fail_sync_after(0);
    assert!(is_poisoned(result(&send(&tally, "add", Value::Int(1)))));
    assert!(is_poisoned(add(&tally, 1)));
}

#[test]
fn closing_tells_of_a_failure_that_nobody_was_told_of() {
    let (reins, runtime) = (Reins::default(), runtime());
    let storage = reins.storage();
    let (here, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
    let (sender, handled) = channel();
    let sender = std::sync::Mutex::new(sender);
    let teller = behavior(move |_, _| {
        sender.lock().unwrap().send(()).unwrap();
        Ok(Reply::Value(Value::Unit))
    });
    let teller = spawn(&here, teller).unwrap();
    reins.take_batches();
    reins.fail_sync.store(true, SeqCst);
    tell(&tally, "add", Value::Int(1));
    tell(&teller, "", Value::Unit);
    handled.recv_timeout(PATIENCE).unwrap();
    assert_eq!(reins.take_batches().iter().map(slots).collect::<Vec<_>>(), [[0]], "written, not synced");
    storage.close(()).unwrap_err();
    assert_eq!(reins.closes.load(SeqCst), 1, "it is closed all the same");
    assert!(is_poisoned(add(&tally, 1)));
    storage.close(()).unwrap();
}

#[test]
fn whatever_end_of_the_log_is_lost_no_effect_is_there_without_its_cause() {
    const CALLS: i64 = 20;
    let runtime = runtime();
    let (store, storage) = faulty(true);
    let (_here, [sent]) = found(&runtime, &storage, "here", [counter(0)]);
    let (_there, [received]) = found(&runtime, &storage, "there", [counter(0)]);
    let start = store.writes();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    let here = Toy::actor_cell(&sent).vat();
                    let answer = run(here, |turn| {
                        turn.call(&sent, "add", Value::Int(1))?;
                        Ok(turn.send(&received, "add", Value::Int(1)))
                    });
                    result(&answer.unwrap()).unwrap();
                }
            });
        }
    });
    let batches = store.batches();
    let mut ends = Vec::new();
    for length in start..=batches.len() {
        let left = MemoryStore::new();
        batches[..length].iter().for_each(|batch| left.write(batch).unwrap());
        let storage = Storage::open(left).unwrap();
        let [sent] = reopen::<1>(&runtime, &storage, "here").1;
        let [received] = reopen::<1>(&runtime, &storage, "there").1;
        let (sent, received) = (get(&sent), get(&received));
        assert!(received <= sent, "after {length} batches {received} arrived of {sent}");
        ends.push((sent, received));
    }
    assert_eq!(ends.first(), Some(&(0, 0)));
    assert_eq!(ends.last(), Some(&(2 * CALLS, 2 * CALLS)));
}

#[test]
fn a_panic_while_a_churn_is_written_leaves_no_vat_locked_and_stops_those_of_the_store() {
    // The caller waits for the disk, or not; or a worker writes.
    for (syncing, queued) in [(true, false), (false, false), (true, true), (false, true)] {
        let (store, storage) = faulty(syncing);
        let runtime = runtime();
        let (_vat, [tally]) = found(&runtime, &storage, "main", [counter(0)]);
        let (_beside, [other]) = found(&runtime, &storage, "beside", [counter(0)]);
        call(&tally, "add", Value::Int(1)).unwrap();
        store.panic_at_failed_writes();
        store.fail_write_after(0);
        if queued {
            assert!(is_poisoned(result(&send(&tally, "add", Value::Int(1)))));
        } else {
            let called = std::panic::AssertUnwindSafe(|| call(&tally, "add", Value::Int(1)));
            assert!(std::panic::catch_unwind(called).is_err());
        }
        assert!(is_poisoned(call(&tally, "get", Value::Unit)), "not locked: it says that it has stopped");
        assert!(is_poisoned(result(&send(&tally, "get", Value::Unit))));
        assert!(is_poisoned(call(&other, "get", Value::Unit)), "so do the others of the store");
    }
}
