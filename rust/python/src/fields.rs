//! Where the fields of an instance are: in its dict, or in the instance itself.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::calls;
use crate::class_actor::ActorBase;
use crate::collections::Collection;
use crate::containers::may_change;
use crate::copies::deep_copy;
use crate::inline;
use crate::past;
use crate::saved::guard;

/// The fields of an instance, for a look at each.
pub(crate) enum Fields<'a, 'py> {
    Inline(&'a Bound<'py, ActorBase>),
    Dict(Bound<'py, PyDict>),
}

impl<'a, 'py> Fields<'a, 'py> {
    pub(crate) fn of(instance: &'a Bound<'py, ActorBase>) -> PyResult<Self> {
        match inline::count(instance) {
            Some(_) => Ok(Self::Inline(instance)),
            None => dict(instance).map(Self::Dict),
        }
    }

    /// The value of a field, which most likely stands at this index.
    pub(crate) fn get(
        &self,
        index: usize,
        field: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self {
            Self::Inline(instance) => match inline::get(instance, index, field) {
                Some(found) => Ok(found),
                None => dict(instance)?.get_item(field),
            },
            Self::Dict(dict) => dict.get_item(field),
        }
    }
}

/// The values of all fields.
pub(crate) fn values<'py>(instance: &Bound<'py, ActorBase>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    match inline::values(instance) {
        Some(values) => Ok(values),
        None => Ok(dict(instance)?.values().iter().collect()),
    }
}

/// An instance has become the behavior of an actor. From 3.13 on its dict has room for thirty fields as long as it shares
/// its keys.
pub(crate) fn bound(instance: &Bound<'_, ActorBase>) -> PyResult<()> {
    if past::WATCHES { past::watch(&unshared(instance, dict(instance)?)?) } else { Ok(()) }
}

/// The dict of an instance. One that had none has it from now on, and takes more memory.
pub(crate) fn dict<'py>(instance: &Bound<'py, ActorBase>) -> PyResult<Bound<'py, PyDict>> {
    let py = instance.py();
    // SAFETY: gives an owned reference, or null with an exception set.
    let dict = unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyObject_GenericGetDict(instance.as_ptr(), std::ptr::null_mut()),
        )
    }?;
    Ok(dict.cast_into::<PyDict>()?)
}

/// The fields of an instance which is about to change, in a dict that has its keys for itself.
///
/// CPython lets the instances of a class share their keys. Up to 3.12 it then reads a field in its slow way as soon as
/// somebody has asked for the dict.
#[cfg(not(Py_3_13))]
pub(crate) fn own_dict<'py>(instance: &Bound<'py, ActorBase>) -> PyResult<Bound<'py, PyDict>> {
    let dict = dict(instance)?;
    // One without all its fields is being made.
    if dict.len() < instance.get().info.get().fields.len() { Ok(dict) } else { unshared(instance, dict) }
}

/// As [`dict`]: it has its keys for itself since the instance was bound.
#[cfg(Py_3_13)]
pub(crate) use dict as own_dict;

fn unshared<'py>(instance: &Bound<'py, ActorBase>, dict: Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: it is a dict, and alive, and this thread is attached.
    if unsafe { (*dict.as_ptr().cast::<ffi::PyDictObject>()).ma_values.is_null() } {
        return Ok(dict);
    }
    let own = PyDict::new(instance.py());
    dict.iter().try_for_each(|(name, value)| own.set_item(name, value))?;
    set_dict(instance, &own)?;
    Ok(own)
}

fn set_dict(instance: &Bound<'_, ActorBase>, dict: &Bound<'_, PyDict>) -> PyResult<()> {
    // SAFETY: both are alive; -1 means that an exception is set.
    match unsafe { ffi::PyObject_GenericSetDict(instance.as_ptr(), dict.as_ptr(), std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(instance.py())),
    }
}

/// Puts the fields of an instance into a new dict: somebody holds the one they are in.
pub(crate) fn renew(instance: &Bound<'_, ActorBase>) -> PyResult<()> {
    let copy = dict(instance)?.copy()?;
    set_dict(instance, &copy)?;
    past::watch(&copy)
}

/// Sets the fields of an instance made from its record: those that are not stored get their defaults. True if one of
/// them is a collection: it is new, and must be stored with the actor.
pub(crate) fn fill<'py>(
    instance: &Bound<'py, ActorBase>,
    mut stored: impl FnMut(&str) -> Option<Bound<'py, PyAny>>,
    missing: impl Fn(&str) -> PyErr,
) -> PyResult<bool> {
    let py = instance.py();
    let info = instance.get().info.get();
    let mut grown = false;
    for field in &info.fields {
        let field = field.bind(py);
        let name = field.to_string_lossy();
        let value = match stored(&name) {
            Some(value) => value,
            None => match calls::call_with(info.default.bind(py), (field,)) {
                Err(error) if error.is_instance_of::<pyo3::exceptions::PyLookupError>(py) => {
                    return Err(missing(&name));
                }
                other => {
                    let value = other?;
                    grown |= value.is_instance_of::<Collection>();
                    // It may belong to the class.
                    if may_change(&value) { deep_copy(&value)? } else { value }
                }
            },
        };
        let is_container = may_change(&value);
        if is_container || !inline::set(instance, field, Some(&value))? {
            dict(instance)?.set_item(field, value)?;
        }
        if is_container {
            guard(instance, info, field)?;
        }
    }
    Ok(grown)
}
