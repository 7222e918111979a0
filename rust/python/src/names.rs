//! The names of actors.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// An actor's debug name (ACT-15).
pub(crate) struct Name {
    pub(crate) text: Py<PyString>,
    /// Given with `spawn_named`, so it is stored.
    pub(crate) given: bool,
}

/// The place for a name, which is set once: one word, since each actor in memory has it.
///
/// It owns a reference to the text. Objects have even addresses: the lowest bit says whether the name was given.
pub(crate) struct Named(AtomicPtr<PyObject>);

const GIVEN: usize = 1;

impl Named {
    /// For a name that is not known yet.
    pub(crate) const fn not_yet() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    pub(crate) fn of(name: Name) -> Self {
        Self(AtomicPtr::new(name.into_word()))
    }

    /// Sets it, unless it is known.
    pub(crate) fn set(&self, name: Name) {
        let word = name.into_word();
        if self.0.compare_exchange(null_mut(), word, Ordering::AcqRel, Ordering::Acquire).is_err() {
            drop(Self(AtomicPtr::new(word)));
        }
    }

    pub(crate) fn get<'a, 'py>(&'a self, py: Python<'py>) -> Option<Borrowed<'a, 'py, PyString>> {
        let text = self.0.load(Ordering::Acquire).map_addr(|address| address & !GIVEN);
        // SAFETY: it is null, or a text to which this place has a reference as long as it lives.
        unsafe { Borrowed::from_ptr_or_opt(py, text).map(|text| text.cast_unchecked()) }
    }

    /// The name, if it was given.
    pub(crate) fn given<'a, 'py>(&'a self, py: Python<'py>) -> Option<Borrowed<'a, 'py, PyString>> {
        self.get(py).filter(|_| self.0.load(Ordering::Acquire).addr() & GIVEN != 0)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let text = self.0.get_mut().map_addr(|address| address & !GIVEN);
        if !text.is_null() {
            // SAFETY: a text to which this place has had a reference. The thread that drops an object is attached.
            drop(unsafe { Bound::from_owned_ptr(Python::assume_attached(), text) });
        }
    }
}

impl Name {
    fn into_word(self) -> *mut PyObject {
        self.text.into_ptr().map_addr(|address| if self.given { address | GIVEN } else { address })
    }
}
