//! What a container held, so that changes made in place can be found and undone.
//!
//! Sets are copied, compared and filled again without a call of `__hash__` or `__eq__`: those of their members may be
//! code of the user.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyFrozenSet, PyList, PySet, PyTuple};

use crate::alike::alike;
use crate::copies::Copies;
use crate::interrupts;
use crate::rebuilding::{replace_entries, replace_members};
use crate::shapes::{self, Held, Shape};
use crate::undoing::{Undoing, undisturbed};

/// What a container held.
pub(crate) enum Contents {
    List(Py<PyList>, Py<PyTuple>),
    Dict(Py<PyDict>, Py<PyDict>, Version),
    Set(Py<PySet>, Py<PyFrozenSet>),
    Bytes(Py<PyByteArray>, Vec<u8>),
    Record(Py<PyAny>, Arc<Shape>, Held),
}

impl Contents {
    /// Those of a container that can be changed in place; `None` for others.
    pub(crate) fn of(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(list) = value.cast_exact::<PyList>() {
            return Ok(Some(Self::List(list.clone().unbind(), list.to_tuple().unbind())));
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            let held = dict.copy()?.unbind();
            return Ok(Some(Self::Dict(dict.clone().unbind(), held, Version::of(dict))));
        }
        if let Ok(set) = value.cast_exact::<PySet>() {
            return Ok(Some(Self::Set(set.clone().unbind(), frozen(set)?.unbind())));
        }
        if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
            return Ok(Some(Self::Bytes(bytes.clone().unbind(), bytes.to_vec())));
        }
        match shapes::of(value) {
            Some(shape) if shape.is_mutable() => {
                let held = shape.hold(value)?;
                Ok(Some(Self::Record(value.clone().unbind(), shape, held)))
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn container<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, PyAny> {
        match self {
            Self::List(list, _) => list.bind(py).as_any(),
            Self::Dict(dict, ..) => dict.bind(py).as_any(),
            Self::Set(set, _) => set.bind(py).as_any(),
            Self::Bytes(bytes, _) => bytes.bind(py).as_any(),
            Self::Record(record, ..) => record.bind(py),
        }
    }

    pub(crate) fn address(&self) -> usize {
        let container = match self {
            Self::List(list, _) => list.as_ptr(),
            Self::Dict(dict, ..) => dict.as_ptr(),
            Self::Set(set, _) => set.as_ptr(),
            Self::Bytes(bytes, _) => bytes.as_ptr(),
            Self::Record(record, ..) => record.as_ptr(),
        };
        container as usize
    }

    /// Whether the container holds the same objects still, in the same order.
    pub(crate) fn is_same(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(match self {
            Self::List(list, held) => same_items(list.bind(py), held.bind(py)),
            Self::Dict(dict, held, version) => {
                let (dict, held) = (dict.bind(py), held.bind(py));
                if version.is_that_of(dict) {
                    return Ok(true);
                }
                let same = dict.len() == held.len()
                    && dict.iter().zip(held.iter()).all(|((k, v), (l, w))| k.is(&l) && v.is(&w));
                if same {
                    version.renew(dict);
                }
                same
            }
            Self::Set(set, held) => {
                let (set, held) = (set.bind(py), held.bind(py));
                set.len() == held.len()
                    && (set.iter().zip(held.iter()).all(|(a, b)| a.is(&b)) || {
                        let held = addresses(held);
                        set.iter().all(|member| held.contains(&(member.as_ptr() as usize)))
                    })
            }
            Self::Bytes(bytes, held) => {
                // SAFETY: this thread is attached, and nothing else runs before the comparison is done.
                unsafe { bytes.bind(py).as_bytes() == *held }
            }
            Self::Record(record, shape, held) => shape.holds(record.bind(py), held)?,
        })
    }

    /// Whether what the container holds now would be stored as what it held. Containers in it must be the same, or not
    /// be `known`: then they have not changed.
    pub(crate) fn is_alike(&self, py: Python<'_>, changed: &HashSet<usize>) -> PyResult<bool> {
        let same = |now: &Bound<'_, PyAny>, before: &Bound<'_, PyAny>| {
            now.is(before) || (!changed.contains(&(before.as_ptr() as usize)) && alike(now, before, changed))
        };
        Ok(match self {
            Self::List(list, held) => {
                let (list, held) = (list.bind(py), held.bind(py));
                list.len() == held.len() && list.iter().zip(held.iter()).all(|(a, b)| same(&a, &b))
            }
            Self::Dict(dict, held, _) => {
                let (dict, held) = (dict.bind(py), held.bind(py));
                dict.len() == held.len()
                    && dict.iter().zip(held.iter()).all(|((k, v), (l, w))| same(&k, &l) && same(&v, &w))
            }
            Self::Record(record, shape, held) => shape.holds_alike(record.bind(py), held, same)?,
            Self::Set(..) | Self::Bytes(..) => false,
        })
    }

    /// Replaces what was put into the container by copies, unless it is known.
    pub(crate) fn own<'py>(&self, py: Python<'py>, copies: &mut Copies<'_, 'py>) -> PyResult<()> {
        match self {
            Self::List(list, held) => {
                let (list, held) = (list.bind(py), held.bind(py));
                for index in moved(list, held) {
                    if let Some(copy) = copies.of(&list.get_item(index)?)? {
                        list.set_item(index, copy)?;
                    }
                }
            }
            Self::Dict(dict, held, _) => {
                let mut before = held.bind(py).iter();
                replace_entries(dict.bind(py), |key, value| {
                    if before.next().is_some_and(|(l, w)| key.is(&l) && value.is(&w)) {
                        return Ok((None, None));
                    }
                    let new_key = if shapes::any_in_sets() { copies.of(key)? } else { None };
                    Ok((new_key, copies.of(value)?))
                })?;
            }
            Self::Set(set, held) if shapes::any_in_sets() => {
                let held = addresses(held.bind(py));
                replace_members(set.bind(py), |member| match held.contains(&(member.as_ptr() as usize)) {
                    true => Ok(None),
                    false => copies.of(member),
                })?;
            }
            Self::Set(..) | Self::Bytes(..) => {}
            Self::Record(record, shape, held) => {
                shape.replace_changed(record.bind(py), held, |value| copies.of(value))?;
            }
        }
        Ok(())
    }

    /// Shows the collector what is held.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::List(list, held) => visit.call(list).and_then(|()| visit.call(held)),
            Self::Dict(dict, held, _) => visit.call(dict).and_then(|()| visit.call(held)),
            Self::Set(set, held) => visit.call(set).and_then(|()| visit.call(held)),
            Self::Bytes(bytes, _) => visit.call(bytes),
            Self::Record(record, _, held) => visit.call(record).and_then(|()| held.traverse(visit)),
        }
    }

    /// Puts back what the container held.
    pub(crate) fn restore(&self, py: Python<'_>, undoing: &mut Undoing) -> PyResult<()> {
        match self {
            Self::List(list, held) => {
                let list = list.bind(py);
                undoing.drop_later(list.to_tuple().into_any().unbind());
                list.set_slice(0, list.len(), held.bind(py))
            }
            Self::Dict(dict, held, _) => {
                let (dict, held) = (dict.bind(py), held.bind(py));
                undoing.drop_later(dict.items().into_any().unbind());
                dict.clear();
                // No key is hashed anew, but some may be compared, and a signal may come up in that.
                let Err(error) = dict.update(held.as_mapping()) else {
                    return Ok(());
                };
                let (dict, held) = (dict.clone().unbind(), held.clone().unbind());
                undisturbed(py, move |py| {
                    dict.bind(py).clear();
                    dict.bind(py).update(held.bind(py).as_mapping())
                })?;
                interrupts::write_unraisable(py, error, None);
                Ok(())
            }
            Self::Set(set, held) => {
                let set = set.bind(py);
                undoing.drop_later(frozen(set)?.into_any().unbind());
                set.clear();
                set.call_method1(intern!(py, "update"), (held.bind(py),)).map(drop)
            }
            Self::Bytes(bytes, held) => {
                let bytes = bytes.bind(py);
                if bytes.resize(held.len()).is_err() {
                    // Somebody has a view of it.
                    undoing.replace(bytes, held);
                    return Ok(());
                }
                // SAFETY: this thread is attached, and nothing else runs before the copy is done.
                unsafe { bytes.as_bytes_mut() }.copy_from_slice(held);
                Ok(())
            }
            Self::Record(record, shape, held) => shape.restore(record.bind(py), held, undoing),
        }
    }
}

