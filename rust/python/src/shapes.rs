//! How the instances of records hold their values, so that what is changed in them can be undone, and so that they can
//! be copied.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::undoing::Undoing;

/// Where an instance holds its values.
pub(crate) enum Shape {
    /// In a dict, in slots, or both.
    Fields { mutable: bool, has_dict: bool, slots: Vec<Py<PyString>> },
    /// It is a tuple.
    Tuple { has_dict: bool },
}

struct Entry {
    shape: Arc<Shape>,
    /// How many name its class.
    names: usize,
    hashing: Hashing,
}

/// What is to be known of the hash of instances.
#[derive(Clone, Copy)]
struct Hashing {
    /// They may have one, and what changes in them nevertheless.
    in_sets: bool,
    /// It is code of the user, or their equality is.
    is_own: bool,
}

type Shapes = HashMap<usize, Entry>;

/// The shapes of all classes that live environments have as records, by address, and how many name each. An
/// address is taken out before its class goes.
static SHAPES: RwLock<Option<Shapes>> = RwLock::new(None);
/// How many there are: most programs have none, and must not wait for others to see that.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// How many of them may stand in sets, and have in them what changes.
static IN_SETS: AtomicUsize = AtomicUsize::new(0);
/// How many of them have a hash or an equality that is code of the user.
static OWN_HASH: AtomicUsize = AtomicUsize::new(0);

impl Hashing {
    fn of(class: &Bound<'_, PyType>) -> PyResult<Self> {
        let py = class.py();
        let hash = class.getattr(intern!(py, "__hash__"))?;
        // A tuple has a hash only if all in it have one.
        let of_tuples = py.get_type::<PyTuple>().getattr(intern!(py, "__hash__"))?;
        let in_sets = !hash.is_none() && !hash.is(&of_tuples);
        let is_own = in_sets
            && (is_written(class, &hash)? || is_written(class, &class.getattr(intern!(py, "__eq__"))?)?);
        Ok(Self { in_sets, is_own })
    }

    fn count(self, by: isize) {
        for (counts, count) in [(self.in_sets, &IN_SETS), (self.is_own, &OWN_HASH)] {
            if counts {
                // Adding `usize::MAX` takes one away.
                count.fetch_add(by as usize, Ordering::AcqRel);
            }
        }
    }
}

/// Whether a method was written by a user: what dataclasses and attrs make uses the fields only.
fn is_written(class: &Bound<'_, PyType>, method: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = class.py();
    let Ok(code) = method.getattr(intern!(py, "__code__")) else {
        return Ok(false);
    };
    let file = code.getattr(intern!(py, "co_filename"))?;
    if !file.extract::<String>()?.starts_with('<') {
        return Ok(true);
    }
    let fields = class.getattr(intern!(py, "__dataclass_fields__"));
    for name in code.getattr(intern!(py, "co_names"))?.try_iter()? {
        let name = name?;
        let text = name.extract::<String>()?;
        let is_known = ["hash", "__class__", "NotImplemented"].contains(&text.as_str());
        if !is_known && !fields.as_ref().is_ok_and(|fields| fields.contains(&name).unwrap_or(false)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Instances of this class are values from now on.
pub(crate) fn register(class: &Bound<'_, PyType>, shape: &Arc<Shape>) -> PyResult<()> {
    let hashing = Hashing::of(class)?;
    let mut shapes = SHAPES.write();
    let shapes = shapes.get_or_insert_default();
    let entry = shapes.entry(class.as_ptr() as usize).or_insert_with(|| {
        hashing.count(1);
        Entry { shape: shape.clone(), names: 0, hashing }
    });
    entry.names += 1;
    COUNT.store(shapes.len(), Ordering::Release);
    Ok(())
}

/// One that named a class is gone.
pub(crate) fn forget(address: usize) {
    let mut shapes = SHAPES.write();
    let gone = shapes.as_mut().and_then(|shapes| {
        let entry = shapes.get_mut(&address)?;
        entry.names -= 1;
        let gone = if entry.names == 0 { shapes.remove(&address) } else { None };
        COUNT.store(shapes.len(), Ordering::Release);
        gone
    });
    drop(shapes);
    if let Some(entry) = gone {
        entry.hashing.count(-1);
    }
}

/// Whether what stands in sets, and under which keys of dicts, may be changed.
pub(crate) fn any_in_sets() -> bool {
    IN_SETS.load(Ordering::Acquire) != 0
}

/// Whether hashing a value may run code of the user.
pub(crate) fn any_own_hash() -> bool {
    OWN_HASH.load(Ordering::Acquire) != 0
}

/// The shape of a value, if it is an instance of a record.
pub(crate) fn of(value: &Bound<'_, PyAny>) -> Option<Arc<Shape>> {
    if COUNT.load(Ordering::Acquire) == 0 {
        return None;
    }
    let class = value.get_type_ptr();
    // SAFETY: the type of a value that is alive. The classes of users are on the heap, those built in are not.
    if unsafe { ffi::PyType_GetFlags(class) } & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
        return None;
    }
    let shapes = SHAPES.read();
    Some(shapes.as_ref()?.get(&(class as usize))?.shape.clone())
}

/// What an instance held.
pub(crate) struct Held {
    dict: Option<Py<PyDict>>,
    slots: Vec<Option<Py<PyAny>>>,
}

impl Held {
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.dict)?;
        self.slots.iter().try_for_each(|slot| visit.call(slot))
    }
}

