//! Fields that are set past their class, as `object.__setattr__(self, "value", 5)` does it: that is neither undone nor
//! stored.
//!
//! Up to 3.12, CPython itself refuses such a call. Later it lets it through, but tells who watches the dict that holds
//! the fields, before it changes. He can't refuse it. So what was there is noted and put back, and the method that did it
//! raises when it returns.

#[cfg(Py_3_13)]
pub(crate) use watched::{WATCHES, check, is_any, judge, own, put_back, unwatch, watch};

#[cfg(Py_3_13)]
mod watched {
    use std::cell::Cell;
    use std::ffi::c_int;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::ThreadId;

    use parking_lot::Mutex;
    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::sync::PyOnceLock;
    use pyo3::types::PyDict;

    use crate::errors::behavior_error;

    unsafe extern "C" {
        fn PyDict_AddWatcher(callback: Callback) -> c_int;
    }

    type Callback = extern "C" fn(c_int, *mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> c_int;

    /// The last of the events that name a key: an entry is added, changed, or deleted.
    const DELETED: c_int = 2;

    /// What stood in the fields of an instance before one of them was set past the class.
    struct Past {
        fields: Py<PyDict>,
        name: Py<PyAny>,
        before: Option<Py<PyAny>>,
        thread: ThreadId,
    }

    static NOTED: Mutex<Vec<Past>> = Mutex::new(Vec::new());
    static COUNT: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        /// This thread changes fields as the library does it.
        static OWN: Cell<bool> = const { Cell::new(false) };
    }

    /// The dict that holds the fields is watched.
    pub(crate) const WATCHES: bool = true;

    /// Whoever changes these fields without [`own`] does it past the class.
    pub(crate) fn watch(fields: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = fields.py();
        // SAFETY: a dict that is alive; -1 means that an exception is set.
        match unsafe { ffi::PyDict_Watch(watcher(py)?, fields.as_ptr()) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(py)),
        }
    }

    /// These fields may be changed by anybody from now on.
    pub(crate) fn unwatch(fields: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = fields.py();
        // SAFETY: as above.
        match unsafe { ffi::PyDict_Unwatch(watcher(py)?, fields.as_ptr()) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(py)),
        }
    }

    fn watcher(py: Python<'_>) -> PyResult<c_int> {
        static WATCHER: PyOnceLock<c_int> = PyOnceLock::new();
        let made = || {
            // SAFETY: the function stays as long as the process; -1 means that an exception is set.
            match unsafe { PyDict_AddWatcher(note) } {
                -1 => Err(PyErr::fetch(py)),
                watcher => Ok(watcher),
            }
        };
        WATCHER.get_or_try_init(py, made).copied()
    }

    /// Changes fields as the library does it.
    #[inline]
    pub(crate) fn own<T>(does: impl FnOnce() -> T) -> T {
        struct Before(bool);
        impl Drop for Before {
            fn drop(&mut self) {
                OWN.set(self.0);
            }
        }
        let _before = Before(OWN.replace(true));
        does()
    }

    extern "C" fn note(
        event: c_int,
        fields: *mut ffi::PyObject,
        name: *mut ffi::PyObject,
        _value: *mut ffi::PyObject,
    ) -> c_int {
        // One that can't be asked is about to end, and its finalizers with it.
        if event <= DELETED && !OWN.try_with(Cell::get).unwrap_or(true) {
            // SAFETY: called by the interpreter, with a dict and a key that are alive.
            unsafe { note_past(Python::assume_attached(), fields, name) };
        }
        0
    }

    /// # Safety
    /// The first is a dict, and both are alive.
    #[cold]
    unsafe fn note_past(py: Python<'_>, fields: *mut ffi::PyObject, name: *mut ffi::PyObject) {
        // SAFETY: as the caller says.
        let (fields, name) = unsafe {
            (
                Bound::from_borrowed_ptr(py, fields).cast_into_unchecked::<PyDict>(),
                Bound::from_borrowed_ptr(py, name),
            )
        };
        // A name whose hash raises can't be in a dict.
        let before = fields.get_item(&name).ok().flatten().map(Bound::unbind);
        let thread = std::thread::current().id();
        let mut noted = NOTED.lock();
        noted.push(Past { fields: fields.unbind(), name: name.unbind(), before, thread });
        COUNT.store(noted.len(), Ordering::Relaxed);
    }

    /// Whether anything was set past its class, and not put back yet.
    #[inline]
    pub(crate) fn is_any() -> bool {
        COUNT.load(Ordering::Relaxed) != 0
    }

    /// Puts back what was set past its class. An error if this thread has done that; others can't be told any more.
    #[cold]
    #[inline(never)]
    pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
        let noted = {
            let mut noted = NOTED.lock();
            COUNT.store(0, Ordering::Relaxed);
            std::mem::take(&mut *noted)
        };
        let here = std::thread::current().id();
        let (mut own_name, mut other_name) = (None, None);
        for Past { fields, name, before, thread } in noted.iter().rev() {
            let (fields, name) = (fields.bind(py), name.bind(py));
            own(|| match before {
                Some(before) => fields.set_item(name, before),
                None if fields.contains(name)? => fields.del_item(name),
                None => Ok(()),
            })?;
            let said = if *thread == here { &mut own_name } else { &mut other_name };
            *said = Some(name);
        }
        if let Some(name) = other_name {
            refused(name).write_unraisable(py, None);
        }
        own_name.map_or(Ok(()), |name| Err(refused(name)))
    }

    /// As [`check`], outside of the code that has done it.
    #[cold]
    #[inline(never)]
    pub(crate) fn put_back(py: Python<'_>) {
        if let Err(refused) = check(py) {
            refused.write_unraisable(py, None);
        }
    }

    /// As [`check`], where the code that has done it has come to an end.
    #[cold]
    #[inline(never)]
    pub(crate) fn judge<T>(py: Python<'_>, answer: PyResult<T>) -> PyResult<T> {
        match (check(py), answer) {
            (Ok(()), answer) => answer,
            (Err(refused), Ok(_)) => Err(refused),
            (Err(refused), Err(error)) => {
                refused.write_unraisable(py, None);
                Err(error)
            }
        }
    }

    fn refused(name: &Bound<'_, PyAny>) -> PyErr {
        behavior_error(format!(
            "an actor's {name} was set past its class, where it would be neither undone nor stored; that was taken back: \
             assign it in a method, as in `self.{name} = ...`, or let setattr do it"
        ))
    }
}

/// CPython refuses what this is about.
#[cfg(not(Py_3_13))]
mod refused {
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    pub(crate) const WATCHES: bool = false;

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
    pub(crate) fn watch(_fields: &Bound<'_, PyDict>) -> PyResult<()> {
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
    pub(crate) fn unwatch(_fields: &Bound<'_, PyDict>) -> PyResult<()> {
        Ok(())
    }

    pub(crate) fn own<T>(does: impl FnOnce() -> T) -> T {
        does()
    }

    pub(crate) const fn is_any() -> bool {
        false
    }

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
    pub(crate) fn check(_py: Python<'_>) -> PyResult<()> {
        Ok(())
    }

    pub(crate) fn put_back(_py: Python<'_>) {}

    pub(crate) fn judge<T>(_py: Python<'_>, answer: PyResult<T>) -> PyResult<T> {
        answer
    }
}
#[cfg(not(Py_3_13))]
pub(crate) use refused::{WATCHES, check, is_any, judge, own, put_back, unwatch, watch};
