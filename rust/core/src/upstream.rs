//! What promises wait for: those that are made of others, as parts, answers and what handlers give.
//!
//! Each promise knows what waits for it, and each on whose behalf something waits knows for what. So a promise that
//! would wait for itself, by whatever way, is found before it does (LIM-23).

use std::collections::{HashMap, HashSet};

use crate::host::Host;
use crate::promise::{Progress, PromiseCell, Reaction, Waiter};

/// What a promise waits for, other than the one it was fulfilled with.
pub struct Upstream<H: Host> {
    sources: Sources<H>,
    /// Any one of them is enough.
    any: bool,
}

/// None of them is kept alive: that a promise waits for another does not make somebody settle that.
enum Sources<H: Host> {
    None,
    One(H::WeakPromise),
    Many(Vec<H::WeakPromise>),
}

/// A promise that a waiter is there to settle.
pub struct Goal<'a, H: Host> {
    /// The promise.
    pub promise: &'a H::Promise,
    /// Whatever comes settles it, though others may wait on its behalf as well.
    pub any: bool,
}

impl<H: Host> Default for Upstream<H> {
    fn default() -> Self {
        Self { sources: Sources::None, any: false }
    }
}

impl<H: Host> Upstream<H> {
    /// All that it waits for, as far as it is alive; one may come twice.
    pub(crate) fn sources(&self, cx: H::Cx<'_>) -> impl Iterator<Item = H::Promise> {
        self.known().iter().filter_map(move |source| H::upgrade_promise(cx, source))
    }

    /// How many there are, at most.
    pub(crate) fn count(&self) -> usize {
        self.known().len()
    }

    fn known(&self) -> &[H::WeakPromise] {
        match &self.sources {
            Sources::None => &[],
            Sources::One(source) => std::slice::from_ref(source),
            Sources::Many(sources) => sources,
        }
    }

    fn add(&mut self, source: H::WeakPromise, any: bool) {
        self.any = any;
        self.sources = match std::mem::replace(&mut self.sources, Sources::None) {
            Sources::None => Sources::One(source),
            Sources::One(first) => Sources::Many(vec![first, source]),
            Sources::Many(mut sources) => {
                sources.push(source);
                Sources::Many(sources)
            }
        };
    }

    /// Takes one of them out.
    pub(crate) fn remove(&mut self, cx: H::Cx<'_>, cell: *const PromiseCell<H>) {
        let is_it = |source: &H::WeakPromise| {
            H::upgrade_promise(cx, source).is_some_and(|source| std::ptr::eq(H::promise_cell(&source), cell))
        };
        let Some(index) = self.known().iter().position(is_it) else { return };
        match &mut self.sources {
            Sources::Many(sources) => drop(sources.swap_remove(index)),
            sources => *sources = Sources::None,
        }
    }
}

impl<H: Host> Waiter<H> {
    /// The promise that it is there to settle.
    pub(crate) fn goal(&self) -> Option<Goal<'_, H>> {
        let (promise, any) = match self {
            Self::Vat(_, reaction) => return reaction.goal(),
            Self::Outside(waker) => return H::goal(waker),
            Self::Forward { resolver, .. } => (resolver, false),
            Self::Chain(promise) => (promise, false),
        };
        Some(Goal { promise, any })
    }

    /// Whether all that it does is to settle its promise.
    pub(crate) fn only_settles(&self) -> bool {
        match self {
            Self::Vat(_, Reaction::Settle(_) | Reaction::Chain(_)) | Self::Chain(_) => true,
            Self::Vat(_, Reaction::Listen { fulfilled, broken, .. }) => {
                [fulfilled, broken].into_iter().flatten().all(H::only_makes_a_value)
            }
            Self::Outside(waker) => H::goal(waker).is_some(),
            Self::Vat(..) | Self::Forward { .. } => false,
        }
    }

    pub(crate) fn is_chain(&self) -> bool {
        matches!(self, Self::Chain(_) | Self::Vat(_, Reaction::Chain(_)))
    }
}

