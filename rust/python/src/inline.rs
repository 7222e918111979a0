//! The values of an instance that CPython has not made a dict for.
//!
//! CPython up to 3.12 keeps the fields of an instance in an array as long as nobody asks for its `__dict__`, and the names
//! in a table that belongs to the class. So an actor takes less memory, and code reads its fields faster. What is read
//! here is laid out like this in all versions of 3.11 and 3.12; later ones are left to their dicts.

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::class_actor::ActorBase;

/// The value of a field, which most likely stands at this index. `None`: look into the dict.
#[cfg(not(Py_3_13))]
pub(crate) fn get<'py>(
    instance: &Bound<'py, ActorBase>,
    index: usize,
    field: &Bound<'py, PyString>,
) -> Option<Option<Bound<'py, PyAny>>> {
    let slots = table::Slots::of(instance)?;
    Some(slots.index_of(index, field).and_then(|index| slots.value(index)))
}

/// All values, in no order. `None`: look into the dict.
#[cfg(not(Py_3_13))]
pub(crate) fn values<'py>(instance: &Bound<'py, ActorBase>) -> Option<Vec<Bound<'py, PyAny>>> {
    let slots = table::Slots::of(instance)?;
    Some((0..slots.len()).filter_map(|index| slots.value(index)).collect())
}

/// How many fields have a value. `None`: look into the dict.
#[cfg(not(Py_3_13))]
pub(crate) fn count(instance: &Bound<'_, ActorBase>) -> Option<usize> {
    let slots = table::Slots::of(instance)?;
    Some((0..slots.len()).filter(|index| slots.has(*index)).count())
}

/// Gives a field a value, or takes it away. False: that is to be done in the dict.
#[cfg(not(Py_3_13))]
pub(crate) fn set(
    instance: &Bound<'_, ActorBase>,
    field: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    if table::Slots::of(instance).is_none() || table::has_setter(instance, field) {
        return Ok(false);
    }
    let value = value.map_or_else(std::ptr::null_mut, Bound::as_ptr);
    crate::class_actor::generic_set(instance, field, value)?;
    Ok(true)
}

#[cfg(not(Py_3_13))]
mod table {
    use pyo3::ffi::{self, PyHeapTypeObject, PyObject, PyTypeObject};
    use pyo3::prelude::*;
    use pyo3::types::PyString;

    use crate::class_actor::ActorBase;

    unsafe extern "C" {
        fn _PyType_Lookup(class: *mut PyTypeObject, name: *mut PyObject) -> *mut PyObject;
    }

    /// The head of a table of names.
    #[repr(C)]
    struct Keys {
        references: isize,
        log2_size: u8,
        log2_index_bytes: u8,
        kind: u8,
        version: u32,
        usable: isize,
        entries: isize,
        // The hash table follows, and then the entries.
    }

    /// The kind of a table that instances share.
    const SHARED: u8 = 2;

    #[repr(C)]
    struct Entry {
        key: *mut PyObject,
        unused: *mut PyObject,
    }

    /// The array of an instance, and the names for it. To be used at once: any code of Python may do away with the array.
    pub(super) struct Slots<'a, 'py> {
        instance: &'a Bound<'py, ActorBase>,
        names: *const Entry,
        values: *const *mut PyObject,
        len: usize,
    }

    impl<'a, 'py> Slots<'a, 'py> {
        #[inline]
        pub(super) fn of(instance: &'a Bound<'py, ActorBase>) -> Option<Self> {
            let class = instance.get_type_ptr();
            // SAFETY: a type that is alive. One with this flag was made by a `class` statement, and so is of the larger
            // kind, and its instances have two more words before their head.
            let (values, keys) = unsafe {
                if ffi::PyType_GetFlags(class) & ffi::Py_TPFLAGS_MANAGED_DICT == 0 {
                    return None;
                }
                let keys = (*class.cast::<PyHeapTypeObject>()).ht_cached_keys.cast::<Keys>();
                (array(instance.as_ptr()), keys.cast_const())
            };
            if values.is_null() || keys.is_null() {
                return None;
            }
            // SAFETY: the table belongs to the class. The array has room for as many values as it may ever get names.
            unsafe {
                if (*keys).kind != SHARED {
                    return None;
                }
                let names = keys.add(1).cast::<u8>().add(1 << (*keys).log2_index_bytes).cast();
                Some(Self { instance, names, values, len: (*keys).entries.unsigned_abs() })
            }
        }

