//! Where in the program something was made, for reports.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

/// A place in a Python program. It keeps the code alive, and nothing else of the call that was there.
pub(crate) struct Origin {
    code: Py<PyAny>,
    /// Of the instruction, in bytes. Its line is looked up when somebody wants to know.
    offset: c_int,
}

impl Origin {
    /// Where the interpreter is on this thread; `None` if no Python code runs here.
    pub(crate) fn here(py: Python<'_>) -> Option<Self> {
        // SAFETY: the thread is attached. The frame is borrowed, and null if there is none; nothing that could
        // end it happens before it is left alone again. A frame has a code.
        unsafe {
            let frame = ffi::PyEval_GetFrame();
            if frame.is_null() {
                return None;
            }
            let offset = ffi::PyFrame_GetLasti(frame);
            let code = Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetCode(frame).cast())?.unbind();
            Some(Self { code, offset })
        }
    }

    /// The file and the line, unless it is in this package: that says nothing to its users.
    pub(crate) fn describe(&self, py: Python<'_>) -> Option<String> {
        let code = self.code.bind(py);
        let name: String = code.getattr(intern!(py, "co_filename")).ok()?.extract().ok()?;
        let own: String = py.import("goblins").ok()?.getattr(intern!(py, "__file__")).ok()?.extract().ok()?;
        if std::path::Path::new(&name).parent() == std::path::Path::new(&own).parent() {
            return None;
        }
        // SAFETY: it came from a frame, so it is a code object.
        let line = unsafe { ffi::PyCode_Addr2Line(code.as_ptr().cast(), self.offset) };
        Some(format!("{name}, line {line}"))
    }
}
