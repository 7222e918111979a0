//! `Ref`: the one object that stands for an actor, and owns its behavior.

use std::sync::Arc;

use goblins_core::actor::{ActorCell, Life};
use goblins_core::churn::Churn;
use goblins_core::error::KernelError;
use goblins_core::ids::Slot;
use goblins_core::vat::Vat;
use pyo3::exceptions::PyAttributeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::behavior::{self, Become};
use crate::current::current;
use crate::errors::{behavior_error, far_call, kernel_error, no_turn_error};
use crate::host::PyHost;
use crate::promise::Promise;

/// The capability to send to an actor. There is one `Ref` per actor: compare with `is` or `==`.
#[pyclass(frozen, weakref, module = "goblins", name = "Ref")]
pub(crate) struct Ref {
    pub(crate) cell: ActorCell<PyHost>,
    pub(crate) name: PyOnceLock<Name>,
}

/// An actor's debug name (ACT-15).
pub(crate) struct Name {
    pub(crate) text: Py<PyString>,
    /// Given with `spawn_named`, so it is stored.
    pub(crate) given: bool,
}

impl Ref {
    pub(crate) fn live(
        py: Python<'_>,
        vat: Arc<Vat<PyHost>>,
        slot: Slot,
        behavior: Py<PyAny>,
        name: Name,
    ) -> Self {
        let named = PyOnceLock::new();
        let _ = named.set(py, name);
        Self { cell: ActorCell::live(vat, slot, behavior), name: named }
    }

    pub(crate) fn ghost(vat: Arc<Vat<PyHost>>, slot: Slot) -> Self {
        Self { cell: ActorCell::ghost(vat, slot), name: PyOnceLock::new() }
    }

    /// The actor in a few words, for messages.
    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        let name = match self.name.get(py) {
            Some(name) => Some(name.text.bind(py).to_string_lossy().into_owned()),
            None => py.detach(|| self.cell.vat().stored_title(self.cell.slot())),
        };
        let name = name.as_deref().unwrap_or("an unused actor");
        format!("{name}#{} of vat {}", self.cell.slot(), self.cell.vat().name())
    }
}

#[pymethods]
impl Ref {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call(slf, None, args, kwargs)
    }

    fn __getattr__(slf: &Bound<'_, Self>, name: Bound<'_, PyString>) -> PyResult<BoundMessage> {
        let target = slf.clone().unbind();
        BoundMessage::new(Target::Actor(target), name)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Ref {}>", self.describe(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.cell.try_state() {
            Some(state) => match &state.life {
                Life::Live(behavior) => visit.call(behavior),
                Life::Ghost | Life::Gone => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let old = self.cell.try_state().map(|mut state| std::mem::replace(&mut state.life, Life::Gone));
        drop(old);
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        if self.cell.is_stored() {
            self.cell.vat().actor_dropped(self.cell.slot());
        }
    }
}

/// A synchronous call: in a turn of the same vat a plain call, outside all turns a turn of its own.
pub(crate) fn call<'py>(
    actor: &Bound<'py, Ref>,
    method: Option<&Bound<'py, PyString>>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = actor.py();
    let vat = actor.get().cell.vat();
    match current() {
        Some(churn) if Arc::ptr_eq(churn.vat(), vat) && churn.in_turn() => {
            invoke(&churn, actor, method, args, kwargs)
        }
        Some(churn) if churn.in_turn() => Err(far_call(format!(
            "{} is in another vat than the one whose turn this is ({}): use send(...), and on(...) or await for the answer",
            actor.get().describe(py),
            churn.vat().name()
        ))),
        Some(_) => Err(no_turn_error(format!(
            "{} can't be called from a finalizer that runs between two turns: use send(...) or tell(...)",
            actor.get().describe(py)
        ))),
        None => {
            crate::runtime::check()?;
            vat.run(py, |churn| invoke(churn, actor, method, args, kwargs))
        }
    }
}

/// Gives a message to an actor in the open turn, and makes the change that it asks for.
pub(crate) fn invoke<'py>(
    churn: &std::rc::Rc<Churn<PyHost>>,
    actor: &Bound<'py, Ref>,
    method: Option<&Bound<'py, PyString>>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = actor.py();
    let behavior = churn.behavior(py, actor.as_unbound())?;
    let answer = behavior::invoke(behavior.bind(py), actor, method, args, kwargs)?;
    let Ok(token) = answer.cast_exact::<Become>() else {
        return Ok(answer);
    };
    let (token, cell) = (token.get(), &actor.get().cell);
    if token.vat != cell.vat().id() || token.slot != cell.slot() {
        let vat = cell.vat().name().to_owned();
        return Err(kernel_error(&KernelError::ForeignBecome { slot: cell.slot().0, vat }));
    }
    churn.change(py, actor.as_unbound(), &behavior, token.behavior.clone_ref(py))?;
    Ok(token.value.bind(py).clone())
}

/// What a message may be sent to.
pub(crate) enum Target {
    Actor(Py<Ref>),
    Promise(Py<Promise>),
}

/// `ref.method`: call it, or give it to `send` or `tell`.
#[pyclass(frozen, module = "goblins", name = "BoundMessage")]
pub(crate) struct BoundMessage {
    pub(crate) target: Target,
    pub(crate) method: Py<PyString>,
}

impl BoundMessage {
    pub(crate) fn new(target: Target, method: Bound<'_, PyString>) -> PyResult<Self> {
        // Python itself asks for such names, to find out what an object can do.
        if method.to_str()?.starts_with('_') {
            let text = format!("names with an underscore can't be sent to an actor: {}", method.to_str()?);
            return Err(PyAttributeError::new_err(text));
        }
        Ok(Self { target, method: method.unbind() })
    }
}

#[pymethods]
impl BoundMessage {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match &self.target {
            Target::Actor(actor) => call(actor.bind(py), Some(self.method.bind(py)), args, kwargs),
            Target::Promise(promise) => {
                crate::promise::call(promise.bind(py), Some(self.method.bind(py)), args, kwargs)
            }
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let target = match &self.target {
            Target::Actor(actor) => actor.get().describe(py),
            Target::Promise(promise) => promise.bind(py).repr()?.to_string(),
        };
        Ok(format!("<message {} to {target}>", self.method.bind(py).to_string_lossy()))
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast_exact::<Self>() else {
            return Ok(false);
        };
        let other = other.get();
        let same = match (&self.target, &other.target) {
            (Target::Actor(a), Target::Actor(b)) => a.is(b),
            (Target::Promise(a), Target::Promise(b)) => a.is(b),
            _ => false,
        };
        Ok(same && self.method.bind(py).as_any().eq(other.method.bind(py))?)
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.method.bind(py).hash()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.target {
            Target::Actor(actor) => visit.call(actor),
            Target::Promise(promise) => visit.call(promise),
        }
    }
}

/// The error for something that is neither Ref nor promise nor a method of one (ASY-03).
pub(crate) fn not_a_target(value: &Bound<'_, PyAny>) -> PyErr {
    behavior_error(format!(
        "messages go to a Ref, a promise, or a method of one (ref.method), not to {}",
        crate::behavior::type_name(value)
    ))
}
