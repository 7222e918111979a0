//! One place for each container: what stands in two places of an actor would be two equal ones after a restart, so it is
//! that from the end of the turn on.

use std::collections::HashSet;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PySet, PyString, PyTuple};

use crate::containers::{each_inner, may_change};
use crate::copies::{MAX_DEPTH, counted_copy};
use crate::errors::{too_deep, too_many_copies};
use crate::rebuilding::{rebuilt, replace_entries, replace_members};
use crate::shapes;

/// Puts a copy into each place of some fields where a container stands that was met before, in their order. A container
/// that contains itself is left as it is.
pub(crate) fn separate(fields: &Bound<'_, PyDict>, names: &[Py<PyString>]) -> PyResult<()> {
    let mut walk = Walk::default();
    for name in names {
        let name = name.bind(fields.py());
        if let Some(value) = fields.get_item(name)?
            && let Some(other) = walk.place(&value)?
        {
            fields.set_item(name, other)?;
        }
    }
    Ok(())
}

/// A value in which each container has one place.
pub(crate) fn separated(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    Ok(Walk::default().place(&value)?.unwrap_or(value))
}

/// How many containers may be copied in one turn of an actor: each level of `[x, x]` doubles them.
const MOST_COPIES: usize = 1_000_000;

#[derive(Default)]
struct Walk {
    /// The containers that have a place.
    placed: HashSet<usize>,
    /// Those that can't be changed, nor anything in them: they may stand in any number of places.
    constant: HashSet<usize>,
    /// Those that the present one stands in.
    above: Vec<usize>,
    copied: usize,
}

impl Walk {
    /// What is to stand here in place of a value, if not that.
    fn place<'py>(&mut self, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !may_change(value) {
            return Ok(None);
        }
        let address = value.as_ptr() as usize;
        if self.constant.contains(&address) || self.above.contains(&address) {
            return Ok(None);
        }
        if self.above.len() > MAX_DEPTH {
            return Err(too_deep(MAX_DEPTH));
        }
        if !is_mutable(value) {
            let mut holds = false;
            each_inner(value, |_| holds = true)?;
            if !holds {
                return Ok(None);
            }
            let placed = self.placed.len();
            self.above.push(address);
            let other = rebuilt(value, |part| self.place(part));
            self.above.pop();
            let other = other?;
            if other.is_none() && placed == self.placed.len() {
                self.constant.insert(address);
            }
            return Ok(other);
        }
        if !self.placed.insert(address) {
            let (copy, count) = counted_copy(value)?;
            self.copied += count;
            if self.copied > MOST_COPIES {
                return Err(too_many_copies());
            }
            return Ok(Some(copy));
        }
        self.above.push(address);
        let done = self.inside(value);
        self.above.pop();
        done.map(|()| None)
    }

    /// Gives each container in one that can be changed a place.
    fn inside(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(list) = value.cast_exact::<PyList>() {
            for index in 0..list.len() {
                if let Some(other) = self.place(&list.get_item(index)?)? {
                    list.set_item(index, other)?;
                }
            }
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            replace_entries(dict, |key, value| Ok((self.place(key)?, self.place(value)?)))?;
        } else if let Ok(set) = value.cast_exact::<PySet>() {
            if shapes::any_in_sets() {
                replace_members(set, |member| self.place(member))?;
            }
        } else if let Some(shape) = shapes::of(value) {
            shape.replace(value, |inner| self.place(inner))?;
        }
        Ok(())
    }
}

/// Whether a container can be changed itself.
pub(crate) fn is_mutable(value: &Bound<'_, PyAny>) -> bool {
    !value.is_exact_instance_of::<PyTuple>()
        && !value.is_exact_instance_of::<PyFrozenSet>()
        && shapes::of(value).is_none_or(|shape| shape.is_mutable())
}
