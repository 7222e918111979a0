//! Threads that are new to the interpreter come to it, while others may fork the process.
//!
//! CPython 3.11 keeps its list of threads under a lock that a new thread takes without the GIL, and that a forked child takes
//! before it makes it anew: should a thread be new just then, the child waits for ever. So that no process is forked in that
//! moment, threads enter themselves there under a lock that a fork waits for. From 3.12 on the child makes that lock anew first.

use pyo3::Python;

/// Runs `f` attached, on a thread that may be new to the interpreter: one of our own, or one of Python's that has left it.
/// What the interpreter calls is attached already, and needs none of this. `None` if the interpreter is shutting down.
pub(crate) fn attached<R>(f: impl for<'py> FnOnce(Python<'py>) -> R) -> Option<R> {
    #[cfg(all(unix, not(Py_3_12)))]
    let _entry = entry::Entry::of_this_thread();
    Python::try_attach(f)
}

#[cfg(all(unix, not(Py_3_12)))]
pub(crate) use entry::{before_fork, leave_after_fork};

#[cfg(all(unix, not(Py_3_12)))]
mod entry {
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use pyo3::ffi;

    /// Whether a thread is new, or a process is being forked. No mutex: a forked child must be able to give it free, whatever
    /// its parent's threads do with it, and it is held for a moment only.
    static HELD: AtomicBool = AtomicBool::new(false);

    /// With `tracemalloc`, memory for a new thread is had with the GIL only, which who forks holds: so the fork does not wait
    /// for ever.
    const PATIENCE: Duration = Duration::from_millis(100);

    fn try_hold() -> bool {
        HELD.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Called before a fork, on the thread that forks. It may hold the GIL.
    pub(crate) fn before_fork() {
        let until = Instant::now() + PATIENCE;
        while !try_hold() && Instant::now() < until {
            std::thread::yield_now();
        }
    }

    /// Called after a fork, in the parent and in the child.
    pub(crate) fn leave_after_fork() {
        HELD.store(false, Ordering::Release);
    }

    /// A thread that stands in the interpreter's list until this is dropped, and is attached but for where it says so.
    pub(super) struct Entry(NonNull<ffi::PyThreadState>);

    impl Entry {
        /// `None` if the thread stands there already, or the interpreter can't be entered.
        pub(super) fn of_this_thread() -> Option<Self> {
            // SAFETY: both may be called at any time by any thread; the second after the first said yes.
            if unsafe { ffi::Py_IsInitialized() == 0 || !ffi::PyGILState_GetThisThreadState().is_null() } {
                return None;
            }
            while !try_hold() {
                std::thread::yield_now();
            }
            // SAFETY: needs no GIL; the main interpreter lives as long as the process, and all our threads belong to it.
            let state = unsafe { ffi::PyThreadState_New(ffi::PyInterpreterState_Main()) };
            HELD.store(false, Ordering::Release);
            let state = NonNull::new(state)?;
            // SAFETY: the state is this thread's, and is attached nowhere.
            unsafe { ffi::PyEval_RestoreThread(state.as_ptr()) };
            Some(Self(state))
        }
    }

    impl Drop for Entry {
        fn drop(&mut self) {
            // SAFETY: this thread made the state, and is attached by it: whoever detached it meanwhile has attached it again.
            unsafe {
                ffi::PyThreadState_Clear(self.0.as_ptr());
                ffi::PyThreadState_DeleteCurrent();
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::mpsc::{RecvTimeoutError, channel};
        use std::thread;

        use pyo3::Python;

        use super::{Duration, HELD, Ordering, before_fork, leave_after_fork};
        use crate::attaching::attached;

        #[test]
        fn a_thread_that_is_new_waits_for_the_fork_and_the_fork_does_not_wait_for_ever() {
            Python::initialize();
            before_fork();
            assert!(HELD.load(Ordering::Relaxed));
            let (send, came) = channel();
            let new = thread::spawn(move || send.send(attached(|_| ())).ok());
            assert_eq!(came.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
            // As if the thread that holds it never gave it free.
            before_fork();
            leave_after_fork();
            assert_eq!(came.recv_timeout(Duration::from_secs(60)), Ok(Some(())));
            assert!(new.join().is_ok());
            assert!(!HELD.load(Ordering::Relaxed));
        }
    }
}