        pub(super) fn len(&self) -> usize {
            self.len
        }

        fn name(&self, index: usize) -> *mut PyObject {
            debug_assert!(index < self.len);
            // SAFETY: it is one of so many entries.
            unsafe { (*self.names.add(index)).key }
        }

        fn raw(&self, index: usize) -> *mut PyObject {
            debug_assert!(index < self.len);
            // SAFETY: it is one of so many values.
            unsafe { *self.values.add(index) }
        }

        /// Where the value of a name stands, which most likely is here.
        pub(super) fn index_of(&self, index: usize, name: &Bound<'py, PyString>) -> Option<usize> {
            let is_it = |index: &usize| self.name(*index) == name.as_ptr();
            if index < self.len && is_it(&index) {
                return Some(index);
            }
            (0..self.len).find(is_it).or_else(|| self.index_of_equal(name))
        }

        /// An equal name may be another object.
        #[cold]
        fn index_of_equal(&self, name: &Bound<'py, PyString>) -> Option<usize> {
            // SAFETY: both are texts that are alive. They are compared as such, which runs no code of Python.
            let is_equal = |index: &usize| unsafe {
                let key = self.name(*index);
                !key.is_null() && ffi::PyUnicode_Compare(key, name.as_ptr()) == 0
            };
            (0..self.len).find(is_equal)
        }

        pub(super) fn has(&self, index: usize) -> bool {
            !self.raw(index).is_null()
        }

        pub(super) fn value(&self, index: usize) -> Option<Bound<'py, PyAny>> {
            // SAFETY: the instance has a reference to it.
            unsafe { Bound::from_borrowed_ptr_or_opt(self.instance.py(), self.raw(index)) }
        }
    }

    /// The array of an instance; null if it has a dict.
    ///
    /// # Safety
    /// It has the words for either before its head.
    #[inline]
    unsafe fn array(instance: *mut PyObject) -> *const *mut PyObject {
        let words = instance.cast::<*mut PyObject>();
        // SAFETY: as the caller says.
        #[cfg(not(Py_3_12))]
        let array = unsafe { words.sub(4).read() };
        // One word is for both. One less than the address of an array tells it from a dict.
        // SAFETY: as above.
        #[cfg(Py_3_12)]
        let array = unsafe {
            let word = words.sub(3).read();
            if word.addr() & 1 == 0 { std::ptr::null_mut() } else { word.byte_add(1) }
        };
        array.cast::<*mut PyObject>().cast_const()
    }

    /// Whether the class says what becomes of what is set under a name.
    pub(super) fn has_setter(instance: &Bound<'_, ActorBase>, name: &Bound<'_, PyString>) -> bool {
        // SAFETY: both are alive. The answer is borrowed from the class, or null.
        unsafe {
            let found = _PyType_Lookup(instance.get_type_ptr(), name.as_ptr());
            if found.is_null() {
                // It may have failed to compute the hash of a name, which a text has.
                ffi::PyErr_Clear();
                return false;
            }
            (*ffi::Py_TYPE(found)).tp_descr_set.is_some()
        }
    }
}

#[cfg(Py_3_13)]
pub(crate) fn get<'py>(
    _instance: &Bound<'py, ActorBase>,
    _index: usize,
    _field: &Bound<'py, PyString>,
) -> Option<Option<Bound<'py, PyAny>>> {
    None
}

#[cfg(Py_3_13)]
pub(crate) fn values<'py>(_instance: &Bound<'py, ActorBase>) -> Option<Vec<Bound<'py, PyAny>>> {
    None
}

#[cfg(Py_3_13)]
pub(crate) fn count(_instance: &Bound<'_, ActorBase>) -> Option<usize> {
    None
}

#[cfg(Py_3_13)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
pub(crate) fn set(
    _instance: &Bound<'_, ActorBase>,
    _field: &Bound<'_, PyString>,
    _value: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    Ok(false)
}
