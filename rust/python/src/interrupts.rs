//! Ctrl-C, which comes up in whatever the main thread runs.

use goblins_core::host::Host;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTraceback};

use crate::host::PyHost;

/// Whether an error is a Ctrl-C: not one that code has raised itself.
///
/// Nothing here runs Python code, in which another one might come up.
pub(crate) fn is_interrupt(py: Python<'_>, error: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>() && came_by_signal(py, error).unwrap_or(true)
}

fn came_by_signal(py: Python<'_>, error: &Bound<'_, PyAny>) -> PyResult<bool> {
    let main = py.import(intern!(py, "threading"))?.getattr(intern!(py, "_main_thread"))?;
    if main.getattr(intern!(py, "_ident"))?.extract::<u64>()? != PyHost::thread_id() {
        return Ok(false);
    }
    let handler = code_of_handler(py)?;
    let mut next = error.getattr(intern!(py, "__traceback__"))?;
    let mut raised = false;
    while let Ok(traceback) = next.cast_exact::<PyTraceback>() {
        let code = traceback.getattr(intern!(py, "tb_frame"))?.getattr(intern!(py, "f_code"))?;
        if handler.as_ref().is_some_and(|handler| handler.is(&code)) {
            return Ok(true);
        }
        let place: usize = traceback.getattr(intern!(py, "tb_lasti"))?.extract()?;
        raised = raises(&code, place)?;
        let after = traceback.getattr(intern!(py, "tb_next"))?;
        next = after;
    }
    Ok(!raised)
}

/// Whether a `raise` stands at this place of a code object.
fn raises(code: &Bound<'_, PyAny>, place: usize) -> PyResult<bool> {
    let py = code.py();
    let names = py.import(intern!(py, "opcode"))?.getattr(intern!(py, "opmap"))?;
    let raise: u8 = names.get_item(intern!(py, "RAISE_VARARGS"))?.extract()?;
    let bytes = code.getattr(intern!(py, "co_code"))?.cast_into::<PyBytes>()?;
    Ok(bytes.as_bytes().get(place) == Some(&raise))
}

/// The code of the function that handles Ctrl-C, if it is written in Python.
fn code_of_handler(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let signal = py.import(intern!(py, "_signal"))?;
    let number = signal.getattr(intern!(py, "SIGINT"))?;
    let mut handler = signal.getattr(intern!(py, "getsignal"))?.call1((number,))?;
    // A partial function, or a method.
    for inner in [intern!(py, "func"), intern!(py, "__func__")] {
        handler = handler.getattr_opt(inner)?.unwrap_or(handler);
    }
    let code = intern!(py, "__code__");
    match handler.getattr_opt(code)? {
        Some(code) => Ok(Some(code)),
        // An object that can be called.
        None => match handler.get_type().getattr_opt(intern!(py, "__call__"))? {
            Some(call) => call.getattr_opt(code),
            None => Ok(None),
        },
    }
}

/// As [`is_interrupt`].
fn is_interrupt_in(py: Python<'_>, error: &PyErr) -> bool {
    if !error.is_instance_of::<PyKeyboardInterrupt>(py) {
        return false;
    }
    let value = error.value(py);
    if let Some(traceback) = error.traceback(py) {
        // SAFETY: an exception and a traceback. With these it can't fail.
        unsafe { ffi::PyException_SetTraceback(value.as_ptr(), traceback.as_ptr()) };
    }
    is_interrupt(py, value)
}

/// A Ctrl-C that can't go on from here comes up again, in what the main thread runs next.
pub(crate) fn put_off(py: Python<'_>, error: &PyErr) {
    if is_interrupt_in(py, error) {
        come_again(py);
    }
}

/// Ctrl-C, as if it were pressed now.
pub(crate) fn come_again(_py: Python<'_>) {
    // SAFETY: it may be called at any time by a thread that is attached.
    unsafe { ffi::PyErr_SetInterrupt() };
}

/// What was found, if it could be. A Ctrl-C is put off.
pub(crate) fn found<T>(py: Python<'_>, found: PyResult<T>) -> Option<T> {
    found.inspect_err(|error| put_off(py, error)).ok()
}

/// Says that an error came up where it can't go on. A Ctrl-C is put off.
pub(crate) fn write_unraisable(py: Python<'_>, error: PyErr, place: Option<&Bound<'_, PyAny>>) {
    if is_interrupt_in(py, &error) {
        come_again(py);
    } else {
        error.write_unraisable(py, place);
    }
}

/// How often something is done again. It comes to an end even if each attempt looks as if it were interrupted.
const ATTEMPTS: usize = 100;

/// Does something for which nobody else would see a Ctrl-C: once more, should one come up in it, which is put off.
pub(crate) fn again_if_interrupted<T>(py: Python<'_>, does: impl Fn() -> PyResult<T>) -> PyResult<T> {
    let mut done = does();
    let mut interrupted = false;
    for _ in 1..ATTEMPTS {
        match &done {
            Err(error) if is_interrupt_in(py, error) => interrupted = true,
            _ => break,
        }
        done = does();
    }
    if interrupted {
        come_again(py);
    }
    done
}
