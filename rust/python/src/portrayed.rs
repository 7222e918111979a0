//! Behaviors with a portrait made by hand, without `@actor` (POR-22).

use std::sync::OnceLock;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::bcom::Bcom;
use crate::behavior::{self, Behavior, describe_value, is_behavior};
use crate::calls::Args;
use crate::class_actor;
use crate::errors::behavior_error;

/// A behavior, and a function that gives its portrait.
#[pyclass(frozen, module = "goblins", name = "Portrayed")]
pub(crate) struct Portrayed {
    pub(crate) code: Py<PyAny>,
    pub(crate) portrait: Py<PyAny>,
    origin: OnceLock<Origin>,
}

/// What made it.
pub(crate) struct Origin {
    /// Its place in the environment is the label.
    pub(crate) constructor: Py<PyAny>,
    /// What the constructor got, if that is known.
    bcom: Option<Py<Bcom>>,
}

/// Gives a behavior a portrait that is made by hand.
#[pyfunction]
#[pyo3(signature = (behavior, portrait, /, *, constructor=None))]
pub(crate) fn portraitize<'py>(
    behavior: Bound<'py, PyAny>,
    portrait: Bound<'py, PyAny>,
    constructor: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, Portrayed>> {
    let py = behavior.py();
    let has_one = behavior.is_exact_instance_of::<Behavior>()
        || behavior.is_exact_instance_of::<Portrayed>()
        || class_actor::instance(&behavior).is_some();
    if has_one {
        return Err(behavior_error(format!(
            "portraitize got {}, which has a portrait already: give it a function or `methods(...)`",
            describe_value(&behavior)
        )));
    }
    if !is_behavior(&behavior) {
        return Err(behavior_error(format!(
            "portraitize got {}, which is no behavior: give it a callable or `methods(...)`",
            describe_value(&behavior)
        )));
    }
    if !portrait.is_callable() {
        return Err(behavior_error(format!(
            "the portrait is a function without arguments, not {}",
            describe_value(&portrait)
        )));
    }
    let origin = OnceLock::new();
    if let Some(constructor) = constructor {
        let _ = origin.set(Origin { constructor, bcom: None });
    }
    Bound::new(py, Portrayed { code: behavior.unbind(), portrait: portrait.unbind(), origin })
}

#[pymethods]
impl Portrayed {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Args::Packed(args, kwargs).call(slf.get().code.bind(slf.py()))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<behavior with a portrait: {}>", describe_value(self.code.bind(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.code)?;
        visit.call(&self.portrait)?;
        match self.origin.get() {
            Some(origin) => {
                visit.call(&origin.constructor)?;
                visit.call(&origin.bcom)
            }
            None => Ok(()),
        }
    }
}

impl Portrayed {
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.get()
    }

    /// Notes what made it, unless that is known.
    pub(crate) fn made_by(&self, constructor: &Bound<'_, PyAny>, bcom: Option<&Bound<'_, PyAny>>) {
        let bcom = bcom.and_then(|bcom| Some(bcom.cast_exact::<Bcom>().ok()?.clone().unbind()));
        let _ = self.origin.set(Origin { constructor: constructor.clone().unbind(), bcom });
    }

    /// Without an origin of its own, it has that of the behavior which it follows: an actor keeps its label.
    pub(crate) fn follows(&self, before: &Bound<'_, PyAny>) {
        let py = before.py();
        if let Ok(before) = before.cast_exact::<Self>()
            && let Some(origin) = before.get().origin()
        {
            let bcom = origin.bcom.as_ref().map(|bcom| bcom.bind(py).as_any());
            self.made_by(origin.constructor.bind(py), bcom);
        }
    }
}

/// The `bcom` that the constructor of a behavior got, if it is known.
pub(crate) fn bcom_of<'py>(behavior: &Bound<'py, PyAny>) -> Option<Bound<'py, Bcom>> {
    let py = behavior.py();
    if let Ok(portrayed) = behavior.cast_exact::<Portrayed>() {
        return Some(portrayed.get().origin()?.bcom.as_ref()?.bind(py).clone());
    }
    let first = behavior::source(behavior)?.args.bind(py).get_item(0).ok()?;
    first.cast_into_exact::<Bcom>().ok()
}
