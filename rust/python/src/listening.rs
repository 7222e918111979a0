//! Listening to promises: `on`, and the parts of what they will be fulfilled with.

use goblins_core::promise::{Outcome, Reaction, Waiter};
use goblins_core::wait_outside;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::current::{current, current_turn};
use crate::host::{Handler, PyHost, Waker};
use crate::promise::Promise;
use crate::refs::Ref;
use crate::sealed;

/// Calls a handler in a later turn of this vat, once a promise has settled (ASY-19 to ASY-26).
#[pyfunction]
#[pyo3(signature = (promise, fulfilled=None, *, catch=None, finally_=None, partial=None))]
pub(crate) fn on(
    py: Python<'_>,
    promise: Bound<'_, PyAny>,
    fulfilled: Option<Bound<'_, PyAny>>,
    catch: Option<Bound<'_, PyAny>>,
    finally_: Option<Bound<'_, PyAny>>,
    partial: Option<Bound<'_, PyAny>>,
) -> PyResult<Py<Promise>> {
    let churn = current_turn("on(...)")?;
    let fulfilled = callable(fulfilled, "fulfilled")?.map(Handler::Call);
    let broken = callable(catch, "catch")?.map(Handler::Call);
    let finally_ = callable(finally_, "finally_")?.map(Handler::Call);
    let partial = callable(partial, "partial")?;
    let promise = match promise.cast_into_exact::<Promise>() {
        Ok(promise) => promise.unbind(),
        Err(error) => {
            let settled = Promise::pending(py)?;
            churn.settle(settled.clone_ref(py), Outcome::Fulfilled(error.into_inner().unbind()), None);
            settled
        }
    };
    // First, so that the newest update comes before the outcome.
    if let Some(partial) = partial {
        churn.listen(promise.clone_ref(py), Reaction::Partial(partial));
    }
    let derived = Promise::asked_for(py, false, None)?;
    let Some(handler) = finally_ else {
        churn.listen(promise, Reaction::Listen { fulfilled, broken, derived: derived.clone_ref(py) });
        return Ok(derived);
    };
    let handled = if fulfilled.is_none() && broken.is_none() {
        // At once: in between, younger listeners would be told.
        promise
    } else {
        let handled = Promise::asked_for(py, false, None)?;
        churn.listen(promise, Reaction::Listen { fulfilled, broken, derived: handled.clone_ref(py) });
        handled
    };
    churn.listen(handled, Reaction::Finally { handler, derived: derived.clone_ref(py) });
    Ok(derived)
}

fn callable(function: Option<Bound<'_, PyAny>>, name: &str) -> PyResult<Option<Py<PyAny>>> {
    match function {
        Some(function) if !function.is_callable() => Err(PyTypeError::new_err(format!(
            "{name} must be a callable or None, not {}",
            crate::behavior::type_name(&function)
        ))),
        function => Ok(function.map(Bound::unbind)),
    }
}

/// A part of what a promise will be fulfilled with (ASY-37): `promise[key]`.
pub(crate) fn part(promise: &Bound<'_, Promise>, key: Py<PyAny>) -> PyResult<Py<Promise>> {
    let py = promise.py();
    let part = Promise::asked_for(py, false, None)?;
    let derived = part.clone_ref(py);
    match current() {
        Some(churn) if churn.in_turn() => {
            let fulfilled = Some(Handler::Part(key));
            churn.listen(promise.clone().unbind(), Reaction::Listen { fulfilled, broken: None, derived });
        }
        _ => {
            let waker = Waker::Part { key, part: derived };
            wait_outside::<PyHost>(py, promise.as_unbound(), Waiter::Outside(waker));
        }
    }
    Ok(part)
}

/// The part of a value that a promise was fulfilled with.
pub(crate) fn part_of<'py>(
    py: Python<'py>,
    value: &Py<PyAny>,
    key: &Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let value = sealed::opened(py, value.clone_ref(py))?;
    if let Ok(actor) = value.cast_exact::<Ref>() {
        let text = format!(
            "the promise became {}, an actor, which has no parts: send it a message instead",
            actor.get().describe(py)
        );
        return Err(PyTypeError::new_err(text));
    }
    value.get_item(key.bind(py))
}