/// A copy of a set, made without a call of its members.
fn frozen<'py>(set: &Bound<'py, PySet>) -> PyResult<Bound<'py, PyFrozenSet>> {
    Ok(set.py().get_type::<PyFrozenSet>().call1((set,))?.cast_into_exact()?)
}

/// Whether a list holds these objects, in this order.
fn same_items(list: &Bound<'_, PyList>, held: &Bound<'_, PyTuple>) -> bool {
    if list.len() != held.len() {
        return false;
    }
    // SAFETY: both are alive, and have so many items. This thread is attached, and nothing else runs before the
    // comparison is done; the items themselves are not looked at.
    unsafe {
        let (list, held) =
            (list.as_ptr().cast::<ffi::PyListObject>(), held.as_ptr().cast::<ffi::PyTupleObject>());
        let len = (*list).ob_base.ob_size as usize;
        let (items, held) = ((*list).ob_item.cast::<usize>(), (&raw const (*held).ob_item).cast::<usize>());
        // An empty list may have no array.
        len == 0 || std::slice::from_raw_parts(items, len) == std::slice::from_raw_parts(held, len)
    }
}

fn addresses(set: &Bound<'_, PyFrozenSet>) -> HashSet<usize> {
    set.iter().map(|member| member.as_ptr() as usize).collect()
}

/// The places of a list where something else stands than before, but for those at both ends that are the same.
fn moved(list: &Bound<'_, PyList>, held: &Bound<'_, PyTuple>) -> std::ops::Range<usize> {
    let common = list.len().min(held.len());
    let first = list.iter().zip(held.iter()).take_while(|(a, b)| a.is(b)).count();
    let last = list.iter().rev().zip(held.iter().rev()).take(common - first).take_while(|(a, b)| a.is(b));
    first..list.len() - last.count()
}

/// Which state of a dict it was: each change of a dict gives it a number that no dict had before. (The interpreter does
/// that up to 3.13.)
pub(crate) struct Version(AtomicU64);

impl Version {
    fn of(dict: &Bound<'_, PyDict>) -> Self {
        Self(AtomicU64::new(Self::now(dict)))
    }

    fn now(dict: &Bound<'_, PyDict>) -> u64 {
        // SAFETY: it is a dict, and alive, and this thread is attached.
        #[allow(deprecated, reason = "there is no other that tells of changes which are over")]
        unsafe {
            (*dict.as_ptr().cast::<ffi::PyDictObject>()).ma_version_tag
        }
    }

    fn is_that_of(&self, dict: &Bound<'_, PyDict>) -> bool {
        self.0.load(Ordering::Relaxed) == Self::now(dict)
    }

    fn renew(&self, dict: &Bound<'_, PyDict>) {
        self.0.store(Self::now(dict), Ordering::Relaxed);
    }
}
