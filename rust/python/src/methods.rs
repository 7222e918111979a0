//! `methods(...)`: a behavior that dispatches on a method name (LIB-05).

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::errors::no_such_method;
use crate::refs::Ref;

/// A behavior made of named functions.
#[pyclass(frozen, module = "goblins", name = "Methods")]
pub(crate) struct Methods {
    named: Py<PyDict>,
}

/// Makes a behavior that answers `ref.name(...)` with the function given as `name`.
#[pyfunction]
#[pyo3(signature = (**named))]
pub(crate) fn methods(py: Python<'_>, named: Option<Bound<'_, PyDict>>) -> PyResult<Methods> {
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
    Ok(Methods { named: named.unbind() })
}

#[pymethods]
impl Methods {
    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<methods {}>", self.names(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.named)
    }
}

impl Methods {
    /// The names that exist, for messages.
    pub(crate) fn names(&self, py: Python<'_>) -> String {
        let names: Vec<String> = self.named.bind(py).keys().iter().map(|name| name.to_string()).collect();
        names.join(", ")
    }

    /// The function behind a name.
    pub(crate) fn find<'py>(
        &self,
        name: &Bound<'py, PyString>,
        actor: &Bound<'py, Ref>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = name.py();
        self.named.bind(py).get_item(name)?.ok_or_else(|| {
            let (actor, names) = (actor.get().describe(py), self.names(py));
            no_such_method(format!("{actor} has no method {:?}; it has {names}", name.to_string_lossy()))
        })
    }
}
