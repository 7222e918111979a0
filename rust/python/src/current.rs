//! The churn that this thread runs.

use std::cell::RefCell;
use std::rc::Rc;

use goblins_core::churn::Churn;
use pyo3::prelude::*;

use crate::errors::no_turn;
use crate::host::PyHost;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Churn<PyHost>>>> = const { RefCell::new(None) };
}

/// The churn that this thread runs. Between its turns (in a finalizer, say) no turn is open.
pub(crate) fn current() -> Option<Rc<Churn<PyHost>>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// The churn that this thread runs, with a turn open.
pub(crate) fn current_turn(what: &str) -> PyResult<Rc<Churn<PyHost>>> {
    match current() {
        Some(churn) if churn.in_turn() => Ok(churn),
        _ => Err(no_turn(what)),
    }
}

pub(crate) fn replace(churn: Option<Rc<Churn<PyHost>>>) -> Option<Rc<Churn<PyHost>>> {
    CURRENT.with(|current| current.replace(churn))
}

/// Whether this thread is in a turn.
pub(crate) fn in_turn() -> bool {
    CURRENT.with(|current| current.borrow().as_ref().is_some_and(|churn| churn.in_turn()))
}

/// Whether this thread is in a turn.
#[pyfunction]
pub(crate) fn _in_turn() -> bool {
    in_turn()
}
