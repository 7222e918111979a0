//! `self` is for the methods of its own actor. Others have its `Ref`: they would read and change the fields past all
//! turns.
//!
//! The checks stand apart from the calls that they are for: those nest, and their frames are to stay small.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PySet, PyString, PyTuple};

use crate::calls::Args;
use crate::class_actor::{self, ActorBase, ClassInfo};
use crate::errors::behavior_error;

/// How many values are looked at in the containers of an argument; and in those of an answer, where it is all but
/// certain that `self` is in there.
const MOST_IN_ARGUMENTS: usize = 32;
const MOST_IN_ANSWERS: usize = 1000;

/// Whether a value is of a class that is not built in, as those of actors are.
fn is_of_class(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the type of a value that is alive.
    unsafe { ffi::PyType_GetFlags(value.get_type_ptr()) & ffi::Py_TPFLAGS_HEAPTYPE != 0 }
}

/// The instance that a value is, if that is the behavior of an actor.
fn spawned<'a, 'py>(value: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, ActorBase>> {
    if !is_of_class(value) {
        return None;
    }
    class_actor::instance(value).filter(|instance| instance.get().has_owner(value.py()))
}

/// An error for the instance of an actor.
pub(crate) fn check(value: &Bound<'_, PyAny>, place: &str) -> PyResult<()> {
    match spawned(value) {
        None => Ok(()),
        Some(instance) => Err(refused(instance, place)),
    }
}

/// As [`check`], for what a field is about to get.
pub(crate) fn check_field(
    value: &Bound<'_, PyAny>,
    info: &ClassInfo,
    field: &Bound<'_, PyString>,
) -> PyResult<()> {
    match spawned(value) {
        None => Ok(()),
        Some(instance) => {
            let class = info.name.bind(value.py());
            Err(refused(instance, &format!("in the field {class}.{field}")))
        }
    }
}

/// As [`check`], for all arguments, and what is in them.
#[inline(never)]
pub(crate) fn check_args(py: Python<'_>, args: Args<'_, '_>) -> PyResult<()> {
    let mut left = MOST_IN_ARGUMENTS;
    args.each(py, |value| look(value, "as an argument", &mut left))
}

/// As [`check`], for an answer, and what is in it.
#[inline(never)]
pub(crate) fn check_answer(answer: &Bound<'_, PyAny>) -> PyResult<()> {
    look(answer, "as an answer", &mut { MOST_IN_ANSWERS })
}

/// As [`check`], for what settles a promise, or is told of it before, and what is in it.
pub(crate) fn check_settlement(value: &Bound<'_, PyAny>) -> PyResult<()> {
    look(value, "as what a promise becomes", &mut { MOST_IN_ARGUMENTS })
}

/// Looks at a value, and at no more than so many others in it.
fn look(value: &Bound<'_, PyAny>, place: &str, left: &mut usize) -> PyResult<()> {
    if is_of_class(value) {
        return check(value, place);
    }
    let mut inner = |value: &Bound<'_, PyAny>| {
        *left = left.saturating_sub(1);
        if *left == 0 { Ok(()) } else { look(value, place, left) }
    };
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        tuple.iter_borrowed().take(MOST_IN_ANSWERS).try_for_each(|item| inner(&item))
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        list.iter().take(MOST_IN_ANSWERS).try_for_each(|item| inner(&item))
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        dict.iter().take(MOST_IN_ANSWERS).try_for_each(|(_, item)| inner(&item))
    } else if let Ok(set) = value.cast_exact::<PySet>() {
        set.iter().take(MOST_IN_ANSWERS).try_for_each(|item| inner(&item))
    } else if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
        set.iter().take(MOST_IN_ANSWERS).try_for_each(|item| inner(&item))
    } else {
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn refused(instance: &Bound<'_, ActorBase>, place: &str) -> PyErr {
    let py = instance.py();
    let title = match instance.get().owner(py).actor() {
        Some(actor) => actor.get().describe(py),
        None => instance.get().info().get().name.bind(py).to_string_lossy().into_owned(),
    };
    behavior_error(format!(
        "`self` of {title} can't stand {place}: it is for the methods of this actor only. Give self.ref, its Ref, instead"
    ))
}
