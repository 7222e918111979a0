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
use crate::upstream::Place;
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

/// A promise in whose line a churn has come to wait, and on whose behalf.
pub(crate) struct Line<H: Host> {
    pub(crate) source: H::Promise,
    pub(crate) place: Option<Place<H>>,
}

impl<H: Host> Churn<H> {
    pub(crate) fn are_places_noted(&self) -> bool {
        let work = self.work();
        work.noted == work.lines.len()
    }

    /// Before it is looked whether a promise would wait for itself: notes what waits for what. True.
    pub(crate) fn note_places(self: &Rc<Self>, cx: H::Cx<'_>) -> bool {
        while let Some((source, place)) = self.next_place(cx) {
            if let Some(place) = place {
                place.note(cx, &source);
            }
        }
        true
    }

    fn next_place(&self, cx: H::Cx<'_>) -> Option<(H::Promise, Option<Place<H>>)> {
        let mut work = self.work();
        let noted = work.noted;
        let line = work.lines.get_mut(noted)?;
        let next = (H::clone_promise(cx, &line.source), line.place.take());
        work.noted += 1;
        Some(next)
    }

    /// Notes in whose lines this churn has come to wait and waits still.
    pub(crate) fn note_lines(self: &Rc<Self>, cx: H::Cx<'_>) {
        let (lines, mut awaited) = {
            let mut work = self.work();
            if work.lines.is_empty() {
                return;
            }
            work.noted = 0;
            (std::mem::take(&mut work.lines), std::mem::take(&mut work.awaited))
        };
        for Line { source, place } in lines {
            // What has just come stands at the end.
            let waits =
                H::promise_cell(&source).state().waiters.iter().rev().any(|one| one.is_of(self.vat()));
            if !waits {
                continue;
            }
            if let Some(place) = place {
                place.note(cx, &source);
            }
            if let Ok(weak) = H::downgrade_promise(cx, &source) {
                awaited.promises.push(weak);
            }
        }
        if awaited.promises.len() >= awaited.most {
            awaited = awaited.without_those_left(cx, self.vat());
        }
        self.work().awaited = awaited;
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
        let (taken, others) = state.take_line().into_iter().partition(|waiter| waiter.is_of(vat));
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
