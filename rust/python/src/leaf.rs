//! Actors that refer to nothing which could lead back to them: the collector is not shown them.
//!
//! In a large graph most actors hold numbers and texts only, and walking through them again and again would take most
//! of the time. One that was just made from its record is looked at once: if all that it is made of ends in plain
//! values, in its constructor, or in the constructor's module, no cycle goes through it. The vat's environment keeps
//! those two alive anyway. Before such an actor changes, it is [shown](show) again.

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::{PyFunction, PyTuple};

use crate::bcom::Bcom;
use crate::behavior::Behavior;
use crate::class_actor::{self, ActorBase};
use crate::collector;
use crate::fields;
use crate::refs::Ref;

/// How deeply tuples and cells may stand in each other.
const MOST_LEVELS: usize = 4;

/// Decides whether the collector sees an actor that gets the behavior which was made of its record.
pub(crate) fn settle(actor: &Bound<'_, Ref>, behavior: &Bound<'_, PyAny>) {
    if hide(behavior) {
        collector::leave(actor.as_any());
    } else {
        show(actor);
    }
}

/// The collector sees an actor from now on: what it refers to is about to change.
pub(crate) fn show(actor: &Bound<'_, Ref>) {
    collector::join(actor.as_any());
}

/// As [`show`], for one whose behavior is an instance of a class.
pub(crate) fn show_instance(instance: &Bound<'_, ActorBase>, actor: &Bound<'_, Ref>) {
    collector::join(instance.as_any());
    show(actor);
}

/// The collector does not see a behavior any more, if nothing in it leads anywhere.
fn hide(behavior: &Bound<'_, PyAny>) -> bool {
    let hidden = match class_actor::instance(behavior) {
        Some(instance) => is_plain(instance),
        None => behavior.cast_exact::<Behavior>().is_ok_and(hide_code),
    };
    if hidden {
        collector::leave(behavior);
    }
    hidden
}

/// Whether an instance has plain values only, and no code of its own that has just run.
fn is_plain(instance: &Bound<'_, ActorBase>) -> bool {
    let plain = |values: Vec<Bound<'_, PyAny>>| values.iter().all(|value| !collector::may_visit(value));
    !instance.get().info().get().is_told() && fields::values(instance).is_ok_and(plain)
}

fn hide_code(behavior: &Bound<'_, Behavior>) -> bool {
    let (this, py) = (behavior.get(), behavior.py());
    let source = &this.source;
    let constructor = source.constructor.bind(py);
    if source.kwargs.is_some()
        || constructor.get().hidden.is_some()
        || collector::is_visited(source.args.bind(py).as_any())
    {
        return false;
    }
    let functions = (constructor.get().function.bind(py), this.code.bind(py));
    let (Ok(maker), Ok(code)) = (functions.0.cast_exact::<PyFunction>(), functions.1.cast_exact()) else {
        return false;
    };
    // SAFETY: it is a function, and alive. The answers are borrowed, and only compared with others.
    let (module, builtins) =
        unsafe { (ffi::PyFunction_GetGlobals(maker.as_ptr()), ffi::PyEval_GetBuiltins()) };
    let known = [constructor.as_ptr(), module, builtins];
    let mut search = Search { known, bcom: Bcom::type_object_raw(py), levels: 0 };
    if !search.ends(code.as_ptr()) {
        return false;
    }
    each_part(code, collector::leave);
    true
}

/// What was hidden with a behavior is seen again: functions and cells can't be freed before that.
pub(crate) fn show_code(code: &Bound<'_, PyAny>) {
    if let Ok(code) = code.cast_exact::<PyFunction>()
        && !collector::is_visited(code.as_any())
    {
        each_part(code, collector::join);
    }
}

/// A function, and the variables that it has of the one around it.
fn each_part(code: &Bound<'_, PyFunction>, mut act: impl FnMut(&Bound<'_, PyAny>)) {
    // SAFETY: it is a function, and alive; the answer is borrowed from it, or null.
    let closure =
        unsafe { Bound::from_borrowed_ptr_or_opt(code.py(), ffi::PyFunction_GetClosure(code.as_ptr())) };
    if let Some(Ok(closure)) = closure.map(Bound::cast_into_exact::<PyTuple>) {
        closure.iter_borrowed().for_each(|cell| act(&cell));
        act(closure.as_any());
    }
    act(code.as_any());
}

/// A walk through what a function refers to.
struct Search {
    /// The constructor, the variables of its module, and those built in: they need no look.
    known: [*mut ffi::PyObject; 3],
    bcom: *mut ffi::PyTypeObject,
    levels: usize,
}

impl Search {
    /// Whether all that an object refers to ends.
    fn ends(&mut self, object: *mut ffi::PyObject) -> bool {
        // SAFETY: the object is alive. Its slot is called as the collector does it, with a function that keeps
        // nothing and runs no code of Python.
        unsafe {
            match (*ffi::Py_TYPE(object)).tp_traverse {
                Some(traverse) => traverse(object, look, std::ptr::from_mut(self).cast()) == 0,
                None => true,
            }
        }
    }

    fn ends_at(&mut self, object: *mut ffi::PyObject) -> bool {
        // SAFETY: the object is alive.
        unsafe {
            if ffi::PyObject_IS_GC(object) == 0
                || self.known.contains(&object)
                || ffi::PyType_Check(object) != 0
                || ffi::Py_TYPE(object) == self.bcom
            {
                return true;
            }
            if ffi::PyTuple_CheckExact(object) == 0 && ffi::PyCell_Check(object) == 0 {
                return false;
            }
        }
        if self.levels == MOST_LEVELS {
            return false;
        }
        self.levels += 1;
        let ends = self.ends(object);
        self.levels -= 1;
        ends
    }
}

extern "C" fn look(object: *mut ffi::PyObject, search: *mut c_void) -> c_int {
    // SAFETY: it is what `Search::ends` gave, which waits for this.
    let search = unsafe { &mut *search.cast::<Search>() };
    c_int::from(!object.is_null() && !search.ends_at(object))
}
