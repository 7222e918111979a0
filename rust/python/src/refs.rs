//! `Ref`: the one object that stands for an actor, and owns its behavior.

use std::rc::Rc;
use std::sync::{Arc, Once};

use goblins_core::actor::{ActorCell, CodeNumber, Life};
use goblins_core::churn::Churn;
use goblins_core::error::KernelError;
use goblins_core::fork::is_forked;
use goblins_core::ids::Slot;
use goblins_core::vat::Vat;
use pyo3::exceptions::PyAttributeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};

use crate::bcom::Become;
use crate::behavior;
use crate::calls::{Args, Callable, Entry};
use crate::class_actor;
use crate::coroutine;
use crate::current::{check_entry, current};
use crate::elsewhere::Elsewhere;
use crate::errors::{behavior_error, far_call, kernel_error, no_turn_error};
use crate::faces::Face;
use crate::flatly;
use crate::handing_out::{self, Way};
use crate::host::PyHost;
use crate::leaf;
use crate::messages::{self, BoundMessage};
use crate::names::{Name, Named};
use crate::portrayed::Portrayed;
use crate::promise::Promise;
use crate::saved;
use crate::selves;
use crate::stack;

/// The capability to send to an actor. There is one `Ref` per actor: compare with `is` or `==`.
#[pyclass(frozen, weakref, module = "goblins", name = "Ref")]
pub(crate) struct Ref {
    pub(crate) cell: ActorCell<PyHost>,
    pub(crate) name: Named,
    entry: Entry,
}

impl Callable for Ref {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn once() -> &'static Once {
        static ONCE: Once = Once::new();
        &ONCE
    }

    fn call<'py>(slf: &Bound<'py, Self>, args: Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        call(slf, None, args)
    }
}

impl Ref {
    pub(crate) fn live(vat: Arc<Vat<PyHost>>, slot: Slot, behavior: Py<PyAny>, name: Name) -> Self {
        Self { cell: ActorCell::live(vat, slot, behavior), name: Named::of(name), entry: Entry::of::<Self>() }
    }

    pub(crate) fn ghost(vat: Arc<Vat<PyHost>>, slot: Slot) -> Self {
        Self { cell: ActorCell::ghost(vat, slot), name: Named::not_yet(), entry: Entry::of::<Self>() }
    }

    /// The actor's name and number in its vat.
    pub(crate) fn title(&self, py: Python<'_>) -> String {
        title(py, self.name.get(py).as_deref(), self.cell.vat(), self.cell.slot())
    }

    /// The actor in a few words, for messages.
    pub(crate) fn describe(&self, py: Python<'_>) -> String {
        describe(py, self.name.get(py).as_deref(), self.cell.vat(), self.cell.slot())
    }
}

/// An actor in a few words.
pub(crate) fn describe(
    py: Python<'_>,
    name: Option<&Bound<'_, PyString>>,
    vat: &Vat<PyHost>,
    slot: Slot,
) -> String {
    format!("{} of vat {}", title(py, name, vat, slot), vat.title())
}

/// An actor's name and number. One without a name has not been used: its store knows more.
fn title(py: Python<'_>, name: Option<&Bound<'_, PyString>>, vat: &Vat<PyHost>, slot: Slot) -> String {
    let name = match name {
        Some(name) => Some(name.to_string_lossy().into_owned()),
        None => py.detach(|| vat.stored_title(slot)),
    };
    format!("{}#{slot}", name.as_deref().unwrap_or("an unused actor"))
}