impl<H: Host> Reaction<H> {
    /// The promise that it is there to settle.
    pub(crate) fn goal(&self) -> Option<Goal<'_, H>> {
        let promise = match self {
            Self::Settle(waker) => return H::goal(waker),
            Self::Forward { resolver, .. } => resolver.as_ref()?,
            Self::Listen { derived, .. } | Self::Finally { derived, .. } => derived,
            Self::Resume { answer, .. } => answer,
            Self::Chain(promise) => promise,
            Self::Partial(_) | Self::Describe(_) => return None,
        };
        Some(Goal { promise, any: false })
    }
}

/// A promise on whose behalf somebody waits in a line.
pub(crate) struct Place<H: Host> {
    pub(crate) goal: H::Promise,
    /// Whatever comes settles it, though others may wait on its behalf as well.
    pub(crate) any: bool,
    /// It does not wait any more for what it waited for before.
    pub(crate) instead: bool,
}

impl<H: Host> Place<H> {
    /// Notes what the promise waits for.
    pub(crate) fn note(self, cx: H::Cx<'_>, source: &H::Promise) {
        let Ok(source) = H::downgrade_promise(cx, source) else { return };
        let mut state = H::promise_cell(&self.goal).state();
        let before = match &state.progress {
            Progress::Pending => {
                let before =
                    if self.instead { std::mem::take(&mut state.upstream) } else { Upstream::default() };
                state.upstream.add(source, self.any);
                (Some(before), None)
            }
            Progress::Chained { .. } | Progress::Settled(..) => (None, Some(source)),
        };
        drop(state);
        drop(before);
    }
}

/// Whether a promise that comes to wait for what is at the end of a chain would wait for itself, whatever else
/// happens. `kept` is dropped by the caller, with no lock held.
///
/// It is looked for from both sides, always further on that where less is to do: mostly one of them ends at once,
/// however much there is on the other.
pub(crate) fn closes_a_ring<H: Host>(
    cx: H::Cx<'_>,
    promise: &H::Promise,
    end: &H::Promise,
    kept: &mut Vec<H::Promise>,
) -> bool {
    let (start, goal) = (H::promise_cell(promise), H::promise_cell(end));
    if std::ptr::eq(start, goal) {
        return true;
    }
    if goal.state().upstream.count() == 0 {
        return false;
    }
    let mut up = Above::<H>::new(H::clone_promise(cx, end));
    let mut down = Below::<H>::new(H::clone_promise(cx, promise));
    let found = loop {
        let (Some(above), Some(below)) = (up.next_cost(), down.next_cost()) else {
            // What was not found from the one side that was looked through is not there.
            break up.next_cost().is_none() && up.number_of.contains_key(&std::ptr::from_ref(start));
        };
        if up.cost + above <= down.cost + below {
            up.go_on(cx, start);
        } else if down.go_on(cx, goal) {
            // There is a way. Whether there is no other one out shows only above.
            while up.next_cost().is_some() {
                up.go_on(cx, start);
            }
        }
    };
    let ring = found && !up.is_free(start);
    kept.append(&mut up.nodes);
    kept.append(&mut up.doubles);
    kept.append(&mut down.nodes);
    ring
}

/// What a promise waits for, directly or not.
struct Above<H: Host> {
    nodes: Vec<H::Promise>,
    number_of: HashMap<*const PromiseCell<H>, usize>,
    /// What each waits for, and whether any one of them is enough; of those that were looked at.
    sources: Vec<(Vec<usize>, bool)>,
    /// More references to some of them, to be dropped later.
    doubles: Vec<H::Promise>,
    cost: usize,
}

impl<H: Host> Above<H> {
    fn new(first: H::Promise) -> Self {
        let number_of = HashMap::from([(std::ptr::from_ref(H::promise_cell(&first)), 0)]);
        Self { nodes: vec![first], number_of, sources: Vec::new(), doubles: Vec::new(), cost: 0 }
    }

