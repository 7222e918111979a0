//! Resolvers: the right to settle a promise.

use std::sync::Arc;

use goblins_core::fork::is_forked;
use goblins_core::promise::{Outcome, Progress};
use goblins_core::{settle_outside, update_outside};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::current::current;
use crate::errors::{as_exception, aside, broken_promise};
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
        Python::try_attach(|py| {
            aside(py, |py| {
                let error = broken_promise("the promise was abandoned: nothing can settle it any more");
                if self.promise.get().was_announced() {
                    return self.promise.get().break_in_silence(error.into());
                }
                let (promise, outcome) = (self.promise.clone_ref(py), Outcome::Broken(error.into()));
                settle_outside::<PyHost>(py, promise, outcome, false);
            });
        });
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
