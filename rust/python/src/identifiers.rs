//! Persistable ids: names of actors that stay the same over restarts, and give no access (OID-01 to OID-07).

use std::hash::{DefaultHasher, Hash, Hasher};

use goblins_core::error::KernelError;
use goblins_core::ids::Address;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::behavior::type_name;
use crate::errors::kernel_error;
use crate::promise::Promise;
use crate::refs::Ref;

/// The name of an actor of a persistent vat. Made with `persistable_id`.
#[pyclass(frozen, module = "goblins", name = "PersistableId")]
pub(crate) struct PersistableId {
    pub(crate) address: Address,
}

#[pymethods]
impl PersistableId {
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast_exact::<Self>().is_ok_and(|other| other.get().address == self.address)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.address.hash(&mut hasher);
        hasher.finish()
    }

    fn __copy__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __deepcopy__(slf: &Bound<'_, Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __repr__(&self) -> String {
        format!("<PersistableId {}:{}>", self.address.vat, self.address.slot)
    }
}

/// The name of an actor that stays the same over restarts.
#[pyfunction]
pub(crate) fn persistable_id(actor: &Bound<'_, PyAny>) -> PyResult<PersistableId> {
    let Ok(actor) = actor.cast_exact::<Ref>() else {
        let advice = if actor.is_exact_instance_of::<Promise>() {
            "what it becomes may have one: use on(...) or await"
        } else {
            "only a Ref has one"
        };
        return Err(PyTypeError::new_err(format!("{} has no persistable id; {advice}", type_name(actor))));
    };
    let cell = &actor.get().cell;
    match cell.vat().address_of(cell.slot()) {
        Some(address) => Ok(PersistableId { address }),
        None => Err(kernel_error(&KernelError::WithoutId { actor: actor.get().describe(actor.py()) })),
    }
}