    /// What it costs to look at the next one; `None` if there is none.
    fn next_cost(&self) -> Option<usize> {
        let next = self.nodes.get(self.sources.len())?;
        Some(1 + H::promise_cell(next).state().upstream.count())
    }

    /// Looks at the next one, unless it is the one that would wait.
    fn go_on(&mut self, cx: H::Cx<'_>, start: *const PromiseCell<H>) {
        let Some(next) = self.nodes.get(self.sources.len()) else { return };
        let cell = H::promise_cell(next);
        let (found, any) = {
            let state = cell.state();
            match &state.progress {
                _ if std::ptr::eq(cell, start) => (Vec::new(), false),
                Progress::Settled(..) => (Vec::new(), false),
                Progress::Chained { ahead, .. } => (vec![H::clone_promise(cx, ahead)], false),
                Progress::Pending => (state.upstream.sources(cx).collect(), state.upstream.any),
            }
        };
        self.cost += 1 + found.len();
        let mut numbers = Vec::with_capacity(found.len());
        for promise in found {
            let number = *self.number_of.entry(H::promise_cell(&promise)).or_insert(self.nodes.len());
            numbers.push(number);
            if number == self.nodes.len() {
                self.nodes.push(promise);
            } else {
                self.doubles.push(promise);
            }
        }
        self.sources.push((numbers, any));
    }

    /// Whether the first one can settle without the one at `start`. All were looked at.
    fn is_free(&self, start: *const PromiseCell<H>) -> bool {
        let count = self.sources.len();
        let mut waiting: Vec<usize> = Vec::with_capacity(count);
        let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut free: Vec<usize> = Vec::new();
        let start = self.number_of.get(&start).copied();
        for (number, (sources, any)) in self.sources.iter().enumerate() {
            for source in sources {
                waiters[*source].push(number);
            }
            waiting.push(if *any { sources.len().min(1) } else { sources.len() });
            if sources.is_empty() && Some(number) != start {
                free.push(number);
            }
        }
        let mut is_free = vec![false; count];
        while let Some(number) = free.pop() {
            if std::mem::replace(&mut is_free[number], true) {
                continue;
            }
            for waiter in &waiters[number] {
                waiting[*waiter] = waiting[*waiter].saturating_sub(1);
                if waiting[*waiter] == 0 && Some(*waiter) != start {
                    free.push(*waiter);
                }
            }
        }
        is_free[0]
    }
}

/// What waits for a promise, directly or not.
struct Below<H: Host> {
    nodes: Vec<H::Promise>,
    known: HashSet<*const PromiseCell<H>>,
    looked_at: usize,
    cost: usize,
}

impl<H: Host> Below<H> {
    fn new(first: H::Promise) -> Self {
        let known = HashSet::from([std::ptr::from_ref(H::promise_cell(&first))]);
        Self { nodes: vec![first], known, looked_at: 0, cost: 0 }
    }

    /// What it costs to look at the next one; `None` if there is none.
    fn next_cost(&self) -> Option<usize> {
        Some(1 + H::promise_cell(self.nodes.get(self.looked_at)?).state().waiters.len())
    }

    /// Looks at the next one; tells whether the one at `goal` waits for it.
    fn go_on(&mut self, cx: H::Cx<'_>, goal: *const PromiseCell<H>) -> bool {
        let Some(next) = self.nodes.get(self.looked_at) else { return false };
        let found: Vec<H::Promise> = {
            let state = H::promise_cell(next).state();
            let goals = state.waiters.iter().filter_map(Waiter::goal);
            goals
                .filter(|goal| self.known.insert(H::promise_cell(goal.promise)))
                .map(|goal| H::clone_promise(cx, goal.promise))
                .collect()
        };
        self.looked_at += 1;
        self.cost += 1 + found.len();
        self.nodes.extend(found);
        self.known.contains(&goal)
    }
}
