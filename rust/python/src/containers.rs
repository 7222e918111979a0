//! Containers in the fields of actors: what they held, so that changes made in place can be found and undone, and
//! which of them must be copied before they leave.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyFrozenSet, PyList, PySet, PyTuple};

use crate::calls::Args;
use crate::copies::{Copies, deep_copy};
use crate::current::current;
use crate::shapes::{self, Held, Shape};

thread_local! {
    /// The addresses of the containers that were kept in the open turn of this thread.
    static OWNED: RefCell<Owned> = RefCell::default();
}

#[derive(Default)]
struct Owned {
    /// The vat and the turn that they belong to.
    turn: (u64, u64),
    addresses: HashSet<usize>,
}

/// Forgets the containers of an earlier turn.
pub(crate) fn begin(turn: (u64, u64)) {
    OWNED.with(|owned| {
        let mut owned = owned.borrow_mut();
        if owned.turn != turn {
            owned.turn = turn;
            owned.addresses.clear();
        }
    });
}

/// Whether a value can be changed in place, or may hold what can.
pub(crate) fn may_change(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PySet>()
        || value.is_exact_instance_of::<PyByteArray>()
        || value.is_exact_instance_of::<PyTuple>()
        || shapes::of(value).is_some()
}

/// What a container held.
enum Contents {
    List(Py<PyList>, Py<PyTuple>),
    Dict(Py<PyDict>, Py<PyDict>),
    Set(Py<PySet>, Py<PyFrozenSet>),
    Bytes(Py<PyByteArray>, Vec<u8>),
    Record(Py<PyAny>, Arc<Shape>, Held),
}

/// The containers of an actor that a turn has come to see.
#[derive(Default)]
pub(crate) struct Containers {
    known: HashSet<usize>,
    contents: Vec<Contents>,
}

impl Containers {
    /// Keeps what a value and all containers in it hold.
    pub(crate) fn keep(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut todo = vec![value.clone()];
        let mut seen = HashSet::new();
        while let Some(value) = todo.pop() {
            if !may_change(&value) {
                continue;
            }
            if let Ok(tuple) = value.cast_exact::<PyTuple>() {
                todo.extend(tuple.iter());
                continue;
            }
            let address = value.as_ptr() as usize;
            let shape = shapes::of(&value);
            if let Some(shape) = &shape
                && !shape.is_mutable()
            {
                if seen.insert(address) {
                    todo.extend(shape.values(&value)?);
                }
                continue;
            }
            if !self.known.insert(address) {
                continue;
            }
            OWNED.with(|owned| owned.borrow_mut().addresses.insert(address));
            if let Ok(list) = value.cast_exact::<PyList>() {
                let held = list.to_tuple();
                todo.extend(held.iter());
                self.contents.push(Contents::List(list.clone().unbind(), held.unbind()));
            } else if let Ok(dict) = value.cast_exact::<PyDict>() {
                let held = dict.copy()?;
                todo.extend(held.values().iter());
                todo.extend(held.keys().iter().filter(|key| key.is_exact_instance_of::<PyTuple>()));
                self.contents.push(Contents::Dict(dict.clone().unbind(), held.unbind()));
            } else if let Ok(set) = value.cast_exact::<PySet>() {
                let held = PyFrozenSet::new(value.py(), set.iter())?;
                self.contents.push(Contents::Set(set.clone().unbind(), held.unbind()));
            } else if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
                self.contents.push(Contents::Bytes(bytes.clone().unbind(), bytes.to_vec()));
            } else if let Some(shape) = shape {
                todo.extend(shape.values(&value)?);
                let held = shape.hold(&value)?;
                self.contents.push(Contents::Record(value.unbind(), shape, held));
            }
        }
        Ok(())
    }

    /// Replaces containers that were put into the known ones by copies. True if any of the known ones has changed.
    pub(crate) fn own_what_came_in<'py>(
        &self,
        py: Python<'py>,
        copies: &mut Copies<'_, 'py>,
    ) -> PyResult<bool> {
        let mut changed = false;
        for contents in &self.contents {
            match contents {
                Contents::List(list, held) => {
                    let (list, held) = (list.bind(py), held.bind(py));
                    let same =
                        list.len() == held.len() && list.iter().zip(held.iter()).all(|(a, b)| a.is(&b));
                    if !same {
                        changed = true;
                        for index in 0..list.len() {
                            if let Some(copy) = copies.of(&list.get_item(index)?)? {
                                list.set_item(index, copy)?;
                            }
                        }
                    }
                }
                Contents::Dict(dict, held) => {
                    let (dict, held) = (dict.bind(py), held.bind(py));
                    let same = dict.len() == held.len()
                        && dict.iter().zip(held.iter()).all(|((k, v), (l, w))| k.is(&l) && v.is(&w));
                    if !same {
                        changed = true;
                        for (key, value) in dict.copy()? {
                            if let Some(copy) = copies.of(&value)? {
                                dict.set_item(key, copy)?;
                            }
                        }
                    }
                }
                Contents::Set(set, held) => {
                    let (set, held) = (set.bind(py), held.bind(py));
                    changed |= set.len() != held.len() || !set.as_any().eq(held)?;
                }
                Contents::Bytes(bytes, held) => changed |= bytes.bind(py).to_vec() != *held,
                Contents::Record(record, shape, held) => {
                    let record = record.bind(py);
                    if !shape.holds(record, held)? {
                        changed = true;
                        shape.replace(record, |value| copies.of(value))?;
                    }
                }
            }
        }
        Ok(changed)
    }

    /// What the same containers hold now.
    pub(crate) fn same_now(&self, py: Python<'_>) -> PyResult<Self> {
        let mut now = Self::default();
        for contents in &self.contents {
            let container = match contents {
                Contents::List(list, _) => list.bind(py).as_any(),
                Contents::Dict(dict, _) => dict.bind(py).as_any(),
                Contents::Set(set, _) => set.bind(py).as_any(),
                Contents::Bytes(bytes, _) => bytes.bind(py).as_any(),
                Contents::Record(record, ..) => record.bind(py),
            };
            now.keep(container)?;
        }
        Ok(now)
    }

    /// For what comes in from outside.
    pub(crate) fn copies<'py>(&self) -> Copies<'_, 'py> {
        Copies::new(&self.known)
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

    /// Puts back what the containers held.
    pub(crate) fn restore(&self, py: Python<'_>) -> PyResult<()> {
        for contents in self.contents.iter().rev() {
            match contents {
                Contents::List(list, held) => {
                    let list = list.bind(py);
                    list.set_slice(0, list.len(), held.bind(py))?;
                }
                Contents::Dict(dict, held) => {
                    let dict = dict.bind(py);
                    dict.clear();
                    dict.update(held.bind(py).as_mapping())?;
                }
                Contents::Set(set, held) => {
                    let set = set.bind(py);
                    set.clear();
                    for member in held.bind(py) {
                        set.add(member)?;
                    }
                }
                Contents::Bytes(bytes, held) => {
                    let bytes = bytes.bind(py);
                    bytes.resize(held.len())?;
                    for (index, byte) in held.iter().enumerate() {
                        bytes.set_item(index, byte)?;
                    }
                }
                Contents::Record(record, shape, held) => shape.restore(record.bind(py), held)?,
            }
        }
        Ok(())
    }
}

