//! Events: what the log of a vat keeps of each turn, and what it shows of it.

use std::time::Duration;

use crate::host::Host;
use crate::ids::{ChurnId, LamportTime, TurnId, VatId};
use crate::turn::Undo;

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A message was handled.
    Deliver,
    /// Code ran because a promise had settled.
    React,
    /// A call, or a block of calls, came from outside.
    Run,
    /// A message was handed to another vat.
    Send,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// Its changes were kept.
    Kept,
    /// Its changes were undone.
    Undone,
}

/// What an event was caused by: an event of a vat, found by its logical time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cause {
    /// The vat, or `None` for work from outside all vats.
    pub vat: Option<VatId>,
    /// The logical time of the causing event in that vat, 0 from outside.
    pub time: LamportTime,
}

/// The plain part of an event as it is kept. Small, since writing it is most of what recording costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) churn: ChurnId,
    pub(crate) turn: TurnId,
    pub(crate) time: LamportTime,
    cause_time: LamportTime,
    /// The last reading of the clock before it.
    pub(crate) mark: u64,
    /// The reading at its end; 0 if the clock was not read then.
    pub(crate) ended: u64,
    /// The number of the vat; `u32::MAX` for none.
    cause_vat: u32,
    /// How many turns ended between the reading and this event.
    pub(crate) place: u16,
    pub(crate) kind: EventKind,
}

impl Facts {
    #[inline(always)]
    pub(crate) fn new(
        kind: EventKind,
        times: (ChurnId, TurnId, LamportTime),
        cause: Cause,
        stamp: Stamp,
    ) -> Self {
        let (churn, turn, time) = times;
        let cause_vat = cause.vat.map_or(u32::MAX, |vat| vat.0 as u32);
        let Stamp { mark, ended, place } = stamp;
        Self { churn, turn, time, cause_time: cause.time, mark, ended, cause_vat, place, kind }
    }

    pub(crate) fn cause(&self) -> Cause {
        let vat = (self.cause_vat != u32::MAX).then_some(VatId(u64::from(self.cause_vat)));
        Cause { vat, time: self.cause_time }
    }
}

/// When an event was, as the recorder knows it: see [`crate::recording`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stamp {
    /// The last reading of the clock before it.
    pub(crate) mark: u64,
    /// The reading at its end; 0 if the clock was not read then.
    pub(crate) ended: u64,
    /// How many turns ended between that reading and this event.
    pub(crate) place: u16,
}

/// Events as they are kept, or places for some.
#[allow(clippy::vec_box, reason = "the boxes go to and fro between the log and the churn that runs")]
pub(crate) type Entries<H> = Vec<Box<Entry<H>>>;

/// An event as it is kept: in two lines of the processor's cache.
#[repr(align(64))]
pub(crate) struct Entry<H: Host> {
    pub(crate) facts: Facts,
    pub(crate) held: Held<H>,
}

/// What an event keeps alive.
pub(crate) struct Held<H: Host> {
    pub(crate) actor: Option<H::Actor>,
    pub(crate) method: Option<H::Name>,
    pub(crate) trace: Trace<H>,
}

impl<H: Host> Default for Held<H> {
    fn default() -> Self {
        Self { actor: None, method: None, trace: Trace::Nothing }
    }
}

impl<H: Host> Held<H> {
    /// Lets all of it go.
    #[inline(always)]
    pub(crate) fn empty(&mut self, cx: H::Cx<'_>) {
        if let Some(actor) = self.actor.take() {
            H::drop_actor(cx, actor);
        }
        if let Some(method) = self.method.take() {
            H::drop_name(cx, method);
        }
        match std::mem::replace(&mut self.trace, Trace::Nothing) {
            Trace::Nothing => {}
            Trace::Change(change) => change.let_go(cx),
            other => drop(other),
        }
    }
}

/// What a turn left: how to take back what it changed, or its error.
pub(crate) enum Trace<H: Host> {
    Nothing,
    Change(Undo<H>),
    /// Oldest first.
    Changes(Vec<Undo<H>>),
    Error(H::Value),
}

impl<H: Host> Trace<H> {
    pub(crate) fn changes(&self) -> &[Undo<H>] {
        match self {
            Self::Change(change) => std::slice::from_ref(change),
            Self::Changes(changes) => changes,
            Self::Nothing | Self::Error(_) => &[],
        }
    }

    pub(crate) fn error(&self) -> Option<&H::Value> {
        match self {
            Self::Error(error) => Some(error),
            _ => None,
        }
    }
}

/// An event, as those who look at the log get it.
pub struct Event<H: Host> {
    /// Its number among all events that the log ever had, from 0.
    pub sequence: u64,
    /// What it tells of.
    pub kind: EventKind,
    /// How it ended.
    pub outcome: EventOutcome,
    /// In which churn.
    pub churn: ChurnId,
    /// In which turn; for one of kind `Send`, the turn that sent.
    pub turn: TurnId,
    /// When, by the vat's clock. No two events of a vat have the same time.
    pub time: LamportTime,
    /// Why.
    pub cause: Cause,
    /// The actor that got the message.
    pub actor: Option<H::Actor>,
    /// The method it was asked for.
    pub method: Option<H::Name>,
    /// The error that left the turn, as a value.
    pub error: Option<H::Value>,
    /// When it began, since a moment that is the same for all vats of the process.
    pub began: Duration,
    /// When it began, since 1970.
    pub wall: Duration,
    /// How long it took. `None` for one that is not known yet, or took no time of its own.
    pub duration: Option<Duration>,
}

/// A moment in the past of a vat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The number of an event.
    pub sequence: u64,
    /// Just before it, instead of right after it.
    pub before: bool,
}

impl<H: Host> std::fmt::Debug for Event<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sequence, kind, outcome, churn, turn, time, cause, .. } = self;
        let (vat, then) = (cause.vat, cause.time);
        write!(f, "event {sequence}: {kind:?} {outcome:?} in turn {turn} of churn {churn} at {time}, ")?;
        write!(f, "caused at {then} by {vat:?}")
    }
}
