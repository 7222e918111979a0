//! What Python programs see: the package and the binding in CPython, beside plain Python.
#![allow(clippy::expect_used, reason = "a bench that can't go on panics")]

use std::cell::LazyCell;

use criterion::{Criterion, Throughput};
use goblins_benches::{python, setup};
use pyo3::prelude::*;

/// Groups, with the benches of each: a name, and the function of binding.py that makes the loop.
const GROUPS: &[(&str, &[(&str, &str)])] = &[
    ("near_call", &[("goblins", "near_call"), ("plain_closure", "plain_call")]),
    (
        "near_call_bcom",
        &[
            ("goblins", "near_call_bcom"),
            ("goblins_with_portrait", "near_call_bcom_portrait"),
            ("plain_closure", "plain_call_successor"),
            ("plain_handle", "plain_call_handle"),
        ],
    ),
    (
        "tell",
        &[
            ("goblins_no_change", "tell_no_change"),
            ("goblins_bcom", "tell_bcom"),
            ("goblins_bcom_logged", "tell_bcom_logged"),
            ("goblins_bcom_from_outside", "tell_outside"),
            ("plain_deque", "plain_queue"),
        ],
    ),
    (
        "send_and_listen",
        &[("goblins_no_change", "send_and_listen_no_change"), ("goblins_bcom", "send_and_listen_bcom")],
    ),
    (
        "outside_call",
        &[
            ("goblins_no_change", "outside_call_no_change"),
            ("goblins_bcom", "outside_call_bcom"),
            ("plain_lock", "plain_call_locked"),
        ],
    ),
    (
        "outside_churn_memory_store",
        &[("with_1_other", "churn_memory_1"), ("with_100000_others", "churn_memory_100000")],
    ),
    (
        "outside_churn_rocks_store_unsynced",
        &[("with_1_other", "churn_rocks_1"), ("with_100000_others", "churn_rocks_100000")],
    ),
    (
        "round_trip",
        &[
            ("goblins_one_at_a_time", "round_trip_one_at_a_time"),
            ("goblins_many_at_once", "round_trip_many_at_once"),
            ("plain_threads", "plain_threads"),
        ],
    ),
];

fn main() {
    let mut criterion = setup::criterion();
    Python::initialize();
    Python::attach(|py| {
        let loops = python::load(py, "binding.py", include_str!("binding.py"))
            .expect("binding.py and the package goblins should be importable");
        for (name, benches) in GROUPS {
            group(&mut criterion, &loops, name, benches);
        }
    });
    criterion.final_summary();
}

fn group(criterion: &mut Criterion, loops: &Bound<'_, PyModule>, name: &str, benches: &[(&str, &str)]) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    for (name, function) in benches {
        // Made only if the bench was asked for.
        let measured = LazyCell::new(|| Loop::make(loops, function));
        group.bench_function(*name, |bencher| {
            let measured = &*measured;
            bencher.iter_custom(|rounds| setup::time(|| measured.run(rounds)));
        });
    }
    group.finish();
}

/// A loop of binding.py, and the context manager that made it.
struct Loop<'py> {
    manager: Bound<'py, PyAny>,
    function: Bound<'py, PyAny>,
}

impl<'py> Loop<'py> {
    fn make(loops: &Bound<'py, PyModule>, name: &str) -> Self {
        let manager = loops.call_method0(name).expect("binding.py should have a function of this name");
        let function = manager.call_method0("__enter__").expect("the loop should be made");
        Self { manager, function }
    }

    fn run(&self, rounds: u64) {
        self.function.call1((rounds,)).expect("the loop should run");
    }
}

impl Drop for Loop<'_> {
    fn drop(&mut self) {
        let none = self.manager.py().None();
        let left = self.manager.call_method1("__exit__", (&none, &none, &none));
        left.expect("what was made for the loop should be closed");
    }
}
