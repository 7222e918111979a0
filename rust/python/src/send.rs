//! `spawn`, `send` and `tell`.

use std::rc::Rc;

use goblins_core::churn::Churn;
use goblins_core::ids::Slot;
use goblins_core::{Target as KernelTarget, forward_outside, send_outside};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::bcom::Bcom;
use crate::behavior::{constructor_name, is_behavior, not_a_behavior, type_name};
use crate::calls::{self, Args};
use crate::class_actor;
use crate::current::{check_entry, current, current_turn, in_turn};
use crate::errors::{behavior_error, kernel_error};
use crate::handing_out::{self, Way};
use crate::host::{Message, PyHost};
use crate::messages::BoundMessage;
use crate::names::Name;
use crate::portrayed::Portrayed;
use crate::promise::{Promise, Sent};
use crate::refs::{Ref, Target, not_a_target};
use crate::saved;
use crate::stack;
use crate::texts;

/// Makes an actor in the vat whose turn this is (ACT-01).
#[pyfunction]
#[pyo3(signature = (constructor, /, *args, **kwargs))]
pub(crate) fn spawn<'py>(
    constructor: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, Ref>> {
    make(None, constructor, args, kwargs)
}

/// Makes an actor with a debug name of its own (ACT-15).
#[pyfunction]
#[pyo3(signature = (name, constructor, /, *args, **kwargs))]
pub(crate) fn spawn_named<'py>(
    name: Bound<'py, PyString>,
    constructor: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, Ref>> {
    make(Some(name), constructor, args, kwargs)
}

fn make<'py>(
    name: Option<Bound<'py, PyString>>,
    constructor: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, Ref>> {
    let py = constructor.py();
    stack::check()?;
    let churn = current_turn("spawn(...)")?;
    if let Some(name) = &name {
        texts::checked(|| "the name of an actor".to_owned(), name)?;
    }
    if !constructor.is_callable() || constructor.is_exact_instance_of::<Ref>() {
        return Err(behavior_error(format!(
            "spawn needs a constructor (a callable that takes bcom first), not {}",
            type_name(constructor)
        )));
    }
    let copies = handing_out::handed_out_args(py, Args::Packed(args, kwargs), Way::Away)?;
    let (args, kwargs) = match &copies {
        None => (args, kwargs),
        Some((args, kwargs)) => (args, kwargs.as_ref()),
    };
    let (vat, slot) = (churn.vat(), churn.new_slot());
    if let Some(class) = class_actor::class(constructor) {
        return spawn_class(&churn, slot, name, class, args, kwargs);
    }
    if let Some(class) = class_actor::generic_class(constructor) {
        return spawn_class(&churn, slot, name, &class, args, kwargs);
    }
    let bcom = Bcom::make(py, vat.id(), slot)?;
    let mut all = Vec::with_capacity(args.len() + 1);
    all.push(bcom);
    all.extend(args.iter());
    let all = PyTuple::new(py, all)?;
    let made = Args::Packed(&all, kwargs).call(constructor)?;
    let behavior = match made.cast_into_exact::<Ref>() {
        Ok(actor) => return Ok(actor),
        Err(error) => error.into_inner(),
    };
    if let Ok(portrayed) = behavior.cast_exact::<Portrayed>() {
        portrayed.get().made_by(constructor, Some(&all.get_item(0)?));
    }
    if !is_behavior(&behavior) {
        return Err(not_a_behavior(&constructor_name(constructor)?.to_string_lossy(), &behavior));
    }
    let name = match name {
        Some(name) => Name { text: name.unbind(), given: true },
        None => Name { text: constructor_name(constructor)?.unbind(), given: false },
    };
    let instance = class_actor::instance(&behavior).cloned();
    if let Some(instance) = &instance {
        class_actor::check_free(instance, slot, vat)?;
    }
    let actor = calls::make(py, Ref::live(vat.clone(), slot, behavior.unbind(), name))?;
    churn.spawned(py, actor.as_unbound());
    if let Some(instance) = instance {
        class_actor::bind(&instance, &actor)?;
        saved::note_new(&churn, &instance, &actor)?;
    }
    Ok(actor)
}

