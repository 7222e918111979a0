//! CPython inside a bench, with the package `goblins` and the binding of this build.

use std::ffi::CString;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The module that a text is, after `goblins` was made ready for it.
pub fn load<'py>(py: Python<'py>, file: &str, code: &str) -> PyResult<Bound<'py, PyModule>> {
    import_goblins(py)?;
    let name = file.strip_suffix(".py").unwrap_or(file);
    let [code, file, name] = [code, file, name].map(CString::new);
    PyModule::from_code(py, &code?, &file?, &name?)
}

/// Puts the binding that is linked with this program where the package looks for it. What `make build` has
/// left in the package's folder is of another build.
fn import_goblins(py: Python<'_>) -> PyResult<()> {
    let binding = pyo3::wrap_pymodule!(_goblins::_goblins)(py);
    let sys = py.import("sys")?;
    sys.getattr("modules")?.set_item("goblins._goblins", &binding)?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../python");
    sys.getattr("path")?.call_method1("insert", (0, folder))?;
    let used = py.import("goblins")?.getattr("_goblins")?;
    if used.is(&binding) {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!("the package goblins took another binding: {used}")))
}
