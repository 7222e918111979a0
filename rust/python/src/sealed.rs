//! What a promise in the state of an actor was fulfilled with belongs to the state: whoever asks for it gets a copy.
//!
//! In the promise there is then a [`Sealed`] in place of the value. It goes from promise to promise as it is, and is
//! opened where somebody is given the value.

use goblins_core::promise::{Outcome, Progress};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::containers::may_change;
use crate::copies::deep_copy;
use crate::host::PyHost;
use crate::interrupts::again_if_interrupted;
use crate::promise::Promise;
use crate::sharing;

/// A value that can be changed and that nobody else has.
#[pyclass(frozen, module = "goblins", name = "_Sealed")]
pub(crate) struct Sealed(Py<PyAny>);

#[pymethods]
impl Sealed {
    /// It is not cleared: that is done with the promise.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// What a promise was fulfilled with, for one who may do with it what he likes.
pub(crate) fn opened<'py>(py: Python<'py>, value: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let value = value.into_bound(py);
    match value.cast_exact::<Sealed>() {
        Ok(sealed) => deep_copy(sealed.get().0.bind(py)),
        Err(_) => Ok(value),
    }
}

/// What a promise was fulfilled with, for one who only looks.
pub(crate) fn inside<'py>(py: Python<'py>, value: &Py<PyAny>) -> Bound<'py, PyAny> {
    match value.bind(py).cast_exact::<Sealed>() {
        Ok(sealed) => sealed.get().0.bind(py).clone(),
        Err(_) => value.bind(py).clone(),
    }
}

/// A value that nobody else has, as it stands in a promise.
pub(crate) fn seal(value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if !may_change(&value) || (!sharing::is_mutable(&value) && deep_copy(&value)?.is(&value)) {
        return Ok(value.unbind());
    }
    Ok(Py::new(value.py(), Sealed(value.unbind()))?.into_any())
}

/// An outcome as it stands in a promise that an actor holds. What can't be copied can't be stored either, and is left
/// as it is.
pub(crate) fn sealed(py: Python<'_>, outcome: Outcome<PyHost>) -> Outcome<PyHost> {
    match outcome {
        Outcome::Fulfilled(value) => {
            let own = again_if_interrupted(py, || sealed_copy(value.bind(py))).ok().flatten();
            Outcome::Fulfilled(own.unwrap_or(value))
        }
        Outcome::Broken(error) => Outcome::Broken(error.sealed(py)),
    }
}

/// A sealed copy of a value; `None` if it needs none.
fn sealed_copy(value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    if !may_change(value) {
        return Ok(None);
    }
    let copy = deep_copy(value)?;
    if copy.is(value) {
        return Ok(None);
    }
    let copy = sharing::separated(copy)?;
    Ok(Some(Py::new(value.py(), Sealed(copy.unbind()))?.into_any()))
}

/// Seals the outcome of a promise that an actor holds, where it stands: in the promise, or in the one that this waits
/// for.
pub(crate) fn keep(py: Python<'_>, promise: &Py<Promise>, outcome: Outcome<PyHost>) -> Outcome<PyHost> {
    let own = sealed(py, outcome.share(py));
    if is_same(&own, &outcome) {
        return own;
    }
    let mut promise = promise.clone_ref(py);
    loop {
        let next = {
            let mut state = promise.get().cell.state();
            match &mut state.progress {
                Progress::Settled(there, _) if is_same(there, &outcome) => {
                    let before = std::mem::replace(there, own.share(py));
                    drop(state);
                    drop(before);
                    return own;
                }
                Progress::Chained { next, .. } => next.clone_ref(py),
                Progress::Settled(..) | Progress::Pending => return own,
            }
        };
        promise = next;
    }
}

fn is_same(one: &Outcome<PyHost>, other: &Outcome<PyHost>) -> bool {
    match (one, other) {
        (Outcome::Fulfilled(one), Outcome::Fulfilled(other)) => one.is(other),
        (Outcome::Broken(one), Outcome::Broken(other)) => one.is(other),
        _ => false,
    }
}
