//! `async def` behaviors: each stretch between two awaits is a turn of its own (AWT-01).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use goblins_core::actor::CodeNumber;
use goblins_core::churn::Churn;
use goblins_core::promise::{Outcome, Reaction, Waiter};
use goblins_core::vat::Vat;
use goblins_core::{settle_outside, wait_outside};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString};

use crate::attaching::attached;
use crate::blocks;
use crate::calls::{self, Sent};
use crate::class_actor;
use crate::current;
use crate::errors::{aside, no_turn_error};
use crate::handing_out;
use crate::host::{Handler, PyHost};
use crate::past;
use crate::promise::Promise;
use crate::refs::{Ref, become_told};
use crate::saved;
use crate::sealed;
use crate::selves;

/// A coroutine that waits for a promise.
pub(crate) struct Suspended {
    /// `None` once it has ended.
    coroutine: Option<Py<PyAny>>,
    /// What it is part of; none for a handler or a block.
    called: Option<Called>,
    vat: Arc<Vat<PyHost>>,
}

/// A coroutine that will not go on, to be closed.
pub(crate) struct Closing {
    coroutine: Option<Py<PyAny>>,
    called: Option<Called>,
}

/// An actor that runs a coroutine, the behavior that was called, and which code of the actor that is.
struct Called {
    actor: Py<Ref>,
    behavior: Py<PyAny>,
    code: CodeNumber,
}

/// The call of an actor that gave a coroutine.
pub(crate) struct Call<'a, 'py> {
    pub(crate) actor: &'a Bound<'py, Ref>,
    pub(crate) behavior: &'a Py<PyAny>,
    pub(crate) method: Option<&'a Bound<'py, PyString>>,
}

/// What a coroutine has come to.
enum Step<'py> {
    Waits(Bound<'py, Promise>),
    Returned(Bound<'py, PyAny>),
}

thread_local! {
    /// How many blocks were open when the coroutine that runs was entered.
    static ENTERED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// An error unless an `async def` behavior runs, with no `with vat:` open in it.
pub(crate) fn check_await() -> PyResult<()> {
    match ENTERED.get() {
        Some(open) if open == blocks::open() => Ok(()),
        _ => Err(no_turn_error(
            "await can't be used in a `with vat:` block, which is one turn; it works in an `async def` behavior, \
             and outside of turns. Here, use on(...)",
        )),
    }
}

/// Runs the first stretch of a coroutine, and gives the promise of its result; other values are given back.
pub(crate) fn started<'py>(
    churn: &Rc<Churn<PyHost>>,
    call: Option<Call<'_, 'py>>,
    value: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    // SAFETY: the check looks at the type only.
    if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } == 0 {
        return Ok(value);
    }
    let answer = match &call {
        Some(call) => Promise::answer(py, call.actor.get(), call.method)?,
        None => Promise::pending(py)?,
    };
    let called = call.map(|Call { actor, behavior, .. }| Called {
        actor: actor.clone().unbind(),
        behavior: behavior.clone_ref(py),
        code: actor.get().cell.code(),
    });
    let code = Suspended { coroutine: Some(value.unbind()), called, vat: churn.vat().clone() };
    if let Some(value) = code.go_on(py, churn, None, &answer)? {
        churn.settle(answer.clone_ref(py), Outcome::Fulfilled(value), None);
    }
    Ok(answer.into_bound(py).into_any())
}

impl Suspended {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.coroutine)?;
        self.called.as_ref().map_or(Ok(()), |called| called.traverse(visit))
    }

    /// The actor that runs it.
    pub(crate) fn actor(&self) -> Option<&Py<Ref>> {
        self.called.as_ref().map(|called| &called.actor)
    }

    /// Runs the next stretch with the outcome that was waited for; `None` if the coroutine waits again.
    pub(crate) fn resume(
        self,
        py: Python<'_>,
        churn: &Rc<Churn<PyHost>>,
        outcome: Outcome<PyHost>,
        answer: &Py<Promise>,
    ) -> PyResult<Option<Py<PyAny>>> {
        self.go_on(py, churn, Some(outcome), answer)
    }

    fn go_on(
        mut self,
        py: Python<'_>,
        churn: &Rc<Churn<PyHost>>,
        outcome: Option<Outcome<PyHost>>,
        answer: &Py<Promise>,
    ) -> PyResult<Option<Py<PyAny>>> {
        if let (Some(_), Some(called)) = (&outcome, &self.called)
            && let Some(instance) = class_actor::instance(called.behavior.bind(py))
        {
            saved::touch_all(instance)?;
        }
        let Some(coroutine) = &self.coroutine else { return Ok(None) };
        let before = ENTERED.replace(Some(blocks::open()));
        let mut step = step(coroutine.bind(py), outcome);
        if past::is_any() {
            step = past::judge(py, step);
        }
        ENTERED.set(before);
        if !matches!(step, Ok(Step::Waits(_))) {
            drop(self.coroutine.take());
        }
        let value = match step.map_err(|error| handing_out::error_handed_out(py, error))? {
            Step::Waits(promise) => {
                watch_collections(py)?;
                churn.suspend(promise.unbind(), self, answer.clone_ref(py));
                return Ok(None);
            }
            Step::Returned(value) => value,
        };
        selves::check_answer(&value)?;
        match &self.called {
            Some(Called { actor, behavior, code }) => {
                become_told(churn, actor.bind(py), behavior, Some(*code), value)
            }
            None => Ok(value),
        }
        .and_then(|value| Ok(Some(handing_out::handed_out(value)?.unbind())))
    }
}