/// Whether any container was kept in the open turn.
fn any_owned() -> bool {
    OWNED.with(|owned| {
        let owned = owned.borrow();
        // Asked at every call: in most turns no container was touched.
        !owned.addresses.is_empty()
            && current().is_some_and(|churn| owned.turn == (churn.vat().id().0, churn.epoch()))
    })
}

type Arguments<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// Arguments as they may leave their actor; `None` if they may leave as they are.
pub(crate) fn handed_out_args<'py>(py: Python<'py>, args: Args<'_, 'py>) -> PyResult<Option<Arguments<'py>>> {
    if args.is_empty() || !any_owned() {
        return Ok(None);
    }
    let tuple = args.tuple(py)?.iter().map(handed_out).collect::<PyResult<Vec<_>>>()?;
    let dict = args.dict(py)?.map(|dict| dict.copy()).transpose()?;
    if let Some(dict) = &dict {
        for (name, value) in dict.copy()? {
            dict.set_item(name, handed_out(value)?)?;
        }
    }
    Ok(Some((PyTuple::new(py, tuple)?, dict)))
}

/// A value as it may leave its actor: containers of fields are copied.
pub(crate) fn handed_out<'py>(value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if !may_change(&value) || !any_owned() || !holds_owned(&value) {
        return Ok(value);
    }
    deep_copy(&value)
}

fn holds_owned(value: &Bound<'_, PyAny>) -> bool {
    let mut seen = HashSet::new();
    let mut todo = vec![value.clone()];
    while let Some(value) = todo.pop() {
        let address = value.as_ptr() as usize;
        if !may_change(&value) || !seen.insert(address) {
            continue;
        }
        if OWNED.with(|owned| owned.borrow().addresses.contains(&address)) {
            return true;
        }
        if let Ok(list) = value.cast_exact::<PyList>() {
            todo.extend(list.iter());
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            todo.extend(dict.values().iter());
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            todo.extend(tuple.iter());
        } else if let Some(shape) = shapes::of(&value) {
            // What can't be read here can't be read by the copy either, which says so.
            match shape.values(&value) {
                Ok(values) => todo.extend(values),
                Err(_) => return true,
            }
        }
    }
    false
}
