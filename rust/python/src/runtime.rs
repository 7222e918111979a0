//! The process's worker pool, and what happens to it at a fork and at exit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use goblins_core::error::KernelError;
use goblins_core::fork::{self, is_forked};
use goblins_core::pool::Runtime;
use goblins_core::storage::Storage;
use parking_lot::Mutex;
use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::errors::{kernel_error, log_unheard};
use crate::host::PyHost;
use crate::stack;

static RUNTIME: OnceLock<Arc<Runtime<PyHost>>> = OnceLock::new();
/// Whether there is anything that a forked child must not use.
static USED: AtomicBool = AtomicBool::new(false);
static ROCKSDB: AtomicBool = AtomicBool::new(false);
static STORES: Mutex<Vec<Weak<Storage<PyHost>>>> = Mutex::new(Vec::new());

/// How long turns that run at exit may take to end. One that takes longer is cut off, as by `kill -9`.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// The pool that all vats share.
pub(crate) fn runtime() -> &'static Arc<Runtime<PyHost>> {
    if let Some(runtime) = RUNTIME.get() {
        return runtime;
    }
    // Before the first vat is made: what asks Python for something must not wait in the initialization.
    let stack_size = stack::size_of_workers();
    RUNTIME.get_or_init(|| {
        USED.store(true, Ordering::Relaxed);
        let workers = std::thread::available_parallelism().map_or(2, usize::from).min(4);
        Runtime::with_stack(workers, stack_size)
    })
}

/// Refuses to work in a forked child: its threads and its hold of the stores stayed in the parent.
pub(crate) fn check() -> PyResult<()> {
    if is_forked() {
        return Err(kernel_error(&KernelError::Forked));
    }
    Ok(())
}

/// Refuses to work in a forked child.
#[pyfunction]
pub(crate) fn _check_process() -> PyResult<()> {
    check()
}

/// The workers belong to the main interpreter, and what they run must too.
pub(crate) fn refuse_subinterpreter(_py: Python<'_>) -> PyResult<()> {
    // SAFETY: the thread is attached, so it has an interpreter.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if id == 0 {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "goblins works in the main interpreter of a process only, not in a subinterpreter: use threads or processes",
    ))
}

/// Sees to it that a forked child is told, whatever forks: before any Python code runs there.
#[cfg(unix)]
pub(crate) fn watch_forks() {
    use std::ffi::c_int;
    type Handler = Option<unsafe extern "C" fn()>;
    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }
    unsafe extern "C" fn prepare() {
        #[cfg(not(Py_3_12))]
        crate::attaching::before_fork();
    }
    unsafe extern "C" fn parent() {
        #[cfg(not(Py_3_12))]
        crate::attaching::leave_after_fork();
    }
    unsafe extern "C" fn child() {
        #[cfg(not(Py_3_12))]
        crate::attaching::leave_after_fork();
        after_fork_in_child();
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handlers live as long as the process, since extensions are never unloaded. Without room for it,
        // a child is not told.
        let _ = unsafe { pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

#[cfg(not(unix))]
pub(crate) fn watch_forks() {}

/// Called in a forked child, on its only thread.
#[cfg(unix)]
fn after_fork_in_child() {
    crate::asyncio::leave_to_parent();
    if !USED.load(Ordering::Relaxed) {
        return;
    }
    fork::mark();
    // The turn that the thread was in is the parent's, and so are its blocks.
    crate::current::leave_to_parent();
    crate::blocks::leave_to_parent();
    if ROCKSDB.load(Ordering::Relaxed) {
        goblins_store_rocksdb::leave_locks_to_parent();
        skip_exit_handlers();
    }
}

/// Notes that RocksDB runs threads in this process.
pub(crate) fn rocksdb_runs() {
    USED.store(true, Ordering::Relaxed);
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
    USED.store(true, Ordering::Relaxed);
    let mut stores = STORES.lock();
    stores.retain(|store| store.strong_count() > 0);
    stores.push(Arc::downgrade(storage));
}

/// The stores that are open.
pub(crate) fn open_stores() -> Vec<Arc<Storage<PyHost>>> {
    STORES.lock().iter().filter_map(Weak::upgrade).filter(|store| store.is_held()).collect()
}

/// Called at exit: stops the workers, then closes the stores that are open still.
#[pyfunction]
pub(crate) fn _at_exit(py: Python<'_>) {
    if is_forked() {
        return;
    }
    crate::blocks::leave_at_exit(py);
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
