//! A place in an object of which there are many: for something that only threads attached to the interpreter look at.

use std::sync::Arc;

use pyo3::prelude::*;

pub(crate) use place::Held;

/// What another reference can be made of without running any code.
pub(crate) trait Share {
    fn share(&self, py: Python<'_>) -> Self;
}

impl<T> Share for Py<T> {
    fn share(&self, py: Python<'_>) -> Self {
        self.clone_ref(py)
    }
}

impl<T> Share for Arc<T> {
    fn share(&self, _py: Python<'_>) -> Self {
        self.clone()
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod place {
    use std::cell::UnsafeCell;

    use pyo3::gc::PyVisit;
    use pyo3::prelude::*;

    use super::Share;

    /// It needs no lock: one thread at a time is attached, and nothing that is done here lets in another one, or any code
    /// of Python.
    pub(crate) struct Held<T>(UnsafeCell<Option<T>>);

    // SAFETY: whoever uses it is attached, or is the collector, which runs on an attached thread. There is one such thread
    // at a time: the module works in the main interpreter only. No method comes to run Python code while it has a
    // reference to the content, so none runs within another one.
    unsafe impl<T: Send + Sync> Sync for Held<T> {}

    impl<T: Share> Held<T> {
        pub(crate) const fn none() -> Self {
            Self(UnsafeCell::new(None))
        }

        pub(crate) fn is_some(&self, _py: Python<'_>) -> bool {
            // SAFETY: nobody else has a reference to the content, as said above.
            unsafe { (*self.0.get()).is_some() }
        }

        pub(crate) fn get(&self, py: Python<'_>) -> Option<T> {
            // SAFETY: as above.
            unsafe { (*self.0.get()).as_ref().map(|held| held.share(py)) }
        }

        /// Gives what was there, to be dropped by the caller: that may run any code.
        pub(crate) fn replace(&self, _py: Python<'_>, held: Option<T>) -> Option<T> {
            // SAFETY: as above.
            unsafe { std::mem::replace(&mut *self.0.get(), held) }
        }

        /// For the collector.
        pub(crate) fn visited<R>(&self, _visit: &PyVisit<'_>, look: impl FnOnce(&T) -> R) -> Option<R> {
            // SAFETY: as above; what the collector does with what it is shown runs no code of Python.
            unsafe { (*self.0.get()).as_ref().map(look) }
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod place {
    use parking_lot::Mutex;
    use pyo3::gc::PyVisit;
    use pyo3::prelude::*;

    use super::Share;

    /// Attached threads run at the same time.
    pub(crate) struct Held<T>(Mutex<Option<T>>);

    impl<T: Share> Held<T> {
        pub(crate) const fn none() -> Self {
            Self(Mutex::new(None))
        }

        pub(crate) fn is_some(&self, _py: Python<'_>) -> bool {
            self.0.lock().is_some()
        }

        pub(crate) fn get(&self, py: Python<'_>) -> Option<T> {
            self.0.lock().as_ref().map(|held| held.share(py))
        }

        pub(crate) fn replace(&self, _py: Python<'_>, held: Option<T>) -> Option<T> {
            std::mem::replace(&mut *self.0.lock(), held)
        }

        pub(crate) fn visited<R>(&self, _visit: &PyVisit<'_>, look: impl FnOnce(&T) -> R) -> Option<R> {
            self.0.try_lock().as_deref().and_then(Option::as_ref).map(look)
        }
    }
}
