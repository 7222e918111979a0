//! The kernel by itself, with a host in Rust: no Python, no disk.
#![allow(clippy::expect_used, reason = "a bench that can't go on panics")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use goblins_core::mailbox::{Entry, Mailbox};
use goblins_core::memory::MemoryStore;
use goblins_core::pool::Runtime;
use goblins_core::toy::{Actor, Fault, Toy, Turn, Value, call, counter, spawn, tell};
use goblins_core::vat::{Vat, VatOptions};
use goblins_kernel_bench::{self as setup, AT_ONCE, StoredVat, in_portions, storage, time};

const ROOM_IN_THE_LOG: usize = 256;

fn main() {
    let mut criterion = setup::criterion();
    near_calls(&mut criterion);
    messages(&mut criterion);
    outside(&mut criterion);
    mailbox(&mut criterion);
    churns(&mut criterion);
    criterion.final_summary();
}

/// A vat in memory with one counter.
fn vat(log_capacity: Option<usize>) -> (Arc<Vat<Toy>>, Actor) {
    let vat = Vat::new(&Runtime::new(2), VatOptions { name: None, log_capacity });
    let actor = spawn(&vat, counter(0)).expect("a counter should be made");
    (vat, actor)
}

/// Runs code as a turn of its own.
fn run<T>(vat: &Arc<Vat<Toy>>, body: impl FnOnce(&Turn<'_>) -> Result<T, Fault>) -> T {
    vat.run((), |churn| body(&Turn::new(churn))).expect("the turn should succeed")
}

/// Calls of an actor within one turn.
fn near_calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernel/near_call");
    for (name, method) in [("no_change", "get"), ("change", "add")] {
        let (vat, actor) = vat(None);
        let loop_ = |iterations: u64| {
            run(&vat, |turn| {
                for _ in 0..iterations {
                    black_box(turn.call(&actor, method, Value::Int(1))?);
                }
                Ok(())
            });
        };
        group.bench_function(name, |bencher| bencher.iter_custom(|n| time(|| loop_(n))));
    }
    group.finish();
}

/// Messages that one turn sends, each a turn of its own.
fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernel/tell");
    group.throughput(Throughput::Elements(1));
    let cases = [
        ("no_change", "get", None),
        ("change", "add", None),
        ("change_logged", "add", Some(ROOM_IN_THE_LOG)),
    ];
    for (name, method, log_capacity) in cases {
        let (vat, actor) = vat(log_capacity);
        group.bench_function(name, |bencher| {
            bencher
                .iter_custom(|n| time(|| in_portions(n, |portion| tell_near(&vat, &actor, method, portion))))
        });
    }
    let (vat, actor) = vat(None);
    group.bench_function("change_from_outside", |bencher| {
        bencher.iter_custom(|n| time(|| in_portions(n, |portion| tell_outside(&vat, &actor, portion))))
    });
    group.finish();

    let mut group = criterion.benchmark_group("kernel/send_and_listen");
    group.throughput(Throughput::Elements(1));
    group.bench_function("no_change", |bencher| {
        bencher.iter_custom(|n| time(|| in_portions(n, |portion| send_and_listen(&vat, &actor, portion))))
    });
    group.finish();
}

fn tell_near(vat: &Arc<Vat<Toy>>, actor: &Actor, method: &'static str, count: u64) {
    run(vat, |turn| {
        (0..count).for_each(|_| turn.tell(actor, method, Value::Int(1)));
        Ok(())
    });
}

fn tell_outside(vat: &Arc<Vat<Toy>>, actor: &Actor, count: u64) {
    (0..count).for_each(|_| tell(actor, "add", Value::Int(1)));
    vat.drain((), None).expect("the vat should come to rest");
}

fn send_and_listen(vat: &Arc<Vat<Toy>>, actor: &Actor, count: u64) {
    run(vat, |turn| {
        for _ in 0..count {
            let answer = turn.send(actor, "get", Value::Unit);
            turn.on(&answer, |_, outcome| outcome);
        }
        Ok(())
    });
}

/// Turns that a thread runs in an idle vat.
fn outside(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernel/outside");
    let (vat, actor) = vat(None);
    group.bench_function("empty_turn", |bencher| bencher.iter(|| run(&vat, |_| Ok(()))));
    for (name, method) in [("call_no_change", "get"), ("call_change", "add")] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| call(&actor, method, Value::Int(1)).expect("a counter should answer"))
        });
    }
    group.bench_function("call_change_then_rolled_back", |bencher| {
        bencher.iter(|| {
            vat.run((), |churn| {
                let turn = Turn::new(churn);
                turn.call(&actor, "add", Value::Int(1))?;
                turn.call(&actor, "fail", Value::Unit)
            })
            .expect_err("the turn should fail")
        });
    });
    group.finish();
}

/// The queue in front of a vat, with nothing behind it.
fn mailbox(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernel/mailbox");
    let mailbox = Mailbox::<u64, ()>::new(());
    group.bench_function("post_enter_take_leave", |bencher| {
        bencher.iter(|| {
            mailbox.post(1).expect("the mailbox should be open");
            assert_eq!(mailbox.try_enter(), Entry::Entered(()));
            let job = mailbox.next_job().map(|(job, _)| job);
            mailbox.leave(());
            job
        });
    });
    group.finish();
}

/// Churns of a vat in a store in memory: portraits, records, and a batch.
fn churns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernel/churn_memory_store");
    for counters in [1, AT_ONCE] {
        let stored = StoredVat::found(&storage(MemoryStore::new()), "main", counters, 1);
        group.throughput(Throughput::Elements(counters));
        group.bench_function(format!("{counters}_changed"), |bencher| bencher.iter(|| stored.change_all()));
    }
    group.finish();
}
