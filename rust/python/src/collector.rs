//! Objects that Python's cyclic collector need not look at: in a large graph its walks take most of the time.

use pyo3::ffi;
use pyo3::prelude::*;

/// The collector does not visit an object any more, which must refer to no other one. It is freed as before.
pub(crate) fn leave(object: &Bound<'_, PyAny>) {
    // SAFETY: the object is alive. What is not in the collector's lists is taken for referred to from outside.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) }
}

/// Whether a value is of a kind that the collector visits.
pub(crate) fn may_visit(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the value is alive.
    unsafe { ffi::PyObject_IS_GC(value.as_ptr()) != 0 }
}

/// Whether the collector visits an object.
pub(crate) fn is_visited(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive.
    unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) != 0 }
}

/// The collector visits an object again, since it may refer to others from now on.
pub(crate) fn join(object: &Bound<'_, PyAny>) {
    // SAFETY: the object is alive and of a class that the collector can visit; no object is entered twice.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}
