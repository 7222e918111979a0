//! Names that a program gives: text that has a UTF-8, and paths.

use std::path::PathBuf;

use pyo3::exceptions::{PyTypeError, PyUnicodeEncodeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// The text of a name.
pub(crate) fn text(what: &str, wanted: &Bound<'_, PyAny>) -> PyResult<String> {
    match wanted.cast::<PyString>() {
        Ok(text) => checked(|| what.to_owned(), text).map(str::to_owned),
        Err(_) => Err(PyTypeError::new_err(format!("{what} is a str, not {}", wanted.repr()?))),
    }
}

/// The text of a name that is a str.
pub(crate) fn checked<'a>(what: impl Fn() -> String, text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    text.to_str().or_else(|_| {
        let (what, text) = (what(), text.repr()?);
        Err(PyValueError::new_err(format!("{what} is text without lone surrogates, not {text}")))
    })
}

/// A path as Python's own functions take it: text, bytes, or an object that stands for one.
pub(crate) struct Folder(pub(crate) PathBuf);

impl<'py> FromPyObject<'_, 'py> for Folder {
    type Error = PyErr;

    fn extract(path: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = path.py();
        let decoded = py.import("os")?.call_method1("fsdecode", (path,))?;
        let refused = |rule: &str| -> PyResult<PyErr> {
            Ok(PyValueError::new_err(format!("the path of a store {rule}, unlike {}", decoded.repr()?)))
        };
        match decoded.extract::<PathBuf>() {
            Ok(found) if found.as_os_str().as_encoded_bytes().contains(&0) => {
                Err(refused("has no NUL in it")?)
            }
            Ok(found) => Ok(Self(found)),
            Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(py) => {
                Err(refused("is text that the system's encoding of names can hold")?)
            }
            Err(error) => Err(error),
        }
    }
}
