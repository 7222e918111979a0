//! What an actor answers to, as far as that can be told without its code: for `dir`, for help, and for messages.

use goblins_core::actor::Life;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use crate::behavior;
use crate::class_actor::{self, ClassInfo};
use crate::environment::Maker;
use crate::methods::Methods;
use crate::refs::Ref;

pub(crate) enum Face<'py> {
    Class(Bound<'py, ClassInfo>),
    Methods(Bound<'py, Methods>),
    Function(Bound<'py, PyAny>),
}

impl<'py> Face<'py> {
    /// That of an actor. One that is not in memory has that of its class, if it is stored, and its vat knows its label.
    pub(crate) fn of(actor: &Bound<'py, Ref>) -> Option<Self> {
        let py = actor.py();
        let cell = &actor.get().cell;
        let behavior = match cell.state().life() {
            Life::Live(behavior) => Some(behavior.clone_ref(py)),
            Life::Ghost => None,
            Life::Gone => return None,
        };
        let Some(behavior) = behavior else {
            let label = py.detach(|| cell.vat().stored_label(cell.slot()))?;
            let env = cell.vat().persistence()?.env();
            return match env.by_label.get(&label)? {
                Maker::Class(class) => ClassInfo::of(class.bind(py)).ok().map(Self::Class),
                Maker::Function(..) => None,
            };
        };
        let code = behavior::code(behavior.bind(py));
        Some(match (class_actor::instance(code), code.cast_exact::<Methods>()) {
            (Some(instance), _) => Self::Class(instance.get().info().bind(py).clone()),
            (None, Ok(methods)) => Self::Methods(methods.clone()),
            (None, Err(_)) => Self::Function(code.clone()),
        })
    }

    /// The names of its methods.
    pub(crate) fn names(&self) -> PyResult<Bound<'py, PyList>> {
        match self {
            Self::Class(info) => {
                let py = info.py();
                let names = info
                    .get()
                    .methods
                    .bind(py)
                    .keys()
                    .iter()
                    .filter(|name| !name.eq("__call__").unwrap_or(false));
                PyList::new(py, names)
            }
            Self::Methods(methods) => methods.get().all_names(methods.py()),
            Self::Function(function) => Ok(PyList::empty(function.py())),
        }
    }

    /// The function behind a method, without its `self`; without a name, that behind `ref(...)`.
    pub(crate) fn find(&self, method: Option<&Bound<'py, PyString>>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match (self, method) {
            (Self::Class(info), method) => {
                let py = info.py();
                let name = method.unwrap_or_else(|| intern!(py, "__call__"));
                let Some(function) = info.get().methods.bind(py).get_item(name)? else {
                    return Ok(None);
                };
                py.import("types")?.getattr("MethodType")?.call1((function, info)).map(Some)
            }
            (Self::Methods(methods), Some(name)) => methods.get().known(name),
            (Self::Function(function), None) => Ok(Some(function.clone())),
            (Self::Methods(_), None) | (Self::Function(_), Some(_)) => Ok(None),
        }
    }
}
