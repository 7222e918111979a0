//! Where CPython 3.11 keeps the loop that runs on a thread: in an object that the thread holds.
//!
//! To ask asyncio costs a system call each time, since it looks whether the process was forked; and to tell it of another
//! loop costs an object and a system call. Several messages a round of a loop ask a few times each, so this looks into
//! the object itself, once it is known that it is as expected.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

/// What it is made of.
#[repr(C)]
struct Holder {
    base: ffi::PyObject,
    home: *mut ffi::PyObject,
    process: c_int,
}

/// Its class, once one was found to be as expected.
static CLASS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(null_mut());
/// The process in which that was found, and no forked child.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// What this thread holds, whatever it is; `None` if no loop ever ran here.
fn held(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // SAFETY: the thread is attached. Both the dict and what it gives are borrowed from the thread, and null if there is
    // none.
    unsafe {
        let dict = ffi::PyThreadState_GetDict();
        if dict.is_null() {
            return None;
        }
        let held = ffi::PyDict_GetItemWithError(dict, intern!(py, "__asyncio_running_event_loop__").as_ptr());
        if held.is_null() {
            // Another key of the dict may have been asked whether it is the same.
            ffi::PyErr_Clear();
        }
        Bound::from_borrowed_ptr_or_opt(py, held)
    }
}

/// What it is made of, if it is as expected, and was made in this process.
fn open(held: &Bound<'_, PyAny>) -> Option<*mut Holder> {
    let class = CLASS.load(Ordering::Relaxed);
    if held.get_type_ptr() != class {
        return None;
    }
    let holder = held.as_ptr().cast::<Holder>();
    // SAFETY: it is of the class that is known to be made so, and alive.
    (unsafe { (*holder).process } == PROCESS.load(Ordering::Relaxed)).then_some(holder)
}

/// The loop that runs on this thread, if one does; `None` if that can't be told from here.
pub(super) fn running_loop(py: Python<'_>) -> Option<Option<Bound<'_, PyAny>>> {
    let Some(held) = held(py) else {
        let known = PROCESS.load(Ordering::Relaxed) != 0;
        return known.then_some(None);
    };
    let holder = open(&held)?;
    // SAFETY: as above. It holds a reference to the loop, or to None.
    let home = unsafe { Bound::from_borrowed_ptr(py, (*holder).home) };
    Some((!home.is_none()).then_some(home))
}

/// Looks whether the one of this thread, in which asyncio says that this loop runs, is as expected.
#[cold]
pub(super) fn learn(home: &Bound<'_, PyAny>) {
    let Some(held) = held(home.py()) else { return };
    let class = held.get_type_ptr();
    let holder = held.as_ptr().cast::<Holder>();
    let Ok(process) = c_int::try_from(std::process::id()) else { return };
    // SAFETY: a class is alive as long as an object of it. What is read of the object lies within its size.
    let expected = unsafe {
        (*class).tp_basicsize == size_of::<Holder>() as isize
            && (*class).tp_itemsize == 0
            && std::ffi::CStr::from_ptr((*class).tp_name) == c"_RunningLoopHolder"
            && (*holder).home == home.as_ptr()
            && (*holder).process == process
    };
    if expected {
        CLASS.store(class, Ordering::Relaxed);
        PROCESS.store(process, Ordering::Relaxed);
    }
}

/// In a forked child asyncio itself is asked.
pub(super) fn leave_to_parent() {
    PROCESS.store(0, Ordering::Relaxed);
}

/// A loop that was taken out of what this thread holds it in: asyncio sees none.
pub(super) struct Taken<'py> {
    held: Bound<'py, PyAny>,
    home: Bound<'py, PyAny>,
}

/// Takes the loop out, if it is the one that runs on this thread.
pub(super) fn take<'py>(home: &Bound<'py, PyAny>) -> Option<Taken<'py>> {
    let py = home.py();
    let held = held(py)?;
    let holder = open(&held)?;
    // SAFETY: as above. The reference that it holds to the loop is taken, and one to None put in its place.
    unsafe {
        if (*holder).home != home.as_ptr() {
            return None;
        }
        let home = Bound::from_owned_ptr(py, std::mem::replace(&mut (*holder).home, py.None().into_ptr()));
        Some(Taken { held, home })
    }
}

impl Taken<'_> {
    /// Puts it back; false if the thread holds another one by now: code that ran meanwhile has run a loop.
    pub(super) fn put_back(self) -> bool {
        let py = self.home.py();
        let same = held(py).is_some_and(|held| held.is(&self.held));
        let Some(holder) = open(&self.held).filter(|_| same) else { return false };
        // SAFETY: as above. The reference to None that it holds is taken, and that to the loop given back.
        let none = unsafe {
            let home = std::mem::replace(&mut (*holder).home, self.home.into_ptr());
            Bound::from_owned_ptr(py, home)
        };
        drop(none);
        true
    }
}
