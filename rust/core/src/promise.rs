//! The kernel's part of a promise.
//!
//! What waits for a promise belongs to a vat and is handled there, in a turn of its own, or stands outside
//! all vats. An outcome made in a churn is seen in that vat at once; others see it when the churn has been
//! written, and the world outside when it is durable (guarantee G2).

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::host::Host;
use crate::ids::{Address, VatId};
use crate::leaving::Left;
use crate::log::Cause;
use crate::partial::{News, Updates};
use crate::upstream::{Place, Upstream};
use crate::vat::Vat;

/// How a promise ended.
pub enum Outcome<H: Host> {
    /// With a value.
    Fulfilled(H::Value),
    /// With an error.
    Broken(H::Error),
}

impl<H: Host> Outcome<H> {
    /// The same outcome again.
    pub fn share(&self, cx: H::Cx<'_>) -> Self {
        match self {
            Self::Fulfilled(value) => Self::Fulfilled(H::clone_value(cx, value)),
            Self::Broken(error) => Self::Broken(H::clone_error(cx, error)),
        }
    }
}

impl<H: Host> From<Result<H::Value, H::Error>> for Outcome<H> {
    fn from(result: Result<H::Value, H::Error>) -> Self {
        match result {
            Ok(value) => Self::Fulfilled(value),
            Err(error) => Self::Broken(error),
        }
    }
}

/// Where a store's vats stand: those of one store see each other's output before it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(pub(crate) usize);

/// Who may see an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nobody, for the moment: it was settled outside all vats, and is about to be released.
    ByNobody,
    /// The vat whose churn made it.
    ByVat(VatId),
    /// The vats of one store.
    ByStore(StoreId),
    /// Everybody.
    ByAll,
}

/// How far a promise has come.
pub enum Progress<H: Host> {
    /// Nobody has settled it.
    Pending,
    /// It was fulfilled with another promise, and waits for that one.
    Chained {
        /// The one that it waits for.
        next: H::Promise,
        /// The same, or one that this waits for in turn: so that long chains are walked in leaps.
        ahead: H::Promise,
    },
    /// It has its outcome.
    Settled(Outcome<H>, Seen),
}

/// What a vat does when a promise has settled.
pub enum Reaction<H: Host> {
    /// Sends a message on to the actor that the promise stands for.
    Forward {
        /// The message.
        message: H::Message,
        /// The promise of its answer.
        resolver: Option<H::Promise>,
    },
    /// Runs a handler.
    Listen {
        /// For a value; without it the value goes through.
        fulfilled: Option<H::Function>,
        /// For an error; without it the error goes through.
        broken: Option<H::Function>,
        /// The promise of what the handler gives.
        derived: H::Promise,
    },
    /// Runs a handler that takes nothing, then passes the outcome on.
    Finally {
        /// The handler.
        handler: H::Function,
        /// The promise that gets the outcome.
        derived: H::Promise,
    },
    /// Goes on with suspended code.
    Resume {
        /// The code.
        code: H::Suspended,
        /// The promise of what it gives in the end.
        answer: H::Promise,
    },
    /// Tells a waker of it, without a turn.
    Settle(H::Waker),
    /// Settles another promise in the same way.
    Chain(H::Promise),
    /// Only listens for partial updates.
    Partial(H::Partial),
    /// Stores an actor again, whose state holds the promise.
    Describe(H::Actor),
}

/// Who waits for a promise.
pub enum Waiter<H: Host> {
    /// A vat.
    Vat(Arc<Vat<H>>, Reaction<H>),
    /// A message that was sent outside all vats.
    Forward {
        /// The message.
        message: H::Message,
        /// The promise of its answer.
        resolver: H::Promise,
    },
    /// A promise that was chained to this one outside all vats.
    Chain(H::Promise),
    /// Somebody outside all vats.
    Outside(H::Waker),
}

/// A promise's state. The host's promise object embeds one and is its only owner.
pub struct PromiseCell<H: Host> {
    state: Mutex<PromiseState<H>>,
    /// The actor of another vat that it stands for, if it comes from a store (POR-33).
    address: Option<Box<Address>>,
}

/// How far a promise has come, and who waits for it.
pub struct PromiseState<H: Host> {
    /// How far it has come.
    pub progress: Progress<H>,
    /// What it tells of before it settles, if it does.
    pub updates: Option<Box<Updates<H>>>,
    /// Who waits, oldest first.
    pub waiters: Vec<Waiter<H>>,
    /// Those of them who wait no longer.
    pub(crate) left: Option<Box<Left>>,
    /// What it waits for itself.
    pub upstream: Upstream<H>,
    /// What settled it, for the log.
    pub cause: Cause,
    /// Somebody has asked for the outcome.
    pub heard: bool,
    /// Somebody who had asked needed it no more: an error is dropped.
    pub dismissed: bool,
}

impl<H: Host> PromiseState<H> {
    fn new(heard: bool) -> Self {
        Self {
            progress: Progress::Pending,
            updates: None,
            waiters: Vec::new(),
            left: None,
            upstream: Upstream::default(),
            cause: Cause::default(),
            heard,
            dismissed: false,
        }
    }
}

impl<H: Host> Default for PromiseCell<H> {
    fn default() -> Self {
        Self { state: Mutex::new(PromiseState::new(false)), address: None }
    }
}

