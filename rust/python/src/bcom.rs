//! `bcom`, the right to change an actor's behavior, and what it gives.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use goblins_core::ids::{Slot, VatId};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::behavior::{is_behavior, type_name};
use crate::calls::{self, Args, Callable, Entry};
use crate::collector;
use crate::errors::behavior_error;

/// The right to change one actor's behavior: its constructor's first argument (ACT-07).
#[pyclass(frozen, module = "goblins", name = "Bcom")]
pub(crate) struct Bcom {
    vat: VatId,
    /// Changes when an actor that was made again takes the place of the stored one.
    slot: AtomicU64,
    entry: Entry,
}

impl Bcom {
    pub(crate) fn make(py: Python<'_>, vat: VatId, slot: Slot) -> PyResult<Bound<'_, PyAny>> {
        let bcom = Self { vat, slot: AtomicU64::new(slot.0), entry: Entry::of::<Self>() };
        let bcom = calls::make(py, bcom)?.into_any();
        collector::leave(&bcom);
        Ok(bcom)
    }

    fn slot(&self) -> Slot {
        Slot(self.slot.load(Ordering::Relaxed))
    }

    /// From now on it is that of another actor.
    pub(crate) fn hand_over(&self, slot: Slot) {
        self.slot.store(slot.0, Ordering::Relaxed);
    }

    fn token<'py>(
        &self,
        behavior: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = behavior.py();
        if !is_behavior(behavior) {
            return Err(behavior_error(format!(
                "bcom got {}, which is no behavior: give it what a constructor returns (a callable or \
                 `methods(...)`)",
                type_name(behavior)
            )));
        }
        let value = value.map_or_else(|| py.None(), |value| value.clone().unbind());
        let behavior = behavior.clone().unbind();
        Ok(Bound::new(py, Become { vat: self.vat, slot: self.slot(), behavior, value })?.into_any())
    }
}

impl Callable for Bcom {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn once() -> &'static Once {
        static ONCE: Once = Once::new();
        &ONCE
    }

    fn call<'py>(slf: &Bound<'py, Self>, args: Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Args::Vector(vector) = args
            && !vector.has_names()
        {
            let mut given = vector.positional(slf.py());
            if let (1 | 2, Some(behavior)) = (given.len(), given.next()) {
                return slf.get().token(&behavior, given.next().as_deref());
            }
        }
        // The error that Python has for wrong arguments.
        let (args, kwargs) = (args.tuple(slf.py())?, args.dict(slf.py())?);
        slf.getattr("__call__")?.call(args, kwargs.as_ref())
    }
}

#[pymethods]
impl Bcom {
    /// Makes a token that an actor returns to become `behavior`, answering `value`.
    #[pyo3(signature = (behavior, value=None, /))]
    fn __call__<'py>(
        &self,
        behavior: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.token(behavior, value)
    }

    fn __repr__(&self) -> String {
        format!("<bcom of actor {}>", self.slot())
    }
}

/// What `bcom` gives: worth something only when its actor returns it.
#[pyclass(frozen, module = "goblins", name = "Become")]
pub(crate) struct Become {
    pub(crate) vat: VatId,
    pub(crate) slot: Slot,
    pub(crate) behavior: Py<PyAny>,
    pub(crate) value: Py<PyAny>,
}

#[pymethods]
impl Become {
    fn __repr__(&self) -> String {
        format!("<become of actor {}; it counts when that actor returns it>", self.slot)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.behavior)?;
        visit.call(&self.value)
    }
}
