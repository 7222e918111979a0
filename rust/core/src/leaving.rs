//! Who leaves the line of a promise before it settles: those of whom nobody would ever see what comes of them.
//!
//! A part of a promise that nobody has any more, or a race that is over, would otherwise stay with the promise until
//! that settles. They are looked for when the line has no room left, and it grows only if most have to stay: so a line
//! is at most about twice as long as it needs to be, and looking costs each who comes no more than a few steps.

use std::collections::{HashMap, HashSet};

use crate::host::Host;
use crate::promise::{Progress, PromiseCell, PromiseState, Seen, Waiter};

/// Shorter lines are not looked through.
const MANY: usize = 32;

/// What a waiter is good for.
enum Use {
    /// Somebody may see what comes of it.
    Some,
    /// Its promise has settled.
    Over,
    /// Nobody has its promise, nor any that is made of it.
    Unseen,
}

/// Those outside all vats who wait no longer, though they stand in the line still: to look for each of them would take
/// time that grows with the square of their number.
#[derive(Default)]
pub(crate) struct Left {
    /// Where their wakers are.
    places: HashSet<usize>,
    /// Of so many at the beginning of the line, nobody asks for the outcome.
    silent: usize,
}

impl Left {
    fn has<H: Host>(&self, waiter: &Waiter<H>) -> bool {
        matches!(waiter, Waiter::Outside(waker) if self.places.contains(&H::place(waker)))
    }
}

impl<H: Host> PromiseCell<H> {
    /// Takes back somebody outside all vats who waits no longer, by the place of his waker; he must have waited here. If
    /// nobody is left who waits, nobody has asked for the outcome. The caller drops what comes back.
    pub fn forget(&self, place: usize) -> Vec<Waiter<H>> {
        let mut state = self.state();
        if matches!(state.progress, Progress::Settled(_, Seen::ByAll)) {
            // He was told.
            return Vec::new();
        }
        let count = state.waiters.len();
        let left = state.left.get_or_insert_default();
        left.places.insert(place);
        let many = count < MANY || left.places.len() > count / 2;
        let gone = if many { state.sweep() } else { Vec::new() };
        state.heard = state.is_asked_for();
        gone
    }
}

impl<H: Host> PromiseState<H> {
    /// Whether somebody waits no longer who stands in the line still.
    pub(crate) fn has_left(&self, waiter: &Waiter<H>) -> bool {
        self.left.as_ref().is_some_and(|left| left.has(waiter))
    }

    /// Takes out those who wait no longer.
    pub(crate) fn sweep(&mut self) -> Vec<Waiter<H>> {
        let Some(left) = self.left.take() else { return Vec::new() };
        let (gone, staying) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| left.has(waiter));
        self.waiters = staying;
        gone
    }

    /// Takes all who wait out of the line; some of them may go back.
    pub(crate) fn take_line(&mut self) -> Vec<Waiter<H>> {
        if let Some(left) = &mut self.left {
            left.silent = 0;
        }
        std::mem::take(&mut self.waiters)
    }

    /// Whether somebody who waits wants the outcome.
    pub(crate) fn is_asked_for(&mut self) -> bool {
        let silent = self.left.as_ref().map_or(0, |left| left.silent);
        let asks = |waiter: &Waiter<H>| waiter.asks() && !self.has_left(waiter);
        let asking = self.waiters.iter().skip(silent).position(asks);
        if let Some(left) = &mut self.left {
            left.silent = asking.map_or(self.waiters.len(), |index| silent + index);
        }
        self.dismissed || asking.is_some()
    }

    /// Takes those out who need not wait any more, if there is no room for one more. They are dropped by the caller, with
    /// no lock held. `here` is the cell of this state.
    pub(crate) fn make_room(&mut self, cx: H::Cx<'_>, here: *const PromiseCell<H>) -> Option<Vec<Waiter<H>>> {
        let count = self.waiters.len();
        if count < self.waiters.capacity() || count < MANY || matches!(self.progress, Progress::Settled(..)) {
            return None;
        }
        let mut left = self.sweep();
        let mut staying = Vec::with_capacity(count);
        for waiter in self.take_line() {
            match use_of(cx, &waiter, here) {
                Use::Some => staying.push(waiter),
                Use::Over => {
                    // As if it had been told too late: an error is dropped (LIB-12).
                    self.dismissed = true;
                    left.push(waiter);
                }
                Use::Unseen => left.push(waiter),
            }
        }
        for goal in left.iter().filter_map(Waiter::goal) {
            if let Some(mut state) = H::promise_cell(goal.promise).try_state() {
                state.upstream.remove(cx, here);
            }
        }
        if staying.len() > count / 2 {
            staying.reserve(count);
        }
        self.waiters = staying;
        self.heard = self.is_asked_for();
        Some(left)
    }
}

