//! What is said of a broken promise that goes and whose outcome nobody has asked for (guarantee G10).
//!
//! An error is looked into only while it is whole. A promise that goes with the last reference to it still holds
//! its error. The garbage collector takes a cycle apart in any order, and may have emptied the error before it
//! comes to the promise. So the promise speaks when the collector announces the end to all objects of the cycle,
//! which it does before it empties the first of them (PEP 442). That happens once in the life of an object: one that
//! somebody brought back then is silent about all but the class of its error, should it end in a cycle once more.

use std::panic::{AssertUnwindSafe, catch_unwind};

use goblins_core::promise::{Outcome, Progress};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

use crate::errors::{Fault, aside, log_unheard, log_without_error};
use crate::promise::{Promise, describe};

/// Has the collector announce the end of promises.
pub(crate) fn install(py: Python<'_>) {
    let class = Promise::type_object_raw(py);
    // SAFETY: the class is ours, has no subclasses, and has no finalizer: PyO3 gives its classes none.
    unsafe { (*class).tp_finalize = Some(announce) }
}

unsafe extern "C" fn announce(object: *mut ffi::PyObject) {
    Python::try_attach(|py| {
        // SAFETY: the collector calls this with a promise, which is alive.
        let promise = unsafe { Borrowed::from_ptr(py, object).cast_unchecked::<Promise>() };
        let speak = || promise.get().speak_before_the_end(py);
        // The hook for panics has told of it, and nothing may unwind into the interpreter.
        aside(py, |_| drop(catch_unwind(AssertUnwindSafe(speak))));
    });
}

impl Promise {
    fn speak_before_the_end(&self, py: Python<'_>) {
        self.note_announced();
        let unheard = {
            let Some(mut state) = self.cell.try_state() else { return };
            match &state.progress {
                Progress::Settled(Outcome::Broken(error), _) if !state.heard => {
                    let error = error.clone_ref(py);
                    state.heard = true;
                    Some(error)
                }
                _ => None,
            }
        };
        if let Some(error) = unheard {
            log_unheard(py, &self.epitaph(py), &error);
        }
    }

    /// Logs an error that nobody asked for, when all that the promise held is let go.
    pub(crate) fn speak_at_the_end(&self, py: Python<'_>, error: &Fault) {
        if self.was_announced() {
            let class = error.class_name(py);
            log_without_error(py, &format!("{} (with an error of the class {class})", self.epitaph(py)));
        } else {
            log_unheard(py, &self.epitaph(py), error);
        }
    }

    fn epitaph(&self, py: Python<'_>) -> String {
        let place = self.place(py).map_or_else(String::new, |place| format!(", {place},"));
        format!("{}{place} broke, and nobody asked for its outcome", describe(py, self))
    }
}
