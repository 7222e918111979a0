//! What comes up while containers get back what they held.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyList, PySet};

use crate::attaching::attached;
use crate::rebuilding::rebuilt;
use crate::shapes;

/// Whatever happens to one container, the others are restored.
#[derive(Default)]
pub(crate) struct Undoing {
    /// Dropped when all is as it was: finalizers may run any code.
    rest: Vec<Py<PyAny>>,
    /// Arrays that could not get back what they held, and those that hold it.
    replaced: Vec<(Py<PyByteArray>, Py<PyByteArray>)>,
    error: Option<PyErr>,
}

impl Undoing {
    pub(crate) fn drop_later(&mut self, value: Py<PyAny>) {
        self.rest.push(value);
    }

    /// An array gets its size back no more: another one stands for it from now on.
    pub(crate) fn replace(&mut self, bytes: &Bound<'_, PyByteArray>, held: &[u8]) {
        let fresh = PyByteArray::new(bytes.py(), held);
        self.replaced.push((bytes.clone().unbind(), fresh.unbind()));
    }

    pub(crate) fn failed(&mut self, error: PyErr) {
        self.error.get_or_insert(error);
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.error.is_none()
    }

    /// The first error that there was.
    pub(crate) fn into_error(self) -> Option<PyErr> {
        self.error
    }

    pub(crate) fn has_replacements(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Puts those that replace others into a container that held these.
    pub(crate) fn put_replacements(&self, container: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.replaced.is_empty() {
            return Ok(());
        }
        if let Ok(list) = container.cast_exact::<PyList>() {
            for index in 0..list.len() {
                if let Some(other) = self.instead(&list.get_item(index)?)? {
                    list.set_item(index, other)?;
                }
            }
        } else if let Ok(dict) = container.cast_exact::<PyDict>() {
            for (key, value) in dict.copy()? {
                if let Some(other) = self.instead(&value)? {
                    dict.set_item(key, other)?;
                }
            }
        } else if let Ok(set) = container.cast_exact::<PySet>() {
            for member in set.iter().collect::<Vec<_>>() {
                if let Some(other) = self.instead(&member)? {
                    set.discard(member)?;
                    set.add(other)?;
                }
            }
        } else if let Some(shape) = shapes::of(container) {
            shape.replace(container, |value| self.instead(value))?;
        }
        Ok(())
    }

    /// What is to stand in place of a value, or of one that can't be changed and holds such a value.
    fn instead<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = value.py();
        if let Some((_, fresh)) = self.replaced.iter().find(|(old, _)| old.is(value)) {
            return Ok(Some(fresh.bind(py).clone().into_any()));
        }
        rebuilt(value, |part| self.instead(part))
    }
}

/// Does something on a thread of its own: signals are handled on the main thread only.
pub(crate) fn undisturbed(
    py: Python<'_>,
    does: impl FnOnce(Python<'_>) -> PyResult<()> + Send,
) -> PyResult<()> {
    py.detach(|| {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("goblins-undo".to_owned());
            let ended = || PyRuntimeError::new_err("the interpreter is shutting down: nothing can be undone");
            let work = move || attached(does).unwrap_or_else(|| Err(ended()));
            let done = thread.spawn_scoped(scope, work).map(|thread| thread.join());
            done.map_err(PyErr::from)?.unwrap_or_else(|_| Err(PyRuntimeError::new_err("a panic in an undo")))
        })
    })
}
