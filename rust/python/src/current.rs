//! The churn that this thread runs.

use std::cell::RefCell;
use std::rc::Rc;

use goblins_core::churn::Churn;
use pyo3::prelude::*;

use crate::errors::no_turn;
use crate::host::PyHost;
use crate::runtime::check;

/// Of one thread.
struct Current(RefCell<Option<Rc<Churn<PyHost>>>>);

impl Drop for Current {
    fn drop(&mut self) {
        // The thread ends in the midst of a churn: what that holds must not go without the interpreter.
        std::mem::forget(self.0.take());
    }
}

thread_local! {
    static CURRENT: Current = const { Current(RefCell::new(None)) };
}

/// The churn that this thread runs. Between its turns (in a finalizer, say) no turn is open.
pub(crate) fn current() -> Option<Rc<Churn<PyHost>>> {
    CURRENT.with(|current| current.0.borrow().clone())
}

/// The churn that this thread runs, with a turn open.
pub(crate) fn current_turn(what: &str) -> PyResult<Rc<Churn<PyHost>>> {
    match current() {
        Some(churn) if churn.in_turn() => Ok(churn),
        Some(_) => Err(no_turn(what)),
        None => Err(check().err().unwrap_or_else(|| no_turn(what))),
    }
}

pub(crate) fn replace(churn: Option<Rc<Churn<PyHost>>>) -> Option<Rc<Churn<PyHost>>> {
    // A block may be left when its thread ends.
    CURRENT.try_with(|current| current.0.replace(churn)).ok().flatten()
}

/// In a forked child: no churn is run there.
#[cfg(unix)]
pub(crate) fn leave_to_parent() {
    std::mem::forget(replace(None));
}

/// Whether this thread is in a turn.
pub(crate) fn in_turn() -> bool {
    CURRENT.with(|current| current.0.borrow().as_ref().is_some_and(|churn| churn.in_turn()))
}

/// Whether this thread is in a turn.
#[pyfunction]
pub(crate) fn _in_turn() -> bool {
    in_turn()
}
