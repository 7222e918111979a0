//! `async def` behaviors: each stretch between two awaits is a turn of its own (AWT-01).

use std::cell::Cell;
use std::rc::Rc;

use goblins_core::actor::CodeNumber;
use goblins_core::churn::Churn;
use goblins_core::promise::Outcome;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::calls::{self, Sent};
use crate::class_actor;
use crate::errors::no_turn_error;
use crate::handing_out;
use crate::host::PyHost;
use crate::promise::Promise;
use crate::refs::{Ref, become_told};
use crate::saved;
use crate::selves;
use crate::vat::open_blocks;

/// A coroutine that waits for a promise.
pub(crate) struct Suspended {
    coroutine: Py<PyAny>,
    /// What it is part of; none for a handler or a block.
    called: Option<Called>,
}

/// An actor that runs a coroutine, the behavior that was called, and which code of the actor that is.
struct Called {
    actor: Py<Ref>,
    behavior: Py<PyAny>,
    code: CodeNumber,
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
        Some(blocks) if blocks == open_blocks() => Ok(()),
        _ => Err(no_turn_error(
            "await can't be used in a `with vat:` block, which is one turn; it works in an `async def` behavior, \
             and outside of turns. Here, use on(...)",
        )),
    }
}

/// Runs the first stretch of a coroutine, and gives the promise of its result; other values are given back.
pub(crate) fn started<'py>(
    churn: &Rc<Churn<PyHost>>,
    called: Option<(&Bound<'py, Ref>, &Py<PyAny>, Option<&Bound<'py, PyString>>)>,
    value: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    // SAFETY: the check looks at the type only.
    if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } == 0 {
        return Ok(value);
    }
    let answer = match called {
        Some((actor, _, method)) => Promise::answer(py, actor.get(), method)?,
        None => Promise::pending(py)?,
    };
    let called = called.map(|(actor, behavior, _)| Called {
        actor: actor.clone().unbind(),
        behavior: behavior.clone_ref(py),
        code: actor.get().cell.code(),
    });
    let code = Suspended { coroutine: value.unbind(), called };
    if let Some(value) = code.go_on(py, churn, None, &answer)? {
        churn.settle(answer.clone_ref(py), Outcome::Fulfilled(value), None);
    }
    Ok(answer.into_bound(py).into_any())
}

impl Suspended {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.coroutine)?;
        match &self.called {
            Some(called) => {
                visit.call(&called.actor)?;
                visit.call(&called.behavior)
            }
            None => Ok(()),
        }
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
        self,
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
        let before = ENTERED.replace(Some(open_blocks()));
        let step = step(self.coroutine.bind(py), outcome);
        ENTERED.set(before);
        let value = match step.map_err(|error| handing_out::error_handed_out(py, error))? {
            Step::Waits(promise) => {
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

fn step<'py>(coroutine: &Bound<'py, PyAny>, outcome: Option<Outcome<PyHost>>) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let mut step = match outcome {
        None => calls::send_into(coroutine, &py.None().into_bound(py)),
        Some(Outcome::Fulfilled(value)) => calls::send_into(coroutine, value.bind(py)),
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
