//! What an operation of a Map, a List or a Set has done to pages. One that is cut off in the midst, by Ctrl-C or for want
//! of memory, leaves them as they were: whoever called it may catch the error, and the turn goes on.
//!
//! The turn's own list for undoing knows how pages were at its beginning only.

use std::cell::RefCell;
use std::collections::HashSet;

use goblins_core::actor::Life;
use goblins_core::churn::Churn;
use pyo3::prelude::*;

use crate::host::PyHost;
use crate::refs::Ref;

/// Pages, and what each was before a change.
type Changes = Vec<(Py<Ref>, Py<PyAny>)>;

#[derive(Default)]
struct Journal {
    /// The vat and the turn that it is of.
    turn: (u64, u64),
    /// Of the operations that are under way, one within the other: how many changes there were before each. A signal
    /// may keep one from being ended, so there may be too many until the end of the turn: then more is kept than is
    /// needed.
    marks: Vec<usize>,
    /// In an operation each page stands once.
    changes: Changes,
    /// The addresses of the pages that the innermost operation has changed, if these are many.
    seen: HashSet<usize>,
}

/// As many pages are looked through one by one.
const FEW: usize = 12;
/// Room for as many changes is kept.
const ROOM: usize = 64;

impl Journal {
    fn end(&mut self) {
        self.marks.pop();
        self.seen.clear();
    }

    /// What is no longer needed when an operation has come to its end.
    fn rest(&mut self) -> Changes {
        if self.marks.is_empty() { std::mem::take(&mut self.changes) } else { Changes::new() }
    }

    /// Whether the innermost operation changes this page for the first time.
    fn is_first(&mut self, page: &Bound<'_, Ref>) -> bool {
        let Some(mark) = self.marks.last() else {
            return false;
        };
        let since = self.changes.get(*mark..).unwrap_or_default();
        if since.len() <= FEW {
            return !since.iter().any(|(changed, _)| changed.is(page));
        }
        if self.seen.is_empty() {
            self.seen.extend(since.iter().map(|(changed, _)| changed.as_ptr() as usize));
        }
        self.seen.insert(page.as_ptr() as usize)
    }
}

thread_local! {
    static JOURNAL: RefCell<Journal> = RefCell::default();
}

fn with<T>(does: impl FnOnce(&mut Journal) -> T) -> T {
    JOURNAL.with(|journal| does(&mut journal.borrow_mut()))
}

/// An operation begins. Gives how many changes there were before.
pub(crate) fn begin(churn: &Churn<PyHost>) -> usize {
    let turn = (churn.vat().id().0, churn.turn_number());
    let (mark, old) = with(|journal| {
        let old = if journal.turn == turn {
            Changes::new()
        } else {
            journal.turn = turn;
            journal.marks.clear();
            std::mem::take(&mut journal.changes)
        };
        let mark = journal.changes.len();
        journal.marks.push(mark);
        journal.seen.clear();
        (mark, old)
    });
    drop(old);
    mark
}

/// A page has changed. What it was in the midst of an operation is dropped.
pub(crate) fn note(page: &Bound<'_, Ref>, before: Py<PyAny>) {
    let between = with(|journal| {
        if !journal.is_first(page) {
            return Some(before);
        }
        journal.changes.push((page.clone().unbind(), before));
        None
    });
    drop(between);
}

/// The operation that began last has come to its end.
#[pyfunction]
pub(crate) fn _page_done() {
    let rest = with(|journal| {
        journal.end();
        journal.rest()
    });
    forget(rest);
}

/// The operation that began last has come to its end, and stands even if the one that it is part of is cut off; unless
/// that has changed pages before.
#[pyfunction]
pub(crate) fn _page_stands(mark: usize) {
    if mark == 0 {
        forget(with(|journal| std::mem::take(&mut journal.changes)));
    }
    _page_done();
}

/// The operation that began last was cut off: the pages become what they were.
#[pyfunction]
pub(crate) fn _page_back(mark: usize) {
    let changes = with(|journal| {
        journal.end();
        let mark = mark.min(journal.changes.len());
        journal.changes.split_off(mark)
    });
    // Dropped when all is as it was: that may run any code.
    let mut dropped = Vec::with_capacity(changes.len());
    for (page, before) in changes.into_iter().rev() {
        dropped.push((page.get().cell.set_life(Life::Live(before)), page));
    }
}

/// Drops changes, and keeps the room for the next ones, if it is no more than most of them need.
fn forget(mut changes: Changes) {
    changes.clear();
    if !(1..=ROOM).contains(&changes.capacity()) {
        return;
    }
    with(|journal| {
        if journal.changes.capacity() == 0 {
            journal.changes = changes;
        }
    });
}
