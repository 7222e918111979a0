//! The codec by itself, for tests.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::cbor;
use crate::errors::{not_portable, persistence_error};

/// The bytes that a value is stored as. It may hold no references.
#[pyfunction]
pub(crate) fn _encode<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let mut bytes = Vec::new();
    cbor::encode(value, &mut cbor::NoRefs, &mut bytes).map_err(|error| {
        error.into_error(|reason, path| not_portable("the value", "", 0, "", &format!("value{path}"), reason))
    })?;
    Ok(PyBytes::new(value.py(), &bytes))
}

/// The value that bytes stand for.
#[pyfunction]
pub(crate) fn _decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    cbor::decode_all(py, bytes, &cbor::NoActors).map_err(|error| {
        error.into_error(|error| persistence_error(format!("the bytes can't be read: {error}")))
    })
}
