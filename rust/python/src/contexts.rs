//! A context of Python's `contextvars` for turns, apart from those of the tasks that an event loop runs.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::once::once;

/// An own one, made when it is first needed.
pub(crate) struct Context(PyOnceLock<Py<PyAny>>);

impl Default for Context {
    fn default() -> Self {
        Self(PyOnceLock::new())
    }
}

impl Context {
    /// Runs code in it.
    pub(crate) fn run<T>(&self, py: Python<'_>, run: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        let new = || {
            // SAFETY: it gives an owned reference, or null with an exception set.
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }
        };
        let mut context = once(py, &self.0, || Ok(new()?.unbind()))?.bind(py).clone();
        // SAFETY: it is a context.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            // Code that runs here may have begun another loop.
            drop(PyErr::take(py));
            context = new()?;
            // SAFETY: as above.
            if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
                return Err(PyErr::fetch(py));
            }
        }
        let entered = Entered(context);
        let ran = run();
        drop(entered);
        ran
    }
}

/// A context that was entered, and is left when this is dropped.
struct Entered<'py>(Bound<'py, PyAny>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // SAFETY: it was entered on this thread, which is attached. Who has left it already has said so.
        if unsafe { ffi::PyContext_Exit(self.0.as_ptr()) } != 0 {
            drop(PyErr::take(self.0.py()));
        }
    }
}
