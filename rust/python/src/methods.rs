//! `methods(...)`: a behavior that dispatches on a method name (LIB-05).

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::behavior::{self, type_name};
use crate::current::current;
use crate::errors::no_such_method;
use crate::faces::Face;
use crate::messages::BoundMessage;
use crate::refs::{Ref, Target};

/// A behavior made of named functions.
#[pyclass(frozen, module = "goblins", name = "Methods")]
pub(crate) struct Methods {
    named: Py<PyDict>,
    /// What is asked for a name that is not there.
    extends: Option<Py<PyAny>>,
}

/// Makes a behavior that answers `ref.name(...)` with the function given as `name`, and other names as `extends`
/// does.
#[pyfunction]
#[pyo3(signature = (*, extends=None, **named))]
pub(crate) fn methods(
    py: Python<'_>,
    extends: Option<Bound<'_, PyAny>>,
    named: Option<Bound<'_, PyDict>>,
) -> PyResult<Methods> {
    if let Some(extends) = &extends
        && !(extends.is_exact_instance_of::<Methods>() || extends.is_callable())
    {
        return Err(PyTypeError::new_err(format!(
            "extends is methods(...), an actor or a function, not {}",
            type_name(extends)
        )));
    }
    let named = named.unwrap_or_else(|| PyDict::new(py));
    for (name, function) in &named {
        if !function.is_callable() {
            return Err(PyTypeError::new_err(format!("the method {name} is not callable")));
        }
        if name.cast::<PyString>()?.to_string_lossy().starts_with('_') {
            return Err(PyTypeError::new_err(format!(
                "the method {name} starts with an underscore; such names can't be called from outside"
            )));
        }
    }
    Ok(Methods { named: named.unbind(), extends: extends.map(Bound::unbind) })
}

#[pymethods]
impl Methods {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<methods {}>", self.names(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.named)?;
        visit.call(&self.extends)
    }
}

impl Methods {
    /// The names that exist, for messages.
    pub(crate) fn names(&self, py: Python<'_>) -> String {
        let mut names: Vec<String> = self.named.bind(py).keys().iter().map(|name| name.to_string()).collect();
        if let Some(extends) = &self.extends {
            match own_methods(extends.bind(py)) {
                Some(further) => names.push(further.get().names(py)),
                None => names.push("others".to_owned()),
            }
        }
        names.join(", ")
    }

    /// The names that exist, with those of what it extends, as far as they are known.
    pub(crate) fn all_names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let names = self.named.bind(py).keys();
        let extends = self.extends.as_ref().map(|extends| extends.bind(py));
        let further = match extends.map(|extends| (own_methods(extends), extends.cast_exact::<Ref>())) {
            Some((Some(methods), _)) => Some(methods.get().all_names(py)?),
            Some((None, Ok(actor))) => Face::of(actor).map(|face| face.names()).transpose()?,
            _ => None,
        };
        if let Some(further) = further {
            names.call_method1("extend", (further,))?;
        }
        Ok(names)
    }

    /// The function of this name that it has itself.
    pub(crate) fn own<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.named.bind(name.py()).get_item(name)
    }

    /// The function behind a name, if it is known without a call.
    pub(crate) fn known<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = name.py();
        if let Some(function) = self.named.bind(py).get_item(name)? {
            return Ok(Some(function));
        }
        let extends = self.extends.as_ref().map(|extends| extends.bind(py));
        match extends.map(|extends| (own_methods(extends), extends.cast_exact::<Ref>())) {
            Some((Some(methods), _)) => methods.get().known(name),
            Some((None, Ok(actor))) => match Face::of(actor) {
                Some(face) => face.find(Some(name)),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The function behind a name.
    pub(crate) fn find<'py>(
        &self,
        name: &Bound<'py, PyString>,
        actor: &Bound<'py, Ref>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = name.py();
        match self.look_up(name)? {
            Some(function) => Ok(function),
            None => {
                let (actor, names) = (actor.get().describe(py), self.names(py));
                Err(no_such_method(format!(
                    "{actor} has no method {:?}; it has {names}",
                    name.to_string_lossy()
                )))
            }
        }
    }

    fn look_up<'py>(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = name.py();
        if let Some(function) = self.named.bind(py).get_item(name)? {
            return Ok(Some(function));
        }
        let Some(extends) = self.extends.as_ref().map(|extends| extends.bind(py)) else {
            return Ok(None);
        };
        if let Some(methods) = own_methods(extends) {
            return methods.get().look_up(name);
        }
        let partial = py.import("functools")?.getattr("partial")?;
        if let Ok(actor) = extends.cast_exact::<Ref>() {
            let message = BoundMessage::make(py, Target::Actor(actor.clone().unbind()), name)?;
            let near = current().is_some_and(|churn| churn.is_near(actor.as_unbound()));
            // A far one answers with a promise.
            let send = || partial.call1((py.import("goblins")?.getattr("send")?, &message));
            return if near { Ok(Some(message)) } else { send().map(Some) };
        }
        partial.call1((extends, name)).map(Some)
    }
}

/// The methods that a behavior is, perhaps with a portrait around them.
fn own_methods<'a, 'py>(behavior: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Methods>> {
    behavior::code(behavior).cast_exact::<Methods>().ok()
}
