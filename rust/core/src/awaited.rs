//! In which lines a vat waits, so that it can leave them when it stops: who waits for what its handlers would have given
//! is told then, and not when, or if, the promise settles at last.
//!
//! A promise is noted when the churn ends that came to wait for it, if it is still pending: most have settled by then.
//! The vat keeps no promise alive in that way.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::churn::Churn;
use crate::error::KernelError;
use crate::host::Host;
use crate::promise::{Progress, PromiseCell, Waiter};
use crate::release::settling;
use crate::vat::Vat;

/// Fewer are not looked through.
const MANY: usize = 64;

/// Promises in whose lines a vat waits, and some in whose it waited.
pub(crate) struct Awaited<H: Host> {
    promises: Vec<H::WeakPromise>,
    /// When there are so many, those are let go for which the vat does not wait any more.
    most: usize,
}

impl<H: Host> Default for Awaited<H> {
    fn default() -> Self {
        Self { promises: Vec::new(), most: MANY }
    }
}

impl<H: Host> Churn<H> {
    /// Notes in whose lines this churn has come to wait and waits still.
    pub(crate) fn note_lines(self: &Rc<Self>, cx: H::Cx<'_>) {
        let listened = {
            let mut work = self.work();
            if work.listened.is_empty() {
                return;
            }
            std::mem::take(&mut work.listened)
        };
        let mut awaited = std::mem::take(&mut self.work().awaited);
        for promise in &listened {
            // What has just come stands at the end.
            let waits =
                H::promise_cell(promise).state().waiters.iter().rev().any(|one| one.is_of(self.vat()));
            if waits && let Ok(weak) = H::downgrade_promise(cx, promise) {
                awaited.promises.push(weak);
            }
        }
        if awaited.promises.len() >= awaited.most {
            awaited = awaited.without_those_left(cx, self.vat());
        }
        self.work().awaited = awaited;
        drop(listened);
    }
}

impl<H: Host> Awaited<H> {
    fn without_those_left(self, cx: H::Cx<'_>, vat: &Vat<H>) -> Self {
        let mut known: HashSet<*const PromiseCell<H>> = HashSet::new();
        let mut promises = Vec::new();
        for weak in self.promises {
            let Some(promise) = H::upgrade_promise(cx, &weak) else { continue };
            let cell = H::promise_cell(&promise);
            if cell.state().waiters.iter().rev().any(|one| one.is_of(vat)) && known.insert(cell) {
                promises.push(weak);
            }
        }
        let most = MANY.max(2 * promises.len());
        Self { promises, most }
    }
}

impl<H: Host> PromiseCell<H> {
    /// Takes out all that a vat waits for here, settled or not.
    fn take_waiters_of(&self, vat: &Vat<H>) -> Vec<Waiter<H>> {
        let mut state = self.state();
        let (taken, others) =
            std::mem::take(&mut state.waiters).into_iter().partition(|waiter| waiter.is_of(vat));
        state.waiters = others;
        if !matches!(state.progress, Progress::Settled(..)) {
            state.heard = state.is_asked_for();
        }
        taken
    }
}

impl<H: Host> Vat<H> {
    /// Leaves the lines in which the vat waits, and breaks what was to come of that.
    pub(crate) fn leave_lines(self: &Arc<Self>, cx: H::Cx<'_>, awaited: Awaited<H>, why: &KernelError) {
        settling::<H>(cx, |next| {
            for weak in awaited.promises {
                let Some(promise) = H::upgrade_promise(cx, &weak) else { continue };
                for waiter in H::promise_cell(&promise).take_waiters_of(self) {
                    if let Waiter::Vat(_, reaction) = waiter {
                        reaction.refuse(cx, self, why.clone(), next);
                    }
                }
            }
        });
    }
}
