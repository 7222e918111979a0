//! Registries: where vats of several stores find each other.

use std::sync::Arc;

use goblins_core::registry::Registry as KernelRegistry;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::host::PyHost;

/// Joins the vats of several stores: give it to each `spawn_persistent_vat`.
#[pyclass(frozen, weakref, module = "goblins", name = "PersistenceRegistry")]
pub(crate) struct Registry {
    pub(crate) registry: Arc<KernelRegistry<PyHost>>,
}

#[pymethods]
impl Registry {
    #[new]
    fn new() -> Self {
        Self { registry: KernelRegistry::new() }
    }

    /// The names of the vats that are open, in order.
    fn vats(&self) -> Vec<String> {
        self.registry.names()
    }

    /// What is waited for.
    fn pending<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let class = py.import("goblins._registry")?.getattr("PendingReference")?;
        let pending = self.registry.pending().into_iter().map(|pending| {
            let id = pending.vat.to_string();
            let name = pending.name.as_deref().unwrap_or(&id);
            class.call1(PyTuple::new(
                py,
                [
                    name.into_pyobject(py)?.into_any(),
                    pending.slot.0.into_pyobject(py)?.into_any(),
                    pending.asked_by.into_pyobject(py)?.into_any(),
                    id.as_str().into_pyobject(py)?.into_any(),
                ],
            )?)
        });
        pending.collect()
    }

    fn __len__(&self) -> usize {
        self.registry.names().len()
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self) -> String {
        let names = self.registry.names();
        let waiting = self.registry.pending().len();
        format!(
            "<PersistenceRegistry of {}{}>",
            if names.is_empty() { "no open vat".to_owned() } else { names.join(", ") },
            if waiting == 0 { String::new() } else { format!("; {waiting} waited for") }
        )
    }
}