#[pymethods]
impl Ref {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call(slf, None, Args::Packed(args, kwargs))
    }

    fn __getattribute__<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if is_hidden(name)? {
            return own_attribute(slf.as_any(), name);
        }
        BoundMessage::make(slf.py(), Target::Actor(slf.clone().unbind()), name)
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        _value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Err(messages::no_fields(slf, name))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        Err(messages::no_fields(slf, name))
    }

    fn __copy__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __deepcopy__(slf: &Bound<'_, Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __reduce_ex__(slf: &Bound<'_, Self>, _protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(messages::no_pickle(slf.as_any()))
    }

    /// What it has itself, and the messages that the actor answers to, as far as they are known.
    fn __dir__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let names = slf.get_type().as_any().dir()?.into_any();
        if let Some(face) = Face::of(slf) {
            names.call_method1("extend", (face.names()?,))?;
        }
        Ok(names)
    }

    /// That of the call `ref(...)`.
    #[getter(__signature__)]
    fn signature<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        messages::signature(slf, None)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<Ref {}>", self.describe(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.cell.try_state() {
            Some(state) => match state.life() {
                Life::Live(behavior) => visit.call(behavior),
                Life::Ghost | Life::Gone => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let old = self.cell.try_state().map(|mut state| state.set_life(Life::Gone));
        flatly::drop(old);
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        if self.cell.is_stored() && !is_forked() {
            self.cell.vat().actor_dropped(self.cell.slot());
        }
        if let Life::Live(behavior) = self.cell.take_life() {
            flatly::drop(behavior);
        }
    }
}

/// A synchronous call: in a turn of the same vat a plain call, outside all turns a turn of its own.
pub(crate) fn call<'py>(
    actor: &Bound<'py, Ref>,
    method: Option<&Bound<'py, PyString>>,
    args: Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    match current() {
        Some(churn) if Arc::ptr_eq(churn.vat(), actor.get().cell.vat()) && churn.in_turn() => {
            match handing_out::handed_out_args(actor.py(), args, Way::Within)? {
                None => invoke(&churn, actor, method, args),
                Some((args, kwargs)) => invoke(&churn, actor, method, Args::Packed(&args, kwargs.as_ref())),
            }
        }
        elsewhere => call_from_elsewhere(elsewhere, actor, method, args),
    }
}

/// A call that is not within a turn of the actor's vat. Near calls nest, and this stands apart so that they take little of
/// the stack.
#[inline(never)]
fn call_from_elsewhere<'py>(
    churn: Option<Rc<Churn<PyHost>>>,
    actor: &Bound<'py, Ref>,
    method: Option<&Bound<'py, PyString>>,
    args: Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = actor.py();
    let vat = actor.get().cell.vat();
    match churn {
        Some(churn) if churn.in_turn() => Err(far_call(format!(
            "{} is in another vat than the one whose turn this is ({}): use send(...), and on(...) or await for the answer",
            actor.get().describe(py),
            churn.vat().title()
        ))),
        Some(_) => Err(no_turn_error(format!(
            "{} can't be called from a finalizer that runs between two turns: use send(...) or tell(...)",
            actor.get().describe(py)
        ))),
        None => {
            check_entry(py, vat)?;
            if let Some(elsewhere) = Elsewhere::of(py, vat)? {
                let target = match method {
                    Some(method) => BoundMessage::make(py, Target::Actor(actor.clone().unbind()), method)?,
                    None => actor.clone().into_any(),
                };
                return elsewhere.call(&target, args);
            }
            Ok(vat.call(py, actor.as_unbound(), method.map(Bound::as_unbound), |churn| {
                Ok(invoke(churn, actor, method, args)?)
            })?)
        }
    }
}

/// Gives a message to an actor in the open turn, and makes the change that it asks for.
pub(crate) fn invoke<'py>(
    churn: &Rc<Churn<PyHost>>,
    actor: &Bound<'py, Ref>,
    method: Option<&Bound<'py, PyString>>,
    args: Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    stack::check()?;
    let py = actor.py();
    let behavior = churn.behavior(py, actor.as_unbound())?;
    let answer = behavior::invoke(behavior.bind(py), actor, method, args)
        .map_err(|error| handing_out::error_handed_out(py, error))?;
    if is_simple(&answer) {
        return Ok(answer);
    }
    answered(churn, actor, &behavior, method, answer)
}

/// What becomes of an answer that may be a change, code, or something that can be changed.
#[inline(never)]
fn answered<'py>(
    churn: &Rc<Churn<PyHost>>,
    actor: &Bound<'py, Ref>,
    behavior: &Py<PyAny>,
    method: Option<&Bound<'py, PyString>>,
    answer: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if answer.is_exact_instance_of::<Become>() {
        return become_told(churn, actor, behavior, None, answer);
    }
    selves::check(&answer, "as an answer")?;
    let call = coroutine::Call { actor, behavior, method };
    handing_out::handed_out(coroutine::started(churn, Some(call), answer)?)
}

