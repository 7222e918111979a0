//! Containers in the fields of actors: what they held, so that changes made in place can be found and undone.
//!
//! Sets are copied, compared and filled again without a call of `__hash__` or `__eq__`: those of their members may be
//! code of the user.

use std::collections::HashSet;
use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyFrozenSet, PyList, PySet, PyTuple};

use crate::alike::alike;
use crate::copies::Copies;
use crate::handing_out;
use crate::interrupts;
use crate::shapes::{self, Held, Shape};
use crate::undoing::{Undoing, undisturbed};

/// Whether a value can be changed in place, or may hold what can.
pub(crate) fn may_change(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PySet>()
        || value.is_exact_instance_of::<PyByteArray>()
        || value.is_exact_instance_of::<PyTuple>()
        || (value.is_exact_instance_of::<PyFrozenSet>() && shapes::any_in_sets())
        || shapes::of(value).is_some()
}

/// Gives each value that stands in a container and may change, once for each place where it stands.
pub(crate) fn each_inner<'py>(
    container: &Bound<'py, PyAny>,
    mut give: impl FnMut(Bound<'py, PyAny>),
) -> PyResult<()> {
    let mut look = |value: Bound<'py, PyAny>| {
        if may_change(&value) {
            give(value);
        }
    };
    if let Ok(list) = container.cast_exact::<PyList>() {
        list.iter().for_each(look);
    } else if let Ok(dict) = container.cast_exact::<PyDict>() {
        let in_keys = shapes::any_in_sets();
        for (key, value) in dict.iter() {
            if in_keys {
                look(key);
            }
            look(value);
        }
    } else if let Ok(tuple) = container.cast_exact::<PyTuple>() {
        tuple.iter().for_each(look);
    } else if let Ok(set) = container.cast_exact::<PySet>() {
        // What is in a set has a hash: of what changes only instances of records do.
        if shapes::any_in_sets() {
            set.iter().for_each(look);
        }
    } else if let Ok(set) = container.cast_exact::<PyFrozenSet>() {
        if shapes::any_in_sets() {
            set.iter().for_each(look);
        }
    } else if let Some(shape) = shapes::of(container) {
        shape.values(container)?.into_iter().for_each(look);
    }
    Ok(())
}

/// How many entries a container has that are copied one by one.
fn entries(container: &Bound<'_, PyAny>) -> usize {
    if container.is_exact_instance_of::<PyByteArray>() { 0 } else { container.len().unwrap_or(0) }
}

/// What a container held.
enum Contents {
    List(Py<PyList>, Py<PyTuple>),
    Dict(Py<PyDict>, Py<PyDict>),
    Set(Py<PySet>, Py<PyFrozenSet>),
    Bytes(Py<PyByteArray>, Vec<u8>),
    Record(Py<PyAny>, Arc<Shape>, Held),
}

