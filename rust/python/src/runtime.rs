//! The process's worker pool, and what happens to it at a fork and at exit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use goblins_core::pool::Runtime;
use goblins_core::storage::Storage;
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::errors::{goblins_error, log_unheard};
use crate::host::PyHost;

static RUNTIME: OnceLock<Arc<Runtime<PyHost>>> = OnceLock::new();
static FORKED: AtomicBool = AtomicBool::new(false);
static ROCKSDB: AtomicBool = AtomicBool::new(false);
static STORES: Mutex<Vec<Weak<Storage<PyHost>>>> = Mutex::new(Vec::new());

/// How long turns that run at exit may take to end. One that takes longer is cut off, as by `kill -9`.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

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

/// Refuses to work in a forked child.
#[pyfunction]
pub(crate) fn _check_process() -> PyResult<()> {
    check()
}

/// Called in a forked child.
#[pyfunction]
pub(crate) fn _after_fork_in_child() {
    if RUNTIME.get().is_some() || ROCKSDB.load(Ordering::Relaxed) {
        FORKED.store(true, Ordering::Relaxed);
    }
    if ROCKSDB.load(Ordering::Relaxed) {
        skip_exit_handlers();
    }
}

/// Notes that RocksDB runs threads in this process.
pub(crate) fn rocksdb_runs() {
    ROCKSDB.store(true, Ordering::Relaxed);
}

/// RocksDB joins its threads in an exit handler. In a forked child they don't exist, and that crashes: so the
/// process ends before, with its standard streams flushed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn skip_exit_handlers() {
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;
    unsafe extern "C" {
        fn on_exit(handler: extern "C" fn(c_int, *mut c_void), context: *mut c_void) -> c_int;
        fn fflush(stream: *mut c_void) -> c_int;
        fn _exit(status: c_int) -> !;
    }
    extern "C" fn leave(status: c_int, _context: *mut c_void) {
        // SAFETY: null stands for all open streams, and `_exit` may be called at any time.
        unsafe {
            fflush(null_mut());
            _exit(status)
        }
    }
    // SAFETY: the handler uses no context. Without room for it, the handlers run as they would have.
    let _ = unsafe { on_exit(leave, null_mut()) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn skip_exit_handlers() {}

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
    let deadline = Instant::now() + EXIT_PATIENCE;
    if let Some(runtime) = RUNTIME.get() {
        runtime.stop(py, EXIT_PATIENCE);
    }
    let stores: Vec<_> = STORES.lock().drain(..).collect();
    for storage in stores.iter().filter_map(Weak::upgrade) {
        if let Err(error) = storage.close_before(py, Some(deadline)) {
            log_unheard(py, "a store could not be closed at exit", &error);
        }
    }
}