/// Whether an answer is one of the most frequent ones, which are neither code nor anything that can be changed.
fn is_simple(answer: &Bound<'_, PyAny>) -> bool {
    answer.is_none() || answer.is_exact_instance_of::<PyInt>() || answer.is_exact_instance_of::<PyString>()
}

/// Makes the change that an actor has asked for by returning a token of its `bcom`, and gives the answer that
/// goes with it. `behavior` is the one that was called; `code` is which code of the actor that was, if it may have
/// waited since.
pub(crate) fn become_told<'py>(
    churn: &Rc<Churn<PyHost>>,
    actor: &Bound<'py, Ref>,
    behavior: &Py<PyAny>,
    code: Option<CodeNumber>,
    answer: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let Ok(token) = answer.cast_exact::<Become>() else {
        return Ok(answer);
    };
    let py = actor.py();
    let (token, cell) = (token.get(), &actor.get().cell);
    if token.vat != cell.vat().id() || token.slot != cell.slot() {
        let vat = cell.vat().name().to_owned();
        return Err(kernel_error(&KernelError::ForeignBecome { slot: cell.slot().0, vat }));
    }
    if let Ok(next) = token.behavior.bind(py).cast_exact::<Portrayed>() {
        next.get().follows(behavior.bind(py));
    }
    if let Some(instance) = class_actor::instance(token.behavior.bind(py)) {
        class_actor::check_free(instance, cell.slot(), cell.vat())?;
    }
    change(churn, actor, behavior, code, &token.behavior)?;
    if let Some(instance) = class_actor::instance(token.behavior.bind(py)) {
        class_actor::bind(instance, actor)?;
        saved::note_new(churn, instance, actor)?;
    }
    let value = token.value.bind(py).clone();
    selves::check_answer(&value)?;
    handing_out::handed_out(value)
}

/// Gives an actor another behavior in the open turn. `behavior` is the one that was asked for the change; `code` is as
/// for [`become_told`].
pub(crate) fn change(
    churn: &Rc<Churn<PyHost>>,
    actor: &Bound<'_, Ref>,
    behavior: &Py<PyAny>,
    code: Option<CodeNumber>,
    next: &Py<PyAny>,
) -> PyResult<()> {
    let py = actor.py();
    leaf::show(actor);
    let next = next.clone_ref(py);
    Ok(match code {
        Some(code) => churn.change_late(py, actor.as_unbound(), behavior, code, next),
        None => churn.change(py, actor.as_unbound(), behavior, next),
    }?)
}

/// What a message may be sent to.
pub(crate) enum Target {
    Actor(Py<Ref>),
    Promise(Py<Promise>),
}

/// Whether a name is not for messages: Python itself asks for such names, to find out what an object can do.
pub(crate) fn is_hidden(name: &Bound<'_, PyString>) -> PyResult<bool> {
    match name.to_str() {
        Ok(name) => Ok(name.starts_with('_')),
        Err(_) => Err(PyAttributeError::new_err("the name of a method is text without lone surrogates")),
    }
}

/// An attribute that the object itself has.
pub(crate) fn own_attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    // SAFETY: both are alive; the answer is an owned reference, or null with an exception set.
    let found = unsafe {
        let found = pyo3::ffi::PyObject_GenericGetAttr(object.as_ptr(), name.as_ptr());
        Bound::from_owned_ptr_or_err(py, found)
    };
    found.map_err(|error| {
        if !error.is_instance_of::<PyAttributeError>(py) {
            return error;
        }
        let name = name.to_string_lossy();
        PyAttributeError::new_err(format!("names with an underscore can't be sent to an actor: {name}"))
    })
}

/// The error for something that is neither Ref nor promise nor a method of one (ASY-03).
pub(crate) fn not_a_target(value: &Bound<'_, PyAny>) -> PyErr {
    behavior_error(format!(
        "messages go to a Ref, a promise, or a method of one (ref.method), not to {}",
        crate::behavior::type_name(value)
    ))
}