impl Contents {
    /// Those of a container that can be changed in place; `None` for others.
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(list) = value.cast_exact::<PyList>() {
            return Ok(Some(Self::List(list.clone().unbind(), list.to_tuple().unbind())));
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            return Ok(Some(Self::Dict(dict.clone().unbind(), dict.copy()?.unbind())));
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

    fn container<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, PyAny> {
        match self {
            Self::List(list, _) => list.bind(py).as_any(),
            Self::Dict(dict, _) => dict.bind(py).as_any(),
            Self::Set(set, _) => set.bind(py).as_any(),
            Self::Bytes(bytes, _) => bytes.bind(py).as_any(),
            Self::Record(record, ..) => record.bind(py),
        }
    }

    fn address(&self) -> usize {
        let container = match self {
            Self::List(list, _) => list.as_ptr(),
            Self::Dict(dict, _) => dict.as_ptr(),
            Self::Set(set, _) => set.as_ptr(),
            Self::Bytes(bytes, _) => bytes.as_ptr(),
            Self::Record(record, ..) => record.as_ptr(),
        };
        container as usize
    }

    /// Whether the container holds the same objects still, in the same order.
    fn is_same(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(match self {
            Self::List(list, held) => {
                let (list, held) = (list.bind(py), held.bind(py));
                list.len() == held.len() && list.iter().zip(held.iter()).all(|(a, b)| a.is(&b))
            }
            Self::Dict(dict, held) => {
                let (dict, held) = (dict.bind(py), held.bind(py));
                dict.len() == held.len()
                    && dict.iter().zip(held.iter()).all(|((k, v), (l, w))| k.is(&l) && v.is(&w))
            }
            Self::Set(set, held) => {
                let (set, held) = (set.bind(py), held.bind(py));
                set.len() == held.len()
                    && (set.iter().zip(held.iter()).all(|(a, b)| a.is(&b)) || {
                        let held = addresses(held);
                        set.iter().all(|member| held.contains(&(member.as_ptr() as usize)))
                    })
            }
            Self::Bytes(bytes, held) => bytes.bind(py).to_vec() == *held,
            Self::Record(record, shape, held) => shape.holds(record.bind(py), held)?,
        })
    }

    /// Whether what the container holds now would be stored as what it held. Containers in it must be the same, or not
    /// be `known`: then they have not changed.
    fn is_alike(&self, py: Python<'_>, changed: &HashSet<usize>) -> PyResult<bool> {
        let same = |now: &Bound<'_, PyAny>, before: &Bound<'_, PyAny>| {
            now.is(before) || (!changed.contains(&(before.as_ptr() as usize)) && alike(now, before, changed))
        };
        Ok(match self {
            Self::List(list, held) => {
                let (list, held) = (list.bind(py), held.bind(py));
                list.len() == held.len() && list.iter().zip(held.iter()).all(|(a, b)| same(&a, &b))
            }
            Self::Dict(dict, held) => {
                let (dict, held) = (dict.bind(py), held.bind(py));
                dict.len() == held.len()
                    && dict.iter().zip(held.iter()).all(|((k, v), (l, w))| same(&k, &l) && same(&v, &w))
            }
            Self::Record(record, shape, held) => shape.holds_alike(record.bind(py), held, same)?,
            Self::Set(..) | Self::Bytes(..) => false,
        })
    }

    /// Replaces what was put into the container by copies, unless it is known.
    fn own<'py>(&self, py: Python<'py>, copies: &mut Copies<'_, 'py>) -> PyResult<()> {
        match self {
            Self::List(list, held) => {
                let (list, held) = (list.bind(py), held.bind(py));
                for index in moved(list, held) {
                    if let Some(copy) = copies.of(&list.get_item(index)?)? {
                        list.set_item(index, copy)?;
                    }
                }
            }
            Self::Dict(dict, held) => {
                let dict = dict.bind(py);
                let mut before = held.bind(py).iter();
                let mut renamed = false;
                let mut all = Vec::with_capacity(dict.len());
                for (key, value) in dict.copy()? {
                    let same = before.next().is_some_and(|(l, w)| key.is(&l) && value.is(&w));
                    if same {
                        all.push((key, value, false));
                        continue;
                    }
                    let new_key = if shapes::any_in_sets() { copies.of(&key)? } else { None };
                    let new_value = copies.of(&value)?;
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
            }
            Self::Set(set, held) if shapes::any_in_sets() => {
                let set = set.bind(py);
                let held = addresses(held.bind(py));
                let members: Vec<_> = set.iter().collect();
                let mut replaced = false;
                let mut all = Vec::with_capacity(members.len());
                for member in members {
                    let copy = match held.contains(&(member.as_ptr() as usize)) {
                        true => None,
                        false => copies.of(&member)?,
                    };
                    replaced |= copy.is_some();
                    all.push(copy.unwrap_or(member));
                }
                if replaced {
                    set.clear();
                    all.into_iter().try_for_each(|member| set.add(member))?;
                }
            }
            Self::Set(..) | Self::Bytes(..) => {}
            Self::Record(record, shape, held) => {
                shape.replace_changed(record.bind(py), held, |value| copies.of(value))?;
            }
        }
        Ok(())
    }

    /// Puts back what the container held.
    fn restore(&self, py: Python<'_>, undoing: &mut Undoing) -> PyResult<()> {
        match self {
            Self::List(list, held) => {
                let list = list.bind(py);
                undoing.drop_later(list.to_tuple().into_any().unbind());
                list.set_slice(0, list.len(), held.bind(py))
            }
            Self::Dict(dict, held) => {
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

/// The containers of an actor that a turn has come to see.
#[derive(Default)]
pub(crate) struct Containers {
    known: HashSet<usize>,
    contents: Vec<Contents>,
}

impl Containers {
    /// Keeps what a value and all containers in it hold. Says how many entries were copied for that.
    pub(crate) fn keep(&mut self, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut copied = 0;
        if !may_change(value) {
            return Ok(copied);
        }
        let mut todo = vec![value.clone()];
        let mut seen = HashSet::new();
        while let Some(value) = todo.pop() {
            let address = value.as_ptr() as usize;
            if self.known.contains(&address) {
                continue;
            }
            match Contents::of(&value)? {
                Some(contents) => {
                    self.known.insert(address);
                    handing_out::note_owned(address);
                    copied += entries(&value);
                    self.contents.push(contents);
                }
                None if seen.insert(address) => {}
                None => continue,
            }
            each_inner(&value, |inner| todo.push(inner))?;
        }
        Ok(copied)
    }

    /// Whether any of the known containers has changed. What was put into them is replaced by copies then. If it is
    /// to be `stored`, other objects that would be stored as those before are no change.
    pub(crate) fn own_what_came_in<'py>(
        &self,
        py: Python<'py>,
        copies: &mut Copies<'_, 'py>,
        stored: bool,
    ) -> PyResult<bool> {
        let mut changed = Vec::new();
        for contents in &self.contents {
            if !contents.is_same(py)? {
                changed.push(contents);
            }
        }
        if changed.is_empty() {
            return Ok(false);
        }
        if stored {
            let addresses: HashSet<_> =
                changed.iter().map(|contents| contents.container(py).as_ptr() as usize).collect();
            let mut alike = true;
            for contents in &changed {
                alike = alike && contents.is_alike(py, &addresses)?;
            }
            if alike {
                let mut undoing = Undoing::default();
                return changed.iter().try_for_each(|it| it.restore(py, &mut undoing)).map(|()| false);
            }
        }
        changed.iter().try_for_each(|contents| contents.own(py, copies))?;
        Ok(true)
    }

    /// What the same containers hold now.
    pub(crate) fn same_now(&self, py: Python<'_>) -> PyResult<Self> {
        let mut now = Self::default();
        for contents in &self.contents {
            now.keep(contents.container(py))?;
        }
        Ok(now)
    }

    /// The addresses of the containers.
    pub(crate) fn known(&self) -> &HashSet<usize> {
        &self.known
    }

    /// Takes those of another one, too.
    pub(crate) fn join(&mut self, other: Self) {
        for contents in other.contents {
            let address = contents.address();
            if self.known.insert(address) {
                self.contents.push(contents);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.contents.iter().try_for_each(|contents| match contents {
            Contents::List(list, held) => visit.call(list).and_then(|()| visit.call(held)),
            Contents::Dict(dict, held) => visit.call(dict).and_then(|()| visit.call(held)),
            Contents::Set(set, held) => visit.call(set).and_then(|()| visit.call(held)),
            Contents::Bytes(bytes, _) => visit.call(bytes),
            Contents::Record(record, _, held) => visit.call(record).and_then(|()| held.traverse(visit)),
        })
    }

    /// Puts back what the containers held. One that can't be restored keeps no other from it.
    pub(crate) fn restore(&self, py: Python<'_>, undoing: &mut Undoing) {
        for contents in self.contents.iter().rev() {
            if let Err(error) = contents.restore(py, undoing) {
                undoing.failed(error);
            }
        }
        for contents in &self.contents {
            if let Err(error) = undoing.put_replacements(contents.container(py)) {
                undoing.failed(error);
            }
        }
    }
}