impl Shape {
    /// Whether its instances are changed in place.
    pub(crate) fn is_mutable(&self) -> bool {
        matches!(self, Self::Fields { mutable: true, .. })
    }

    /// The attributes of an instance, where they are in a dict.
    pub(crate) fn dict<'py>(&self, instance: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (Self::Fields { has_dict, .. } | Self::Tuple { has_dict }) = self;
        if !has_dict {
            return Ok(None);
        }
        // SAFETY: gives an owned reference, or null with an exception set.
        let dict = unsafe {
            Bound::from_owned_ptr_or_err(
                instance.py(),
                ffi::PyObject_GenericGetDict(instance.as_ptr(), std::ptr::null_mut()),
            )
        }?;
        Ok(Some(dict.cast_into::<PyDict>()?))
    }

    fn slots(&self) -> &[Py<PyString>] {
        match self {
            Self::Fields { slots, .. } => slots,
            Self::Tuple { .. } => &[],
        }
    }

    /// The values that an instance holds.
    pub(crate) fn values<'py>(&self, instance: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        if let Self::Tuple { .. } = self {
            return Ok(instance.cast::<PyTuple>()?.iter().collect());
        }
        let mut values = Vec::new();
        if let Some(dict) = self.dict(instance)? {
            values.extend(dict.values());
        }
        for slot in self.slots() {
            values.extend(get(instance, slot.bind(instance.py()))?);
        }
        Ok(values)
    }

    /// Keeps what an instance holds.
    pub(crate) fn hold(&self, instance: &Bound<'_, PyAny>) -> PyResult<Held> {
        let py = instance.py();
        let dict = self.dict(instance)?.map(|dict| dict.copy()).transpose()?.map(Bound::unbind);
        let slot = |slot: &Py<PyString>| Ok(get(instance, slot.bind(py))?.map(Bound::unbind));
        Ok(Held { dict, slots: self.slots().iter().map(slot).collect::<PyResult<_>>()? })
    }

    /// Whether an instance holds what it did.
    pub(crate) fn holds(&self, instance: &Bound<'_, PyAny>, held: &Held) -> PyResult<bool> {
        let py = instance.py();
        if let (Some(dict), Some(held)) = (self.dict(instance)?, &held.dict) {
            let held = held.bind(py);
            if dict.len() != held.len() {
                return Ok(false);
            }
            for (name, value) in held.copy()? {
                if !dict.get_item(name)?.is_some_and(|now| now.is(&value)) {
                    return Ok(false);
                }
            }
        }
        for (slot, held) in self.slots().iter().zip(&held.slots) {
            let now = get(instance, slot.bind(py))?;
            let same = match (&now, held) {
                (Some(now), Some(held)) => now.is(held),
                (None, None) => true,
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`Shape::holds`], where values that are `same` count as those before.
    pub(crate) fn holds_alike(
        &self,
        instance: &Bound<'_, PyAny>,
        held: &Held,
        same: impl Fn(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> bool,
    ) -> PyResult<bool> {
        let py = instance.py();
        if let (Some(dict), Some(held)) = (self.dict(instance)?, &held.dict) {
            let held = held.bind(py);
            if dict.len() != held.len() {
                return Ok(false);
            }
            for (name, value) in held.copy()? {
                if !dict.get_item(name)?.is_some_and(|now| same(&now, &value)) {
                    return Ok(false);
                }
            }
        }
        for (slot, held) in self.slots().iter().zip(&held.slots) {
            let now = get(instance, slot.bind(py))?;
            let same = match (&now, held) {
                (Some(now), Some(held)) => same(now, held.bind(py)),
                (None, None) => true,
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The values that an instance holds, with their names.
    pub(crate) fn named<'py>(
        &self,
        instance: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let py = instance.py();
        if let Self::Tuple { .. } = self {
            let nothing = py.None().into_bound(py);
            return Ok(instance.cast::<PyTuple>()?.iter().map(|item| (nothing.clone(), item)).collect());
        }
        let mut named: Vec<_> = self.dict(instance)?.map_or_else(Vec::new, |dict| dict.iter().collect());
        for slot in self.slots() {
            let slot = slot.bind(py);
            named.extend(get(instance, slot)?.map(|value| (slot.clone().into_any(), value)));
        }
        Ok(named)
    }

    /// Puts back what an instance held.
    pub(crate) fn restore(
        &self,
        instance: &Bound<'_, PyAny>,
        held: &Held,
        undoing: &mut Undoing,
    ) -> PyResult<()> {
        let py = instance.py();
        if let (Some(dict), Some(held)) = (self.dict(instance)?, &held.dict) {
            undoing.drop_later(dict.copy()?.into_any().unbind());
            dict.clear();
            dict.update(held.bind(py).as_mapping())?;
        }
        for (slot, held) in self.slots().iter().zip(&held.slots) {
            let (slot, held) = (slot.bind(py), held.as_ref().map(|held| held.bind(py)));
            let now = get(instance, slot)?;
            if held.is_some() || now.is_some() {
                if let Some(now) = now {
                    undoing.drop_later(now.unbind());
                }
                set(instance, slot, held)?;
            }
        }
        Ok(())
    }

    /// Puts other values into an instance in place of those that it did not hold, where there are some.
    pub(crate) fn replace_changed<'py>(
        &self,
        instance: &Bound<'py, PyAny>,
        held: &Held,
        mut other: impl FnMut(&Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<()> {
        let py = instance.py();
        if let Some(dict) = self.dict(instance)? {
            for (name, value) in dict.copy()? {
                let before = held.dict.as_ref().map(|held| held.bind(py).get_item(&name)).transpose()?;
                if before.flatten().is_some_and(|before| before.is(&value)) {
                    continue;
                }
                if let Some(other) = other(&value)? {
                    dict.set_item(name, other)?;
                }
            }
        }
        for (slot, held) in self.slots().iter().zip(&held.slots) {
            let slot = slot.bind(py);
            if let Some(value) = get(instance, slot)?
                && !held.as_ref().is_some_and(|held| held.is(&value))
                && let Some(other) = other(&value)?
            {
                set(instance, slot, Some(&other))?;
            }
        }
        Ok(())
    }

    /// Puts other values into an instance in place of those for which there are some.
    pub(crate) fn replace<'py>(
        &self,
        instance: &Bound<'py, PyAny>,
        mut other: impl FnMut(&Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<()> {
        if let Some(dict) = self.dict(instance)? {
            for (name, value) in dict.copy()? {
                if let Some(other) = other(&value)? {
                    dict.set_item(name, other)?;
                }
            }
        }
        for slot in self.slots() {
            let slot = slot.bind(instance.py());
            if let Some(value) = get(instance, slot)?
                && let Some(other) = other(&value)?
            {
                set(instance, slot, Some(&other))?;
            }
        }
        Ok(())
    }

    /// An instance that holds the same values.
    pub(crate) fn copy<'py>(&self, instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let copy = blank(&instance.get_type())?;
        if let (Some(from), Some(to)) = (self.dict(instance)?, self.dict(&copy)?) {
            to.update(from.as_mapping())?;
        }
        for slot in self.slots() {
            let slot = slot.bind(instance.py());
            if let Some(value) = get(instance, slot)? {
                set(&copy, slot, Some(&value))?;
            }
        }
        Ok(copy)
    }
}

/// An instance without its fields.
pub(crate) fn blank<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    py.get_type::<PyAny>().call_method1(intern!(py, "__new__"), (class,))
}

/// A tuple of a class of its own.
pub(crate) fn tuple<'py>(
    class: &Bound<'py, PyType>,
    items: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    py.get_type::<PyTuple>().call_method1(intern!(py, "__new__"), (class, PyTuple::new(py, items)?))
}

/// An attribute of an instance, without code of its class.
pub(crate) fn get<'py>(
    instance: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = instance.py();
    // SAFETY: both are alive; the answer is an owned reference, or null with an exception set.
    let found = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyObject_GenericGetAttr(instance.as_ptr(), name.as_ptr()))
    };
    match found {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets an attribute of an instance, or deletes it, without code of its class.
pub(crate) fn set<'py>(
    instance: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    value: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    let value = value.map_or(std::ptr::null_mut(), |value| value.as_ptr());
    // SAFETY: all are alive, and no value means that the attribute goes; -1 means that an exception is set.
    match unsafe { ffi::PyObject_GenericSetAttr(instance.as_ptr(), name.as_ptr(), value) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(instance.py())),
    }
}
