//! The churn that this thread runs.
//!
//! Some code runs in the midst of it and has no business there: other tasks, while the one that opened a block waits in
//! it, and what the garbage collector finds and finishes off. To such code the thread seems to be outside of all vats,
//! except that it can't enter one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use goblins_core::churn::Churn;
use goblins_core::vat::Vat;
use pyo3::prelude::*;

use crate::blocks;
use crate::errors::{no_turn, no_turn_error};
use crate::host::PyHost;
use crate::runtime::check;

type Running = Option<Rc<Churn<PyHost>>>;

/// Of one thread.
struct Current {
    churn: RefCell<Running>,
    /// How many reasons there are to look at who asks: blocks that belong to a task, and what is set aside.
    guards: Cell<usize>,
    /// What was set aside for a while, the last one last.
    hidden: RefCell<Vec<Running>>,
}

impl Drop for Current {
    fn drop(&mut self) {
        // The thread ends in the midst of a churn: what that holds must not go without the interpreter.
        std::mem::forget((self.churn.take(), self.hidden.take()));
    }
}

thread_local! {
    static CURRENT: Current = const {
        Current { churn: RefCell::new(None), guards: Cell::new(0), hidden: RefCell::new(Vec::new()) }
    };
}

/// The churn that this thread runs. Between its turns (in a finalizer, say) no turn is open.
pub(crate) fn current() -> Option<Rc<Churn<PyHost>>> {
    CURRENT.with(|current| {
        let churn = current.churn.borrow().clone();
        if current.guards.get() != 0 { churn.filter(blocks::is_ours) } else { churn }
    })
}

/// The churn that this thread runs, whoever asks; none while it is set aside.
pub(crate) fn running() -> Option<Rc<Churn<PyHost>>> {
    CURRENT.with(|current| current.churn.borrow().clone())
}

/// The churn that this thread runs, also if this code has nothing to do with it.
pub(crate) fn occupied() -> Option<Rc<Churn<PyHost>>> {
    CURRENT.with(|current| {
        let churn = current.churn.borrow().clone();
        churn.or_else(|| current.hidden.borrow().iter().flatten().next_back().cloned())
    })
}

/// Whether this thread runs a churn, or a block of some task is open on it.
pub(crate) fn is_occupied() -> bool {
    CURRENT.with(|current| current.guards.get() != 0 || current.churn.borrow().is_some())
}

/// An error if this code, which is in no turn, must not enter a vat.
pub(crate) fn check_entry(py: Python<'_>, vat: &Vat<PyHost>) -> PyResult<()> {
    check()?;
    if CURRENT.with(|current| current.guards.get() != 0) { check_entry_here(py, vat) } else { Ok(()) }
}

#[cold]
fn check_entry_here(py: Python<'_>, vat: &Vat<PyHost>) -> PyResult<()> {
    if CURRENT.with(|current| current.hidden.borrow().iter().any(Option::is_some)) {
        return Err(no_turn_error(format!(
            "vat {} can't be entered from a finalizer that runs in the midst of a turn: use send(...) or tell(...)",
            vat.name()
        )));
    }
    blocks::sweep(py);
    match occupied() {
        Some(churn) if std::ptr::eq(&**churn.vat(), vat) => Err(blocks::of_another(py, vat, &churn)),
        _ => Ok(()),
    }
}

/// Runs `f` as if this thread were outside of all vats.
pub(crate) fn hidden<T>(f: impl FnOnce() -> T) -> T {
    hide();
    let result = f();
    show();
    result
}

fn hide() {
    CURRENT.with(|current| {
        let churn = current.churn.take();
        current.hidden.borrow_mut().push(churn);
    });
    guard_more();
}

fn show() {
    CURRENT.with(|current| {
        let hidden = current.hidden.borrow_mut().pop();
        if let Some(churn) = hidden {
            current.churn.replace(churn);
            guard_less();
        }
    });
}

/// For `gc.callbacks`: what a collection of garbage finishes off has nothing to do with the turn in which that happens.
#[pyfunction]
pub(crate) fn _collecting(py: Python<'_>, phase: &str, _info: &Bound<'_, PyAny>) {
    match phase {
        "start" => hide(),
        _ => {
            show();
            if CURRENT.with(|current| current.guards.get() != 0) {
                blocks::sweep(py);
            }
        }
    }
}

/// There is one more reason to look at who asks.
pub(crate) fn guard_more() {
    CURRENT.with(|current| current.guards.set(current.guards.get() + 1));
}

/// There is one less.
pub(crate) fn guard_less() {
    CURRENT.with(|current| current.guards.set(current.guards.get().saturating_sub(1)));
}

/// There is none any more.
pub(crate) fn guard_no_more() {
    CURRENT.with(|current| current.guards.set(0));
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
    CURRENT.try_with(|current| current.churn.replace(churn)).ok().flatten()
}

/// In a forked child: no churn is run there.
#[cfg(unix)]
pub(crate) fn leave_to_parent() {
    std::mem::forget(replace(None));
    let _ = CURRENT.try_with(|current| {
        current.guards.set(0);
        std::mem::forget(current.hidden.take());
    });
}

/// Whether this thread is in a turn.
pub(crate) fn in_turn() -> bool {
    CURRENT.with(|current| {
        let churn = current.churn.borrow();
        match &*churn {
            Some(churn) if current.guards.get() == 0 => churn.in_turn(),
            None => false,
            Some(_) => {
                drop(churn);
                self::current().is_some_and(|churn| churn.in_turn())
            }
        }
    })
}

/// Whether this thread is in a turn.
#[pyfunction]
pub(crate) fn _in_turn() -> bool {
    in_turn()
}
