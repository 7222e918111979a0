//! Calls for committers: one for all that a round of an event loop has made, whatever the number of its vats, so that one
//! sync serves them.

use std::cell::RefCell;
use std::sync::Arc;

/// What keeps output for a committer.
pub(crate) trait Holds {
    /// Tells the committer that there is some.
    fn call_committer(&self);
}

thread_local! {
    /// Whose committers are still to be called; `None` if each is called at once.
    static LATER: RefCell<Option<Vec<Arc<dyn Holds>>>> = const { RefCell::new(None) };
}

/// As long as this lives, no committer is called for what this thread makes; all are when it is dropped.
#[derive(Debug)]
pub struct CallsLater {
    /// Another one lives already.
    nested: bool,
}

impl CallsLater {
    /// From now on.
    pub fn begin() -> Self {
        let nested = LATER.with_borrow_mut(|later| {
            let nested = later.is_some();
            later.get_or_insert_default();
            nested
        });
        Self { nested }
    }
}

impl Drop for CallsLater {
    fn drop(&mut self) {
        if !self.nested {
            let later = LATER.with_borrow_mut(Option::take);
            later.into_iter().flatten().for_each(|holds| holds.call_committer());
        }
    }
}

/// Has the committer called, now or later.
pub(crate) fn call(holds: Arc<dyn Holds>) {
    let now = LATER.with_borrow_mut(|later| match later {
        None => Some(holds),
        Some(later) => {
            if !later.iter().any(|other| Arc::ptr_eq(other, &holds)) {
                later.push(holds);
            }
            None
        }
    });
    if let Some(holds) = now {
        holds.call_committer();
    }
}
