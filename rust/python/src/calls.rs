//! Calls into the user's Python.

use std::ptr::null_mut;

use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

// As in PyO3, but these may unwind: see `Hang`.
#[allow(clashing_extern_declarations)]
unsafe extern "C-unwind" {
    fn PyObject_Call(function: *mut PyObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject;
}

/// Stops a thread for good, should it be unwound.
///
/// CPython before 3.14 ends a thread that comes back to an interpreter which is shutting down, by unwinding
/// its stack. Rust must not be unwound by others: such a thread waits instead for the end of the process.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Calls a function that may run any code for any time.
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(null_mut(), |kwargs| kwargs.as_ptr());
    let hang = Hang;
    // SAFETY: the three are alive and borrowed for the call, and the thread is attached.
    let answer = unsafe { PyObject_Call(function.as_ptr(), args.as_ptr(), kwargs) };
    std::mem::forget(hang);
    // SAFETY: the call gives an owned reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), answer) }
}

/// Calls a function with what makes a tuple.
pub(crate) fn call_with<'py>(
    function: &Bound<'py, PyAny>,
    args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error: Into<PyErr>>,
) -> PyResult<Bound<'py, PyAny>> {
    call(function, &args.into_pyobject(function.py()).map_err(Into::into)?, None)
}
