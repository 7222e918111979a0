//! The process's worker pool, and what happens to it at a fork and at exit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use goblins_core::pool::Runtime;
use goblins_core::storage::Storage;
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::errors::{goblins_error, log_unheard};
use crate::host::PyHost;

static RUNTIME: OnceLock<Arc<Runtime<PyHost>>> = OnceLock::new();
static FORKED: AtomicBool = AtomicBool::new(false);
static STORES: Mutex<Vec<Weak<Storage<PyHost>>>> = Mutex::new(Vec::new());

/// The pool that all vats share.
pub(crate) fn runtime() -> &'static Arc<Runtime<PyHost>> {
    RUNTIME.get_or_init(|| Runtime::new(std::thread::available_parallelism().map_or(2, usize::from).min(4)))
}

/// Whether this process was forked from one that used goblins.
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Refuses to work in a forked child: its threads and its hold of the stores stayed in the parent.
pub(crate) fn check() -> PyResult<()> {
    if is_forked() {
        return Err(goblins_error(
            "this process was forked from one that uses goblins; its vats and stores belong to the parent: start \
             workers with the 'spawn' method, or import and open everything in the child only",
        ));
    }
    Ok(())
}

/// Called in a forked child.
#[pyfunction]
pub(crate) fn _after_fork_in_child() {
    if RUNTIME.get().is_some() {
        FORKED.store(true, Ordering::Relaxed);
    }
}

/// Remembers a store, to close it at exit.
pub(crate) fn remember(storage: &Arc<Storage<PyHost>>) {
    let mut stores = STORES.lock();
    stores.retain(|store| store.strong_count() > 0);
    stores.push(Arc::downgrade(storage));
}

/// Called at exit: stops the workers, then closes the stores that are open still.
#[pyfunction]
pub(crate) fn _at_exit(py: Python<'_>) {
    if is_forked() {
        return;
    }
    if let Some(runtime) = RUNTIME.get() {
        runtime.stop(py);
    }
    let stores: Vec<_> = STORES.lock().drain(..).collect();
    for storage in stores.iter().filter_map(Weak::upgrade) {
        if let Err(error) = storage.close(py) {
            log_unheard(py, "a store could not be closed at exit", &error);
        }
    }
}