fn use_of<H: Host>(cx: H::Cx<'_>, waiter: &Waiter<H>, here: *const PromiseCell<H>) -> Use {
    let Some(goal) = waiter.goal().filter(|_| waiter.only_settles()) else { return Use::Some };
    {
        // Nobody waits for a lock here: another one is held.
        let Some(state) = H::promise_cell(goal.promise).try_state() else { return Use::Some };
        match &state.progress {
            Progress::Settled(..) => return Use::Over,
            Progress::Chained { .. } if !waiter.is_chain() => return Use::Over,
            Progress::Chained { .. } | Progress::Pending => {}
        }
        if state.waiters.is_empty() {
            let lines = lines_of(cx, &state, here);
            drop(state);
            return if H::references(goal.promise) == lines { Use::Unseen } else { Use::Some };
        }
    }
    if is_unseen::<H>(cx, goal.promise, here) { Use::Unseen } else { Use::Some }
}

/// In how many lines something waits on behalf of a promise: each of them holds it.
fn lines_of<H: Host>(cx: H::Cx<'_>, state: &PromiseState<H>, here: *const PromiseCell<H>) -> usize {
    match &state.progress {
        Progress::Settled(..) => 0,
        Progress::Chained { .. } => 1,
        Progress::Pending => state.upstream.sources(cx).filter(|source| is_open::<H>(source, here)).count(),
    }
}

fn is_open<H: Host>(source: &H::Promise, here: *const PromiseCell<H>) -> bool {
    let cell = H::promise_cell(source);
    // That one is locked, and open.
    std::ptr::eq(cell, here)
        || cell.try_state().is_some_and(|state| !matches!(state.progress, Progress::Settled(..)))
}

/// Whether nobody has a promise, or one that is made of it: all that refer to them are the lines in which they wait, and
/// they themselves.
fn is_unseen<H: Host>(cx: H::Cx<'_>, first: &H::Promise, here: *const PromiseCell<H>) -> bool {
    let mut nodes = vec![H::clone_promise(cx, first)];
    let mut number_of = HashMap::from([(std::ptr::from_ref(H::promise_cell(first)), 0)]);
    let mut looked_at = 0;
    while let Some(node) = nodes.get(looked_at) {
        let mut more = Vec::new();
        {
            let Some(state) = H::promise_cell(node).try_state() else { return false };
            for waiter in &state.waiters {
                let Some(goal) = waiter.goal().filter(|_| waiter.only_settles()) else { return false };
                let next = nodes.len() + more.len();
                number_of.entry(H::promise_cell(goal.promise)).or_insert_with(|| {
                    more.push(H::clone_promise(cx, goal.promise));
                    next
                });
            }
        }
        nodes.append(&mut more);
        looked_at += 1;
    }
    // One reference to each is that of the list.
    let mut accounted = vec![1; nodes.len()];
    for (number, node) in nodes.iter().enumerate() {
        let Some(state) = H::promise_cell(node).try_state() else { return false };
        accounted[number] += lines_of(cx, &state, here);
        let chained = match &state.progress {
            Progress::Chained { next, ahead } => [Some(next), Some(ahead)],
            Progress::Pending | Progress::Settled(..) => [None, None],
        };
        for source in chained.into_iter().flatten() {
            if let Some(source) = number_of.get(&std::ptr::from_ref(H::promise_cell(source))) {
                accounted[*source] += 1;
            }
        }
    }
    nodes.iter().zip(accounted).all(|(node, accounted)| H::references(node) == accounted)
}
