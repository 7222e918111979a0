//! Other parts in values: those that can't be changed are made anew, dicts and sets are filled again.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PySet, PyTuple};

use crate::shapes::{self, Shape};

/// A tuple, a frozenset or a record that can't be changed, with others in place of those parts for which there are some;
/// `None` if there are none, or the value is nothing of the kind.
pub(crate) fn rebuilt<'py>(
    value: &Bound<'py, PyAny>,
    other: impl FnMut(&Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = value.py();
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        let items = others(&tuple.iter().collect::<Vec<_>>(), other)?;
        return items.map(|items| Ok(PyTuple::new(py, items)?.into_any())).transpose();
    }
    if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
        let members = others(&set.iter().collect::<Vec<_>>(), other)?;
        return members.map(|members| Ok(PyFrozenSet::new(py, members)?.into_any())).transpose();
    }
    match shapes::of(value) {
        Some(shape) if !shape.is_mutable() => {
            let items = others(&shape.values(value)?, other)?;
            items.map(|items| record(value, &shape, items)).transpose()
        }
        _ => Ok(None),
    }
}

/// A record that is like another one, and holds these values in place of its own.
pub(crate) fn record<'py>(
    value: &Bound<'py, PyAny>,
    shape: &Shape,
    items: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if let Shape::Tuple { .. } = shape {
        return shapes::tuple(&value.get_type(), items);
    }
    let copy = shape.copy(value)?;
    let mut items = items.into_iter();
    shape.replace(&copy, |_| Ok(items.next()))?;
    Ok(copy)
}

/// The same values, with others in place of those for which there are some; `None` if there are none.
fn others<'py>(
    values: &[Bound<'py, PyAny>],
    mut other: impl FnMut(&Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
    let mut found = false;
    let mut others = Vec::with_capacity(values.len());
    for value in values {
        let instead = other(value)?;
        found |= instead.is_some();
        others.push(instead.unwrap_or_else(|| value.clone()));
    }
    Ok(found.then_some(others))
}

/// What is to stand in place of something, if anything is.
type Instead<'py> = Option<Bound<'py, PyAny>>;

/// Puts others in place of those keys and values of a dict for which there are some. If a key is among them, all
/// entries are put in again, in their order.
pub(crate) fn replace_entries<'py>(
    dict: &Bound<'py, PyDict>,
    mut other: impl FnMut(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<(Instead<'py>, Instead<'py>)>,
) -> PyResult<()> {
    let mut renamed = false;
    let mut all = Vec::with_capacity(dict.len());
    for (key, value) in dict.copy()? {
        let (new_key, new_value) = other(&key, &value)?;
        renamed |= new_key.is_some();
        let is_new = new_value.is_some();
        all.push((new_key.unwrap_or(key), new_value.unwrap_or(value), is_new));
    }
    if renamed {
        dict.clear();
    }
    for (key, value, is_new) in all {
        if renamed || is_new {
            dict.set_item(key, value)?;
        }
    }
    Ok(())
}

/// Puts others in place of those members of a set for which there are some.
pub(crate) fn replace_members<'py>(
    set: &Bound<'py, PySet>,
    other: impl FnMut(&Bound<'py, PyAny>) -> PyResult<Instead<'py>>,
) -> PyResult<()> {
    if let Some(members) = others(&set.iter().collect::<Vec<_>>(), other)? {
        set.clear();
        members.into_iter().try_for_each(|member| set.add(member))?;
    }
    Ok(())
}
