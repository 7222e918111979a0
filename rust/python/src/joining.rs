//! One promise of several: all of them, or the first (LIB-12).

use goblins_core::promise::{Outcome, Reaction, Waiter};
use goblins_core::{settle_outside, wait_outside};
use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::current::current;
use crate::handing_out;
use crate::host::{PyHost, Waker};
use crate::promise::Promise;

/// Values that are gathered for the promise of all of them. They may come from several threads at once.
#[pyclass(frozen, module = "goblins", name = "_Values")]
pub(crate) struct Values(Mutex<Gathered>);

struct Gathered {
    values: Vec<Option<Py<PyAny>>>,
    missing: usize,
}

impl Values {
    /// Puts one in its place; gives all of them if it was the last.
    pub(crate) fn put(&self, py: Python<'_>, index: usize, value: Py<PyAny>) -> Option<PyResult<Py<PyAny>>> {
        let values = {
            let mut gathered = self.0.lock();
            *gathered.values.get_mut(index)? = Some(value);
            gathered.missing -= 1;
            if gathered.missing > 0 {
                return None;
            }
            std::mem::take(&mut gathered.values)
        };
        Some(PyList::new(py, values.into_iter().flatten()).map(|list| list.into_any().unbind()))
    }
}

#[pymethods]
impl Values {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock() {
            Some(gathered) => gathered.values.iter().try_for_each(|value| visit.call(value)),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let values = self.0.try_lock().map(|mut gathered| std::mem::take(&mut gathered.values));
        drop(values);
    }
}

/// The promise of all values, in order; the first error breaks it.
#[pyfunction]
pub(crate) fn _all_of(py: Python<'_>, promises: Vec<Bound<'_, PyAny>>) -> PyResult<Py<Promise>> {
    let joined = Promise::asked_for(py, false, None)?;
    let count = promises.len();
    let gathered = Gathered { values: (0..count).map(|_| None).collect(), missing: count };
    let values = Py::new(py, Values(Mutex::new(gathered)))?;
    if count == 0 {
        settle(py, &joined, PyList::empty(py).into_any().unbind());
    }
    for (index, promise) in promises.into_iter().enumerate() {
        match promise.cast_into_exact::<Promise>() {
            Ok(promise) => {
                let (values, joined) = (values.clone_ref(py), joined.clone_ref(py));
                listen(&promise, Waker::All { index, values, joined });
            }
            Err(error) => {
                let value = handing_out::handed_out(error.into_inner())?.unbind();
                if let Some(all) = values.get().put(py, index, value) {
                    settle(py, &joined, all?);
                }
            }
        }
    }
    Ok(joined)
}

/// The promise of what settles first.
#[pyfunction]
pub(crate) fn _race(py: Python<'_>, promises: Vec<Bound<'_, PyAny>>) -> PyResult<Py<Promise>> {
    let first = Promise::asked_for(py, false, None)?;
    for promise in promises {
        match promise.cast_into_exact::<Promise>() {
            Ok(promise) => listen(&promise, Waker::First(first.clone_ref(py))),
            Err(error) => settle(py, &first, handing_out::handed_out(error.into_inner())?.unbind()),
        }
    }
    Ok(first)
}

fn listen(promise: &Bound<'_, Promise>, waker: Waker) {
    match current() {
        Some(churn) if churn.in_turn() => {
            churn.listen(promise.clone().unbind(), Reaction::Settle(waker));
        }
        _ => wait_outside::<PyHost>(promise.py(), promise.as_unbound(), Waiter::Outside(waker)),
    }
}

fn settle(py: Python<'_>, promise: &Py<Promise>, value: Py<PyAny>) {
    let (promise, outcome) = (promise.clone_ref(py), Outcome::Fulfilled(value));
    match current() {
        Some(churn) if churn.in_turn() => churn.settle(promise, outcome, None),
        _ => settle_outside::<PyHost>(py, promise, outcome, false),
    }
}
