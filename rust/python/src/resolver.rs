//! Resolvers: the right to settle a promise.

use std::sync::Arc;

use goblins_core::fork::is_forked;
use goblins_core::promise::{Outcome, Progress};
use goblins_core::{settle_outside, update_outside};
use parking_lot::Mutex;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

use crate::attaching::attached;
use crate::current::current;
use crate::errors::{as_exception, aside, broken_promise};
use crate::flatly;
use crate::handing_out;
use crate::host::PyHost;
use crate::promise::Promise;
use crate::runtime::check;

/// Settles its promise as abandoned when it goes, if nobody has settled it.
pub(crate) struct Right {
    promise: Py<Promise>,
}

impl Drop for Right {
    fn drop(&mut self) {
        if is_forked() {
            return;
        }
        {
            let mut state = self.promise.get().cell.state();
            if !matches!(state.progress, Progress::Pending) {
                return;
            }
            // Whoever waits is told. If nobody does, it is no error that was missed.
            state.heard = true;
        }
        attached(|py| {
            let promise = self.promise.clone_ref(py);
            flatly::run(|| {
                Python::try_attach(|py| aside(py, |py| abandon(py, promise, false)));
            });
        });
    }
}

/// `whole`: all who wait are, though the collector may have announced their end.
fn abandon(py: Python<'_>, promise: Py<Promise>, whole: bool) {
    let error = broken_promise("the promise was abandoned: nothing can settle it any more");
    let broken = Outcome::Broken(error.into());
    if whole || !promise.get().was_announced() {
        promise.get().cell.state().heard = true;
        return settle_outside::<PyHost>(py, promise, broken, false);
    }
    promise.get().settle_in_silence(broken);
}

/// Rights that the collector is about to take, of promises for which somebody waits. They are kept until it has done its
/// work, with all that they lead to: who waits can be told then, and is whole.
static ANNOUNCED: Mutex<Vec<Py<Resolver>>> = Mutex::new(Vec::new());

/// Has the collector announce the end of resolvers.
pub(crate) fn install(py: Python<'_>) {
    let class = Resolver::type_object_raw(py);
    // SAFETY: the class is ours, has no subclasses, and has no finalizer: PyO3 gives its classes none.
    unsafe { (*class).tp_finalize = Some(announce) }
}

unsafe extern "C" fn announce(object: *mut ffi::PyObject) {
    Python::try_attach(|py| {
        // SAFETY: the collector calls this with a resolver, which is alive.
        let resolver = unsafe { Borrowed::from_ptr(py, object).cast_unchecked::<Resolver>() };
        let right = &resolver.get().right;
        let waited_for =
            right.promise.get().cell.try_state().is_some_and(|state| {
                matches!(state.progress, Progress::Pending) && !state.waiters.is_empty()
            });
        // A turn that has used it has it still.
        if waited_for && Arc::strong_count(right) == 1 {
            ANNOUNCED.lock().push(resolver.to_owned().unbind());
        }
    });
}

/// Called by the collector before and after its work: tells those who wait for what nobody can settle any more.
#[pyfunction]
pub(crate) fn _collected(py: Python<'_>, phase: &str, _info: &Bound<'_, PyAny>) {
    if phase != "stop" {
        return;
    }
    let announced = std::mem::take(&mut *ANNOUNCED.lock());
    for resolver in announced {
        let promise = resolver.get().right.promise.clone_ref(py);
        // Something else that has ended meanwhile may have settled it.
        if matches!(promise.get().cell.state().progress, Progress::Pending) {
            abandon(py, promise, true);
        }
    }
}

/// The right to settle a promise.
#[pyclass(frozen, module = "goblins", name = "Resolver")]
pub(crate) struct Resolver {
    right: Arc<Right>,
}

#[pymethods]
impl Resolver {
    /// Settles the promise with a value; with another promise, it will settle as that one does. Only the
    /// first settlement counts (ASY-10). In a turn it happens if the turn succeeds.
    fn fulfil(&self, value: Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        crate::selves::check_settlement(&value)?;
        self.settle(py, Outcome::Fulfilled(handing_out::handed_out(value)?.unbind()))
    }

    /// Breaks the promise with an exception, or with any other value as the problem (ASY-17).
    fn break_(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let error = handing_out::error_handed_out(py, as_exception(error)?);
        self.settle(py, Outcome::Broken(error.into()))
    }

    /// Tells those who listen with `on(..., partial=...)` of a value before the promise settles (ASY-29).
    fn update(&self, value: Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        crate::selves::check_settlement(&value)?;
        let value = handing_out::handed_out(value)?.unbind();
        let promise = self.right.promise.clone_ref(py);
        match current() {
            Some(churn) if churn.in_turn() => churn.update(promise, value, Some(self.right.clone())),
            _ => {
                check()?;
                update_outside::<PyHost>(py, promise, value);
            }
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<Resolver of {}>", self.right.promise.get().__repr__())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.right.promise)
    }
}

impl Resolver {
    fn settle(&self, py: Python<'_>, outcome: Outcome<PyHost>) -> PyResult<()> {
        let promise = self.right.promise.clone_ref(py);
        match current() {
            Some(churn) if churn.in_turn() => churn.settle(promise, outcome, Some(self.right.clone())),
            _ => {
                check()?;
                settle_outside::<PyHost>(py, promise, outcome, false);
            }
        }
        Ok(())
    }
}

/// Makes a promise and the right to settle it.
#[pyfunction]
pub(crate) fn promise_and_resolver(py: Python<'_>) -> PyResult<(Py<Promise>, Resolver)> {
    check()?;
    let promise = Promise::asked_for(py, false, None)?;
    let resolver = Resolver { right: Arc::new(Right { promise: promise.clone_ref(py) }) };
    Ok((promise, resolver))
}