impl Called {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.actor)?;
        visit.call(&self.behavior)
    }
}

impl Drop for Suspended {
    /// A coroutine that goes runs its `finally`. That has nothing to do with the turn in which it happens to go.
    fn drop(&mut self) {
        let Some(coroutine) = self.coroutine.take() else { return };
        let closing = Closing { coroutine: Some(coroutine), called: self.called.take() };
        attached(|py| {
            aside(py, |py| {
                if !self.vat.is_closed() && closing.is_suspended(py) {
                    // Without a promise it is closed at once, which is done when it is dropped.
                    drop(closing.close_in_a_turn(py, &self.vat));
                }
            });
        });
    }
}

impl Closing {
    fn is_suspended(&self, py: Python<'_>) -> bool {
        self.coroutine.as_ref().is_some_and(|coroutine| {
            coroutine.bind(py).getattr(intern!(py, "cr_frame")).is_ok_and(|frame| !frame.is_none())
        })
    }

    fn close_in_a_turn(self, py: Python<'_>, vat: &Arc<Vat<PyHost>>) -> PyResult<()> {
        let begun = Promise::pending(py)?;
        let derived = match &self.called {
            Some(called) => Promise::answer(py, called.actor.get(), None)?,
            None => Promise::pending(py)?,
        };
        let fulfilled = Some(Handler::Close(self));
        let reaction = Reaction::Listen { fulfilled, broken: None, derived };
        wait_outside::<PyHost>(py, &begun, Waiter::Vat(vat.clone(), reaction));
        settle_outside::<PyHost>(py, begun, Outcome::Fulfilled(py.None()), false);
        Ok(())
    }

    /// Closes it, in the turn that is open.
    pub(crate) fn run<'py>(mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(called) = &self.called
            && let Some(instance) = class_actor::instance(called.behavior.bind(py))
        {
            saved::touch_all(instance)?;
        }
        let Some(coroutine) = self.coroutine.take() else {
            return Ok(py.None().into_bound(py));
        };
        let before = ENTERED.replace(Some(blocks::open()));
        let close = coroutine.bind(py).getattr(intern!(py, "close"));
        let closed = close.and_then(|close| calls::call_with(&close, ()));
        ENTERED.set(before);
        closed
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.coroutine)?;
        self.called.as_ref().map_or(Ok(()), |called| called.traverse(visit))
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(coroutine) = self.coroutine.take() {
            attached(|py| aside(py, |_| current::hidden(|| drop(coroutine))));
        }
    }
}

/// Has the collector of garbage say when it works: it closes the coroutines that it finds, in the midst of any turn.
fn watch_collections(py: Python<'_>) -> PyResult<()> {
    static WATCHED: PyOnceLock<()> = PyOnceLock::new();
    if WATCHED.get(py).is_some() {
        return Ok(());
    }
    // To import may run any code, also this.
    let told = py.import("goblins._goblins")?.getattr("_collecting")?;
    let callbacks = py.import("gc")?.getattr("callbacks")?.cast_into::<PyList>()?;
    WATCHED.get_or_try_init(py, || callbacks.append(told)).copied()
}

fn step<'py>(coroutine: &Bound<'py, PyAny>, outcome: Option<Outcome<PyHost>>) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let mut step = match outcome {
        None => calls::send_into(coroutine, &py.None().into_bound(py)),
        Some(Outcome::Fulfilled(value)) => calls::send_into(coroutine, &sealed::opened(py, value)?),
        Some(Outcome::Broken(error)) => throw(coroutine, error.into()),
    };
    loop {
        let yielded = match step? {
            Sent::Returned(value) => return Ok(Step::Returned(value)),
            Sent::Yielded(value) => value,
        };
        match yielded.cast_into_exact::<Promise>() {
            Ok(promise) => return Ok(Step::Waits(promise)),
            Err(error) => {
                let other = crate::behavior::type_name(&error.into_inner());
                let error = PyTypeError::new_err(format!(
                    "a behavior can await promises only, not {other}: for what asyncio runs use \
                     goblins.from_awaitable(...), for blocking work goblins.to_thread(...)"
                ));
                step = throw(coroutine, error);
            }
        }
    }
}

/// Raises an error where a coroutine waits.
fn throw<'py>(coroutine: &Bound<'py, PyAny>, error: PyErr) -> PyResult<Sent<'py>> {
    let py = coroutine.py();
    if coroutine.getattr(intern!(py, "cr_frame"))?.is_none() {
        // The collector has closed it, since nothing could settle the promise any more.
        return Err(error);
    }
    let throw = coroutine.getattr(intern!(py, "throw"))?;
    match calls::call_with(&throw, (error.into_value(py),)) {
        Ok(yielded) => Ok(Sent::Yielded(yielded)),
        Err(error) => calls::returned(py, error),
    }
}
