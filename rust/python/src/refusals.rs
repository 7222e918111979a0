//! What values do and messages don't: each is an error that says what a message is. Python's own errors would speak of
//! types, and some would be none: a message would be true.
//!
//! The places for these operations are filled in the class itself, and not with methods: so messages don't seem to be
//! numbers or containers to code that asks for their methods.

use std::os::raw::c_int;
use std::ptr::null_mut;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::messages::{BoundMessage, refused};

/// Sets the error for the one of these operands that is a message.
fn refuse(operands: &[*mut PyObject], deed: &str) {
    // The interpreter calls this: it is attached, or about to end.
    Python::try_attach(|py| {
        let messages = operands.iter().map(|operand| {
            // SAFETY: it is alive during the call.
            unsafe { Borrowed::from_ptr(py, *operand) }
        });
        let mut messages = messages.filter_map(|operand| operand.cast_exact::<BoundMessage>().ok());
        match messages.next() {
            Some(message) => refused(&message, deed).restore(py),
            None => PyTypeError::new_err(format!("a message can't be {deed}")).restore(py),
        }
    });
}

/// Fills places of a class: each gets a function of its own, which fails.
macro_rules! fill {
    ($kind:ident $class:ident.$table:ident -> $answer:ty: $failed:expr; $($place:ident $deed:literal),* $(,)?) => {
        $(fill!(@$kind $class.$table.$place, $answer, $failed, $deed);)*
    };
    (@unary $($rest:tt)*) => { fill!(@place (a) [a] $($rest)*) };
    (@binary $($rest:tt)*) => { fill!(@place (a, b) [a, b] $($rest)*) };
    (@ternary $($rest:tt)*) => { fill!(@place (a, b, _c) [a, b] $($rest)*) };
    (@place ($($parameter:ident),*) [$($operand:ident),*]
     $class:ident.$table:ident.$place:ident, $answer:ty, $failed:expr, $deed:literal) => {
        // SAFETY: the tables of a class on the heap are its own. The function has the type of its place.
        unsafe {
            unsafe extern "C" fn $place($($parameter: *mut PyObject),*) -> $answer {
                refuse(&[$($operand),*], $deed);
                $failed
            }
            (*$class).$table.$place = Some($place);
        }
    };
}

/// Fills the places of the class of messages, before there is any.
pub(crate) fn fill(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr().cast::<ffi::PyHeapTypeObject>();
    fill!(unary class.as_number -> c_int: -1; nb_bool "tested for truth");
    fill!(unary class.as_number -> *mut PyObject: null_mut();
        nb_negative "used in arithmetic (-)",
        nb_positive "used in arithmetic (+)",
        nb_absolute "used in arithmetic (abs)",
        nb_invert "used in arithmetic (~)",
        nb_int "made an int",
        nb_float "made a float",
        nb_index "used as a number",
    );
    fill!(binary class.as_number -> *mut PyObject: null_mut();
        nb_add "used in arithmetic (+)",
        nb_subtract "used in arithmetic (-)",
        nb_multiply "used in arithmetic (*)",
        nb_remainder "used in arithmetic (%)",
        nb_divmod "used in arithmetic (divmod)",
        nb_lshift "used in arithmetic (<<)",
        nb_rshift "used in arithmetic (>>)",
        nb_and "used in arithmetic (&)",
        nb_xor "used in arithmetic (^)",
        nb_or "used in arithmetic (|)",
        nb_floor_divide "used in arithmetic (//)",
        nb_true_divide "used in arithmetic (/)",
        nb_matrix_multiply "used in arithmetic (@)",
    );
    fill!(ternary class.as_number -> *mut PyObject: null_mut(); nb_power "used in arithmetic (**)");
    fill!(unary class.as_sequence -> ffi::Py_ssize_t: -1; sq_length "measured with len");
    fill!(binary class.as_sequence -> c_int: -1; sq_contains "searched with `in`");
    fill!(unary class.as_mapping -> ffi::Py_ssize_t: -1; mp_length "measured with len");
    fill!(binary class.as_mapping -> *mut PyObject: null_mut(); mp_subscript "indexed");
    fill!(ternary class.as_mapping -> c_int: -1; mp_ass_subscript "changed with an index");
    fill!(unary class.as_async -> *mut PyObject: null_mut(); am_await "awaited", am_aiter "iterated over");
    fill!(unary class.ht_type -> *mut PyObject: null_mut(); tp_iter "iterated over");
}
