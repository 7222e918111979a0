//! Types of the standard library, of which values can be stored.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

use crate::once::once;

/// A class of a module.
pub(super) struct Known {
    module: &'static str,
    name: &'static str,
    class: PyOnceLock<Py<PyType>>,
}

pub(super) static DATETIME: Known = Known::new("datetime", "datetime");
pub(super) static DATE: Known = Known::new("datetime", "date");
pub(super) static TIME: Known = Known::new("datetime", "time");
pub(super) static TIMEDELTA: Known = Known::new("datetime", "timedelta");
pub(super) static TIMEZONE: Known = Known::new("datetime", "timezone");
pub(super) static ZONE_INFO: Known = Known::new("zoneinfo", "ZoneInfo");
pub(super) static DECIMAL: Known = Known::new("decimal", "Decimal");
pub(super) static FRACTION: Known = Known::new("fractions", "Fraction");
pub(super) static ENUM: Known = Known::new("enum", "Enum");
pub(super) static UUID: Known = Known::new("uuid", "UUID");

impl Known {
    const fn new(module: &'static str, name: &'static str) -> Self {
        Self { module, name, class: PyOnceLock::new() }
    }

    /// The class. Its module is imported if it must be.
    pub(super) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        let find = || Ok(py.import(self.module)?.getattr(self.name)?.cast_into::<PyType>()?.unbind());
        once(py, &self.class, find).map(|class| class.bind(py))
    }

    /// Whether a value is of this class, and of none below it. Nothing is imported, and hence no Python code runs
    /// while a value is being written: without the module there is no such value.
    pub(super) fn is_type_of(&self, value: &Bound<'_, PyAny>) -> bool {
        let py = value.py();
        match self.class.get(py) {
            Some(class) => value.get_type().is(class),
            None => self.if_imported(py).is_some_and(|class| value.get_type().is(&class)),
        }
    }

    /// Whether a value is of this class, or of one below it.
    pub(super) fn is_parent_of(&self, value: &Bound<'_, PyAny>) -> bool {
        self.if_imported(value.py()).is_some_and(|class| value.is_instance(&class).unwrap_or(false))
    }

    fn if_imported<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyType>> {
        if let Some(class) = self.class.get(py) {
            return Some(class.bind(py).clone());
        }
        let name = PyString::new(py, self.module);
        // SAFETY: gives an owned reference, or null, possibly with an exception set.
        let module = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyImport_GetModule(name.as_ptr())) };
        let Some(module) = module else {
            drop(PyErr::take(py));
            return None;
        };
        let class = module.getattr(self.name).ok()?.cast_into::<PyType>().ok()?;
        let _ = self.class.set(py, class.clone().unbind());
        Some(class)
    }
}