impl<H: Host> PromiseCell<H> {
    /// A promise that nobody has settled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A promise for a stored actor of another vat. It stays that, however it settles.
    pub fn standing_for(address: Address) -> Self {
        Self { address: Some(Box::new(address)), ..Self::default() }
    }

    /// The actor of another vat that it stands for.
    pub fn address(&self) -> Option<Address> {
        self.address.as_deref().copied()
    }

    /// Its state. Do nothing of the host's under this lock but take another reference.
    pub fn state(&self) -> MutexGuard<'_, PromiseState<H>> {
        self.state.lock()
    }

    /// Its state, unless it is locked: for the host's garbage collector.
    pub fn try_state(&self) -> Option<MutexGuard<'_, PromiseState<H>>> {
        self.state.try_lock()
    }

    /// Takes what it holds, to be dropped by the caller: for the host's garbage collector.
    pub fn clear(&self) -> Option<PromiseState<H>> {
        let mut state = self.state.try_lock()?;
        Some(std::mem::replace(&mut *state, PromiseState::new(true)))
    }

    /// The outcome, as far as `viewer` may see it. Outside all vats, `viewer` is `None`.
    pub fn outcome(&self, cx: H::Cx<'_>, viewer: Option<&Vat<H>>) -> Option<Outcome<H>> {
        let mut state = self.state.lock();
        let shared = match &state.progress {
            Progress::Settled(outcome, seen) if may_see(*seen, viewer) => Some(outcome.share(cx)),
            _ => None,
        };
        state.heard |= shared.is_some();
        shared
    }

    /// Takes what a vat waits for here, once it has settled: waiting messages first, then listeners, each
    /// oldest first (ASY-28).
    pub(crate) fn take_reactions(&self, cx: H::Cx<'_>, vat: &Vat<H>) -> Vec<(Reaction<H>, Outcome<H>)> {
        let mut state = self.state();
        let state = &mut *state;
        let waiters = match state.progress {
            Progress::Settled(..) => state.take_line(),
            Progress::Pending | Progress::Chained { .. } => return Vec::new(),
        };
        let Progress::Settled(outcome, _) = &state.progress else {
            return Vec::new();
        };
        let mut reactions = Vec::new();
        for waiter in waiters {
            match waiter {
                Waiter::Vat(waiting, reaction) if waiting.id() == vat.id() => {
                    reactions.push((reaction, outcome.share(cx)))
                }
                waiter => state.waiters.push(waiter),
            }
        }
        reactions.sort_by_key(|(reaction, _)| !reaction.is_forward());
        reactions
    }
}

/// Adds a waiter to the line of a promise, unless the outcome can be seen already. Where others of the
/// same vat wait still, because the news is on its way, it waits in line: the oldest come first (ASY-27).
pub(crate) fn wait<H: Host>(
    cx: H::Cx<'_>,
    viewer: Option<&Vat<H>>,
    promise: &H::Promise,
    waiter: Waiter<H>,
) -> Waited<H> {
    let cell = H::promise_cell(promise);
    let mut state = cell.state();
    state.heard |= waiter.asks();
    if let Progress::Settled(outcome, seen) = &state.progress
        && may_see(*seen, viewer)
        && !viewer.is_some_and(|viewer| state.waiters.iter().any(|waiter| waiter.is_of(viewer)))
    {
        return Waited::Over(waiter, outcome.share(cx));
    }
    let news = state.newest(cx, viewer, &waiter);
    let come_back = state.has_left(&waiter);
    let left = if come_back { Some(state.sweep()) } else { state.make_room(cx, cell) };
    let instead = matches!(waiter, Waiter::Vat(_, Reaction::Resume { .. }));
    let goal = waiter.goal().filter(|_| !waiter.is_chain());
    let (goal, any) =
        (goal.as_ref().map(|goal| H::clone_promise(cx, goal.promise)), goal.is_some_and(|goal| goal.any));
    state.waiters.push(waiter);
    drop(state);
    drop(left);
    Waited::InLine(news, goal.map(|goal| Place { goal, any, instead }))
}

/// What came of it that somebody wanted to wait.
pub(crate) enum Waited<H: Host> {
    /// He waits, and there may be an update for him. What his promise waits for is still to be noted.
    InLine(Option<News<H>>, Option<Place<H>>),
    /// There is nothing to wait for.
    Over(Waiter<H>, Outcome<H>),
}

impl<H: Host> Waiter<H> {
    /// Whether it wants the outcome for somebody. An actor that only holds the promise has asked for nothing.
    pub(crate) fn asks(&self) -> bool {
        !matches!(self, Self::Vat(_, Reaction::Describe(_)))
    }

    /// Whether this vat waits.
    pub(crate) fn is_of(&self, vat: &Vat<H>) -> bool {
        matches!(self, Self::Vat(waiting, _) if waiting.id() == vat.id())
    }
}

/// Whether `viewer` (outside all vats: `None`) is among those who may see an outcome.
pub(crate) fn may_see<H: Host>(seen: Seen, viewer: Option<&Vat<H>>) -> bool {
    match seen {
        Seen::ByNobody => false,
        Seen::ByAll => true,
        Seen::ByVat(vat) => viewer.is_some_and(|viewer| viewer.id() == vat),
        Seen::ByStore(store) => viewer.is_some_and(|viewer| viewer.store_id() == Some(store)),
    }
}
