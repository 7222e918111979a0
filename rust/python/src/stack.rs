//! The stack of this thread. A near call takes some of it, and what nests too deep for it is an error, not a crash: the
//! interpreter's own limit counts calls, and can be raised.

use std::cell::Cell;

use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;

/// What is left to those who are called last: code in C that goes some way down by itself.
const REST: usize = 256 << 10;
/// Threads of the pool have at least so much stack, and at most so much.
const LEAST: usize = 1 << 20;
const MOST: usize = 1 << 30;
/// Where the system sets no limit.
const USUAL: usize = 64 << 20;

thread_local! {
    /// How far down calls may begin; unknown before the first.
    static LOWEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// An error if there is too little stack left for one more call.
#[inline]
pub(crate) fn check() -> PyResult<()> {
    let mark = 0_u8;
    let here = std::hint::black_box(&raw const mark).addr();
    if here < LOWEST.get() { look(here) } else { Ok(()) }
}

#[cold]
#[inline(never)]
fn look(here: usize) -> PyResult<()> {
    if LOWEST.get() == usize::MAX {
        LOWEST.set(lowest(here));
    }
    if here >= LOWEST.get() {
        return Ok(());
    }
    Err(PyRecursionError::new_err(
        "calls of actors are nested deeper than the stack of this thread allows: call in a loop, send a message instead, \
         or give threads more stack (threading.stack_size, ulimit -s)",
    ))
}

/// How far down calls may begin on this thread; 0 if that can't be found out.
fn lowest(here: usize) -> usize {
    match bounds() {
        // Code that brings a stack of its own is not known to the system.
        Some((start, size)) if (start..start.saturating_add(size)).contains(&here) => {
            start + REST.min(size / 4)
        }
        _ => 0,
    }
}

/// Where the stack of this thread ends, and how large it is.
#[cfg(target_os = "linux")]
fn bounds() -> Option<(usize, usize)> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut start, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the first call makes the attributes, which the others read and destroy.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let found = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        (found == 0).then_some((start.addr(), size))
    }
}

#[cfg(target_os = "macos")]
fn bounds() -> Option<(usize, usize)> {
    // SAFETY: both may be called by any thread.
    let (top, size) = unsafe {
        let here = libc::pthread_self();
        (libc::pthread_get_stackaddr_np(here).addr(), libc::pthread_get_stacksize_np(here))
    };
    Some((top.checked_sub(size)?, size))
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn bounds() -> Option<(usize, usize)> {
    None
}

/// As much stack as a thread of the pool gets: what the program asked for with `threading.stack_size`, or as much as the
/// main thread has.
pub(crate) fn size_of_workers() -> Option<usize> {
    let asked = Python::try_attach(|py| {
        let size = py.import("threading").and_then(|threading| threading.call_method0("stack_size"));
        size.and_then(|size| size.extract::<usize>()).unwrap_or(0)
    });
    let size = match asked {
        None | Some(0) => limit()?,
        Some(size) => size,
    };
    Some(size.clamp(LEAST, MOST))
}

/// The limit of the system, for the main thread.
#[cfg(unix)]
fn limit() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes the limit, and nothing else.
    if unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) } != 0 {
        return None;
    }
    if limit.rlim_cur == libc::RLIM_INFINITY {
        return Some(USUAL);
    }
    usize::try_from(limit.rlim_cur).ok()
}

#[cfg(not(unix))]
fn limit() -> Option<usize> {
    Some(8 << 20)
}
