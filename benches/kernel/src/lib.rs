//! How the benches are set up: criterion's settings, and vats of the toy host that live in a store.
//!
//! A bench that can't be set up panics: there is nobody to whom it could report.
#![allow(clippy::expect_used, reason = "see above")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use goblins_core::faulty::FaultyStore;
use goblins_core::memory::MemoryStore;
use goblins_core::pool::Runtime;
use goblins_core::storage::Fit;
use goblins_core::storage::Storage;
use goblins_core::store::{Batch, Store};
use goblins_core::toy::{Actor, Env, Toy, Turn, Value, call, counter, list};
use goblins_core::vat::{Opened, Vat, VatOptions};

/// So many messages go into one churn where a bench is about messages.
pub const AT_ONCE: u64 = 1000;

/// Settings for all benches: short, since ratios within one run are what counts.
pub fn criterion() -> Criterion {
    Criterion::default()
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args()
}

/// The time that `run` takes.
pub fn time<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let done = run();
    let elapsed = start.elapsed();
    drop(done);
    elapsed
}

/// Runs `iterations` rounds, at most [`AT_ONCE`] with each call of `run`.
pub fn in_portions(iterations: u64, mut run: impl FnMut(u64)) {
    let mut left = iterations;
    while left > 0 {
        let portion = left.min(AT_ONCE);
        run(portion);
        left -= portion;
    }
}

/// A vat in a part of a store, with counters that the bench changes, and others that it leaves alone.
pub struct StoredVat {
    /// The vat.
    pub vat: Arc<Vat<Toy>>,
    /// What the bench changes.
    pub counters: Vec<Actor>,
    /// A list of the others: it keeps in memory those that are not ghosts.
    _others: Actor,
}

impl StoredVat {
    /// Makes a vat with so many counters, and so many others, all in memory.
    pub fn found(storage: &Arc<Storage<Toy>>, part: &str, counters: u64, others: u64) -> Self {
        let opened = open(storage, part);
        let made = opened.vat.found((), [7; 16], Vec::new(), |churn| {
            let turn = Turn::new(churn);
            let others = (0..others).map(|_| Value::Actor(turn.spawn(counter(0)))).collect();
            let mut roots = vec![turn.spawn(list(others))];
            roots.extend((0..counters).map(|_| turn.spawn(counter(0))));
            Ok(roots)
        });
        Self::with_roots(opened.vat, made.expect("actors should be made in an empty part of the store"))
    }

    /// Opens a vat that was made before: none of its actors is in memory.
    pub fn reopen(storage: &Arc<Storage<Toy>>, part: &str) -> Self {
        let opened = open(storage, part);
        let record = opened.record.expect("the part of the store should hold a vat");
        let roots = opened.vat.roots((), &record).expect("the roots should be found in the store");
        Self::with_roots(opened.vat, roots)
    }

    fn with_roots(vat: Arc<Vat<Toy>>, mut roots: Vec<Actor>) -> Self {
        let counters = roots.split_off(1);
        Self { vat, counters, _others: roots.remove(0) }
    }

    /// A churn that changes the first counter: a call from outside.
    pub fn change_one(&self) {
        let counter = self.counters.first().expect("there should be a counter");
        call(counter, "add", Value::Int(1)).expect("a counter should add");
    }

    /// A churn that changes all counters.
    pub fn change_all(&self) {
        let changed = self.vat.run((), |churn| {
            let turn = Turn::new(churn);
            self.counters.iter().try_for_each(|counter| turn.call(counter, "add", Value::Int(1)).map(drop))
        });
        changed.expect("counters should add");
    }
}

fn open(storage: &Arc<Storage<Toy>>, part: &str) -> Opened<Toy> {
    let claim = storage.claim(part).expect("the part of the store should be free");
    Vat::open(&Runtime::new(2), VatOptions::default(), claim, Env::default(), |_| Fit::Fits)
        .expect("the vat should open")
}

/// Opens a store for vats.
pub fn storage(store: impl Store) -> Arc<Storage<Toy>> {
    Storage::open(store).expect("the store should open")
}

/// What a churn that changes so many counters writes.
pub fn batch(counters: u64) -> Batch {
    let store = Arc::new(FaultyStore::new(MemoryStore::new(), false));
    StoredVat::found(&storage(store.clone()), "main", counters, 1).change_all();
    store.batches().pop().expect("the churn should have been written")
}
