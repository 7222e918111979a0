//! What `help` shows of the compiled names: the docstrings of the stub, which the build has put into a table.
//!
//! Python reads the docstring of a method where the interpreter was told of the method. Each gets a copy of that, with
//! its own docstring after the signature that PyO3 has put there.

use std::ffi::{CStr, CString, c_char};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Class, name and text: without a class those of the module, without a name that of the class itself.
static DOCSTRINGS: &[(&str, &str, &str)] = &include!(concat!(env!("OUT_DIR"), "/docstrings.rs"));

/// Gives all classes, methods and functions of the module their docstrings.
pub(crate) fn hand_out(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for (class, name, text) in DOCSTRINGS {
        match (*class, *name) {
            ("", name) => document(&module.getattr(name)?, text)?,
            (class, "") => module.getattr(class)?.setattr("__doc__", *text)?,
            (class, name) => {
                document(&module.getattr(class)?.getattr("__dict__")?.get_item(name)?, text)?;
            }
        }
    }
    Ok(())
}

fn document(described: &Bound<'_, PyAny>, text: &str) -> PyResult<()> {
    let object = described.as_ptr();
    let is = |class: *mut ffi::PyTypeObject| described.get_type_ptr() == class;
    // SAFETY: the object is alive, and what is read of it and written to it has the type that its class says. What it
    // referred to before is left alone: nobody frees that, nor the copy.
    unsafe {
        if is(&raw mut ffi::PyCFunction_Type) {
            let place = &raw mut (*object.cast::<ffi::PyCFunctionObject>()).m_ml;
            let mut copy = std::ptr::read(*place);
            copy.ml_doc = with_signature(copy.ml_doc, text)?;
            *place = Box::leak(Box::new(copy));
        } else if is(&raw mut ffi::PyMethodDescr_Type) {
            let place = &raw mut (*object.cast::<ffi::PyMethodDescrObject>()).d_method;
            let mut copy = std::ptr::read(*place);
            copy.ml_doc = with_signature(copy.ml_doc, text)?;
            *place = Box::leak(Box::new(copy));
        } else if is(&raw mut ffi::PyGetSetDescr_Type) {
            let place = &raw mut (*object.cast::<ffi::PyGetSetDescrObject>()).d_getset;
            let mut copy = std::ptr::read(*place);
            copy.doc = with_signature(std::ptr::null(), text)?;
            *place = Box::leak(Box::new(copy));
        } else if is(&raw mut ffi::PyWrapperDescr_Type) {
            let place = &raw mut (*object.cast::<ffi::PyWrapperDescrObject>()).d_base;
            let mut copy = std::ptr::read(*place);
            copy.doc = with_signature(copy.doc, text)?;
            *place = Box::leak(Box::new(copy));
        } else {
            return Err(PyTypeError::new_err(format!("{described} takes no docstring")));
        }
    }
    Ok(())
}

/// A text, after the signature that stands before another one.
///
/// # Safety
/// `before` ends with a zero, or is null.
unsafe fn with_signature(before: *const c_char, text: &str) -> PyResult<*const c_char> {
    const END: &str = "\n--\n\n";
    // SAFETY: as the caller says.
    let before = (!before.is_null()).then(|| unsafe { CStr::from_ptr(before) }.to_string_lossy());
    let before = before.as_deref().unwrap_or_default();
    let signature = before.find(END).map_or("", |end| &before[..end + END.len()]);
    let text = CString::new(format!("{signature}{text}"))?;
    Ok(text.into_raw())
}
