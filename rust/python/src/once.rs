//! What is found out once, by Python code.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// What the cell holds, or else what is made now. Making it may run Python code, and in that any handler of a signal or
/// finalizer that needs the same. So nothing is locked meanwhile, and what came first stays.
pub(crate) fn once<'a, T>(
    py: Python<'_>,
    cell: &'a PyOnceLock<T>,
    make: impl FnOnce() -> PyResult<T>,
) -> PyResult<&'a T> {
    if let Some(found) = cell.get(py) {
        return Ok(found);
    }
    let made = make()?;
    Ok(cell.get_or_init(py, || made))
}
