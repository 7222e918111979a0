//! Whether two values would be stored as the same bytes.

use std::collections::HashSet;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use crate::shapes;

/// How deeply values are compared: what is nested deeper counts as another one.
const MAX_DEPTH: usize = 100;

/// Whether two values would be stored as the same bytes. "No" may be wrong. What is in `changed` is not looked into.
pub(crate) fn alike(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>, changed: &HashSet<usize>) -> bool {
    same(a, b, changed, 0)
}

/// As [`alike`], for values that can't be changed.
pub(crate) fn alike_plain(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> bool {
    if a.get_type_ptr() != b.get_type_ptr() {
        return false;
    }
    if a.is_exact_instance_of::<PyInt>()
        || a.is_exact_instance_of::<PyString>()
        || a.is_exact_instance_of::<PyBytes>()
    {
        // SAFETY: both are alive, and of a class whose comparison runs no code of the user and can't fail.
        return unsafe { ffi::PyObject_RichCompareBool(a.as_ptr(), b.as_ptr(), ffi::Py_EQ) == 1 };
    }
    match (a.cast_exact::<PyFloat>(), b.cast_exact::<PyFloat>()) {
        (Ok(a), Ok(b)) => a.value().to_bits() == b.value().to_bits(),
        _ => false,
    }
}

fn same(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>, changed: &HashSet<usize>, depth: usize) -> bool {
    if [a, b].iter().any(|value| changed.contains(&(value.as_ptr() as usize))) || depth > MAX_DEPTH {
        return false;
    }
    if a.is(b) || alike_plain(a, b) {
        return true;
    }
    if a.get_type_ptr() != b.get_type_ptr() {
        return false;
    }
    let inner = |a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>| same(a, b, changed, depth + 1);
    if let (Ok(a), Ok(b)) = (a.cast_exact::<PyList>(), b.cast_exact::<PyList>()) {
        return a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| inner(&a, &b));
    }
    if let (Ok(a), Ok(b)) = (a.cast_exact::<PyTuple>(), b.cast_exact::<PyTuple>()) {
        return a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| inner(&a, &b));
    }
    if let (Ok(a), Ok(b)) = (a.cast_exact::<PyDict>(), b.cast_exact::<PyDict>()) {
        return a.len() == b.len()
            && a.iter().zip(b.iter()).all(|((k, v), (l, w))| inner(&k, &l) && inner(&v, &w));
    }
    if let (Ok(a), Ok(b)) = (a.cast_exact::<PyByteArray>(), b.cast_exact::<PyByteArray>()) {
        return a.to_vec() == b.to_vec();
    }
    if let (Ok(a), Ok(b)) = (a.cast_exact::<PySet>(), b.cast_exact::<PySet>()) {
        return same_members(a.len(), a.iter(), b.iter(), changed);
    }
    if let (Ok(a), Ok(b)) = (a.cast_exact::<PyFrozenSet>(), b.cast_exact::<PyFrozenSet>()) {
        return same_members(a.len(), a.iter(), b.iter(), changed);
    }
    if let Some(shape) = shapes::of(a)
        && let (Ok(a), Ok(b)) = (shape.named(a), shape.named(b))
    {
        return a.len() == b.len() && a.iter().zip(&b).all(|((n, a), (m, b))| inner(n, m) && inner(a, b));
    }
    false
}

/// Whether two sets have the same objects as members.
fn same_members<'py>(
    len: usize,
    a: impl Iterator<Item = Bound<'py, PyAny>>,
    b: impl Iterator<Item = Bound<'py, PyAny>>,
    changed: &HashSet<usize>,
) -> bool {
    let address = |member: Bound<'py, PyAny>| member.as_ptr() as usize;
    let b: HashSet<usize> = b.map(address).collect();
    b.len() == len && a.map(address).all(|member| b.contains(&member) && !changed.contains(&member))
}