/// Makes an actor of a class: its `__init__` runs as the actor.
fn spawn_class<'py>(
    churn: &Rc<Churn<PyHost>>,
    slot: Slot,
    name: Option<Bound<'py, PyString>>,
    class: &Bound<'py, PyType>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, Ref>> {
    let py = class.py();
    let instance = class_actor::blank(class)?;
    class_actor::check_free(&instance, slot, churn.vat())?;
    let name = match name {
        Some(name) => Name { text: name.unbind(), given: true },
        None => Name { text: instance.get().info().get().name.clone_ref(py), given: false },
    };
    let behavior = instance.clone().into_any().unbind();
    let actor = calls::make(py, Ref::live(churn.vat().clone(), slot, behavior, name))?;
    churn.spawned(py, actor.as_unbound());
    class_actor::bind(&instance, &actor)?;
    Args::Packed(args, kwargs).call(&instance.as_any().getattr(intern!(py, "__init__"))?)?;
    Ok(actor)
}

/// Sends a message; the promise is that of its answer (ASY-01).
#[pyfunction]
#[pyo3(signature = (target, /, *args, **kwargs))]
pub(crate) fn send(
    target: &Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    kwargs: Option<Bound<'_, PyDict>>,
) -> PyResult<Py<Promise>> {
    let py = target.py();
    let (target, method) = resolve(target)?;
    let resolver = match &target {
        Target::Actor(actor) => {
            let sent = Sent::to(py, actor.get(), method.as_ref().map(|method| method.clone_ref(py)));
            Promise::asked_for(py, !in_turn(), Some(sent))?
        }
        Target::Promise(_) => Promise::asked_for(py, false, None)?,
    };
    let promise = resolver.clone_ref(py);
    dispatch(py, target, method, args, kwargs, Some(resolver))?;
    Ok(promise)
}

/// Sends a message of which nobody wants the answer (ASY-02).
#[pyfunction]
#[pyo3(signature = (target, /, *args, **kwargs))]
pub(crate) fn tell(
    target: &Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    kwargs: Option<Bound<'_, PyDict>>,
) -> PyResult<()> {
    let (goal, method) = resolve(target)?;
    dispatch(target.py(), goal, method, args, kwargs, None)
}

pub(crate) fn resolve(target: &Bound<'_, PyAny>) -> PyResult<(Target, Option<Py<PyString>>)> {
    let py = target.py();
    if let Ok(actor) = target.cast_exact::<Ref>() {
        return Ok((Target::Actor(actor.clone().unbind()), None));
    }
    if let Ok(message) = target.cast_exact::<BoundMessage>() {
        let message = message.get();
        let target = match &message.target {
            Target::Actor(actor) => Target::Actor(actor.clone_ref(py)),
            Target::Promise(promise) => Target::Promise(promise.clone_ref(py)),
        };
        return Ok((target, Some(message.method.clone_ref(py))));
    }
    if let Ok(promise) = target.cast_exact::<Promise>() {
        return Ok((Target::Promise(promise.clone().unbind()), None));
    }
    Err(not_a_target(target))
}

fn dispatch(
    py: Python<'_>,
    target: Target,
    method: Option<Py<PyString>>,
    args: Bound<'_, PyTuple>,
    kwargs: Option<Bound<'_, PyDict>>,
    resolver: Option<Py<Promise>>,
) -> PyResult<()> {
    let (args, kwargs) =
        match handing_out::handed_out_args(py, Args::Packed(&args, kwargs.as_ref()), Way::Away)? {
            None => (args, kwargs),
            Some(copies) => copies,
        };
    let message = Message { method, args: args.unbind(), kwargs: kwargs.map(Bound::unbind) };
    if let Some(churn) = current()
        && churn.in_turn()
    {
        let target = match target {
            Target::Actor(actor) => {
                if !churn.is_near(&actor) {
                    actor.get().cell.vat().check_room().map_err(|full| kernel_error(&full))?;
                }
                KernelTarget::Actor(actor)
            }
            Target::Promise(promise) => KernelTarget::Promise(promise),
        };
        churn.send(target, message, resolver);
        return Ok(());
    }
    crate::runtime::check()?;
    match target {
        Target::Actor(actor) => {
            let vat = actor.get().cell.vat();
            match check_entry(py, vat) {
                Ok(()) => vat.wait_for_room(py)?,
                // Who would make room may need this thread.
                Err(_) => vat.check_room().map_err(|full| kernel_error(&full))?,
            }
            send_outside::<PyHost>(py, actor, message, resolver);
        }
        Target::Promise(promise) => {
            // Without a promise for it, a failure would be silent.
            let resolver = resolver.map_or_else(|| Promise::pending(py), Ok)?;
            forward_outside::<PyHost>(py, &promise, message, resolver);
        }
    }
    Ok(())
}
