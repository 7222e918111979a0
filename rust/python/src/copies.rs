//! Copies of containers, so that nobody outside shares those in the fields of actors.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PySet, PyTuple};

use crate::containers::{Containers, may_change};
use crate::errors::too_deep;
use crate::rebuilding;
use crate::selves;
use crate::shapes::{self, Shape};

/// How deeply a value may be nested: each level takes some of the stack.
pub(crate) const MAX_DEPTH: usize = 1000;

/// Copies of containers, each made once.
pub(crate) struct Copies<'a, 'py> {
    /// Those that need no copy.
    known: Option<&'a Containers>,
    made: Made<'py>,
    /// Something may stand in several places.
    tangled: bool,
}

impl<'a, 'py> Copies<'a, 'py> {
    pub(crate) fn new(known: Option<&'a Containers>) -> Self {
        Self { known, made: HashMap::new(), tangled: false }
    }

    /// A copy of a value that is not known, or has such values in it. It stands at a place where it did not before.
    pub(crate) fn of(&mut self, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !may_change(value) {
            selves::check(value, "in a container")?;
            return Ok(None);
        }
        let known =
            |value: &Bound<'_, PyAny>| self.known.is_some_and(|known| known.knows(value.as_ptr() as usize));
        if known(value) {
            self.tangled = true;
            return Ok(None);
        }
        let tangled = &mut self.tangled;
        let mut stop = |inner: &Bound<'py, PyAny>, made: &Made<'py>| {
            let there = match known(inner) {
                true => Some(inner.clone()),
                false => made.get(&(inner.as_ptr() as usize)).cloned(),
            };
            *tangled |= there.is_some();
            there
        };
        let copy = copied(value, 0, &mut self.made, &mut stop)?;
        Ok((!copy.is(value)).then_some(copy))
    }

    /// Whether something may stand in several places.
    pub(crate) fn is_tangled(&self) -> bool {
        self.tangled
    }
}

/// The copies that were made, by the address of what they are copies of. That is alive as long as the copying lasts.
type Made<'py> = HashMap<usize, Bound<'py, PyAny>>;

/// Gives what is to stand in place of a value, where it is not to be copied.
type Stop<'a, 'py> = dyn FnMut(&Bound<'py, PyAny>, &Made<'py>) -> Option<Bound<'py, PyAny>> + 'a;

/// A deep copy of a value: each container in it is copied once.
pub(crate) fn deep_copy<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    counted_copy(value).map(|(copy, _)| copy)
}

/// A deep copy of a value, and how many containers were copied.
pub(crate) fn counted_copy<'py>(value: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, usize)> {
    let mut made = HashMap::new();
    let copy = copied(value, 0, &mut made, &mut |inner, made| made.get(&(inner.as_ptr() as usize)).cloned())?;
    Ok((copy, made.len()))
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
        selves::check(value, "in a container")?;
        return Ok(value.clone());
    }
    if let Some(instead) = stop(value, made) {
        return Ok(instead);
    }
    if depth > MAX_DEPTH {
        return Err(too_deep(MAX_DEPTH));
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
        let in_keys = shapes::any_in_sets();
        for (key, item) in dict.copy()? {
            let key = if in_keys { copied(&key, depth + 1, made, stop)? } else { key };
            copy.set_item(key, copied(&item, depth + 1, made, stop)?)?;
        }
        Ok(copy.into_any())
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        let items: Vec<_> = tuple.iter().collect();
        let Some(items) = copied_items(value, &items, depth, made, stop)? else {
            return Ok(value.clone());
        };
        let copy = PyTuple::new(py, items)?.into_any();
        made.insert(address, copy.clone());
        Ok(copy)
    } else if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
        let members: Vec<_> = set.iter().collect();
        let Some(members) = copied_items(value, &members, depth, made, stop)? else {
            return Ok(value.clone());
        };
        let copy = PyFrozenSet::new(py, members)?.into_any();
        made.insert(address, copy.clone());
        Ok(copy)
    } else if let Some(shape) = shapes::of(value) {
        copied_record(value, &shape, depth, made, stop)
    } else {
        let copy = value.get_type().call1((value,))?;
        made.insert(address, copy.clone());
        let Ok(set) = value.cast_exact::<PySet>() else {
            return Ok(copy);
        };
        if shapes::any_in_sets() {
            let members: Vec<_> = set.iter().collect();
            if let Some(members) = copied_items(value, &members, depth, made, stop)? {
                let copy = copy.cast_exact::<PySet>()?;
                copy.clear();
                members.into_iter().try_for_each(|member| copy.add(member))?;
            }
        }
        Ok(copy)
    }
}

/// Copies of what stands in a value; `None` if nothing in it can be changed.
fn copied_items<'py>(
    value: &Bound<'py, PyAny>,
    items: &[Bound<'py, PyAny>],
    depth: usize,
    made: &mut Made<'py>,
    stop: &mut Stop<'_, 'py>,
) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
    if !items.iter().any(may_change) {
        return Ok(None);
    }
    let copies =
        items.iter().map(|item| copied(item, depth + 1, made, stop)).collect::<PyResult<Vec<_>>>()?;
    if items.iter().zip(&copies).any(|(item, copy)| !item.is(copy)) {
        return Ok(Some(copies));
    }
    // It may be met again, and again.
    made.entry(value.as_ptr() as usize).or_insert_with(|| value.clone());
    Ok(None)
}

/// A copy of a record; itself if it can't be changed, and nothing in it either.
fn copied_record<'py>(
    value: &Bound<'py, PyAny>,
    shape: &Shape,
    depth: usize,
    made: &mut Made<'py>,
    stop: &mut Stop<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let address = value.as_ptr() as usize;
    if shape.is_mutable() {
        let copy = shape.copy(value)?;
        made.insert(address, copy.clone());
        shape.replace(&copy, |item| copied(item, depth + 1, made, stop).map(Some))?;
        return Ok(copy);
    }
    let Some(copies) = copied_items(value, &shape.values(value)?, depth, made, stop)? else {
        return Ok(value.clone());
    };
    let copy = rebuilding::record(value, shape, copies)?;
    made.insert(address, copy.clone());
    Ok(copy)
}
