//! Copies of containers, so that nobody outside shares those in the fields of actors.

use std::collections::{HashMap, HashSet};

use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::containers::may_change;
use crate::shapes::{self, Shape};

/// How deeply a value may be nested: each level takes some of the stack.
const MAX_DEPTH: usize = 1000;

/// Copies of containers, each made once.
pub(crate) struct Copies<'a, 'py> {
    /// Those that need no copy.
    known: &'a HashSet<usize>,
    made: HashMap<usize, Bound<'py, PyAny>>,
}

impl<'a, 'py> Copies<'a, 'py> {
    pub(crate) fn new(known: &'a HashSet<usize>) -> Self {
        Self { known, made: HashMap::new() }
    }

    /// A copy of a value that is not known, or has such values in it.
    pub(crate) fn of(&mut self, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !may_change(value) {
            return Ok(None);
        }
        let address = value.as_ptr() as usize;
        if self.known.contains(&address) {
            return Ok(None);
        }
        let known = self.known;
        let mut stop = |inner: &Bound<'py, PyAny>, made: &Made<'py>| {
            let address = inner.as_ptr() as usize;
            if known.contains(&address) { Some(inner.clone()) } else { made.get(&address).cloned() }
        };
        copied(value, 0, &mut self.made, &mut stop).map(Some)
    }
}

type Made<'py> = HashMap<usize, Bound<'py, PyAny>>;

/// Gives what is to stand in place of a value, where it is not to be copied.
type Stop<'a, 'py> = dyn FnMut(&Bound<'py, PyAny>, &Made<'py>) -> Option<Bound<'py, PyAny>> + 'a;

/// A deep copy of a value: each container in it is copied once.
pub(crate) fn deep_copy<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    copied(value, 0, &mut HashMap::new(), &mut |inner, made| made.get(&(inner.as_ptr() as usize)).cloned())
}

/// A deep copy of containers.
fn copied<'py>(
    value: &Bound<'py, PyAny>,
    depth: usize,
    made: &mut Made<'py>,
    stop: &mut Stop<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if !may_change(value) {
        return Ok(value.clone());
    }
    if let Some(instead) = stop(value, made) {
        return Ok(instead);
    }
    if depth > MAX_DEPTH {
        return Err(PyRecursionError::new_err(format!(
            "a value in a field of an actor is nested more than {MAX_DEPTH} levels deep"
        )));
    }
    let address = value.as_ptr() as usize;
    if let Ok(list) = value.cast_exact::<PyList>() {
        let copy = PyList::empty(py);
        made.insert(address, copy.clone().into_any());
        for item in list {
            copy.append(copied(&item, depth + 1, made, stop)?)?;
        }
        Ok(copy.into_any())
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        let copy = PyDict::new(py);
        made.insert(address, copy.clone().into_any());
        for (key, item) in dict.copy()? {
            copy.set_item(key, copied(&item, depth + 1, made, stop)?)?;
        }
        Ok(copy.into_any())
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        let items =
            tuple.iter().map(|item| copied(&item, depth + 1, made, stop)).collect::<PyResult<Vec<_>>>()?;
        if items.iter().zip(tuple.iter()).all(|(a, b)| a.is(&b)) {
            return Ok(value.clone());
        }
        Ok(PyTuple::new(py, items)?.into_any())
    } else if let Some(shape) = shapes::of(value) {
        copied_record(value, &shape, depth, made, stop)
    } else {
        let copy = value.get_type().call1((value,))?;
        made.insert(address, copy.clone());
        Ok(copy)
    }
}

/// A copy of a record; itself if it can't be changed, and nothing in it either.
fn copied_record<'py>(
    value: &Bound<'py, PyAny>,
    shape: &Shape,
    depth: usize,
    made: &mut Made<'py>,
    stop: &mut Stop<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    if shape.is_mutable() {
        let copy = shape.copy(value)?;
        made.insert(value.as_ptr() as usize, copy.clone());
        shape.replace(&copy, |item| copied(item, depth + 1, made, stop).map(Some))?;
        return Ok(copy);
    }
    let items = shape.values(value)?;
    let copies =
        items.iter().map(|item| copied(item, depth + 1, made, stop)).collect::<PyResult<Vec<_>>>()?;
    if items.iter().zip(&copies).all(|(item, copy)| item.is(copy)) {
        return Ok(value.clone());
    }
    if let Shape::Tuple { .. } = shape {
        return shapes::tuple(&value.get_type(), copies);
    }
    let copy = shape.copy(value)?;
    let mut copies = copies.into_iter();
    shape.replace(&copy, |_| Ok(copies.next()))?;
    Ok(copy)
}
