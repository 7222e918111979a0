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

/// The plain part of an event as it is kept. Small, since writing it is most of what recording costs: so numbers have 48
/// bits, which take nine years to count to with a million turns a second.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Facts {
    /// The last reading of the clock before it.
    pub(crate) mark: u64,
    /// The reading at its end; 0 if the clock was not read then.
    pub(crate) ended: u64,
    /// Churn, turn, time, and time of the cause.
    low: [u32; 4],
    high: [u16; 4],
    /// The number of the vat; `u32::MAX` for none.
    cause_vat: u32,
    /// How many turns ended between the reading and this event.
    pub(crate) place: u16,
    pub(crate) kind: EventKind,
    /// It left something.
    has_trace: bool,
}

impl Facts {
    /// Those of no event.
    const NONE: Self = Self {
        mark: 0,
        ended: 0,
        low: [0; 4],
        high: [0; 4],
        cause_vat: u32::MAX,
        place: 0,
        kind: EventKind::Run,
        has_trace: false,
    };

    #[inline(always)]
    pub(crate) fn new(
        kind: EventKind,
        times: (ChurnId, TurnId, LamportTime),
        cause: Cause,
        stamp: Stamp,
    ) -> Self {
        let numbers = [times.0.0, times.1.0, times.2.0, cause.time.0];
        let cause_vat = cause.vat.map_or(u32::MAX, |vat| vat.0 as u32);
        let Stamp { mark, ended, place } = stamp;
        let (low, high) = (numbers.map(|number| number as u32), numbers.map(|number| (number >> 32) as u16));
        Self { mark, ended, low, high, cause_vat, place, kind, has_trace: false }
    }

    fn numbers(&self) -> [u64; 4] {
        std::array::from_fn(|index| u64::from(self.high[index]) << 32 | u64::from(self.low[index]))
    }

    pub(crate) fn churn(&self) -> ChurnId {
        ChurnId(self.numbers()[0])
    }

    pub(crate) fn turn(&self) -> TurnId {
        TurnId(self.numbers()[1])
    }

    pub(crate) fn time(&self) -> LamportTime {
        LamportTime(self.numbers()[2])
    }

    pub(crate) fn cause(&self) -> Cause {
        let vat = (self.cause_vat != u32::MAX).then_some(VatId(u64::from(self.cause_vat)));
        Cause { vat, time: LamportTime(self.numbers()[3]) }
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

/// An event as it is kept: in two lines of the processor's cache, the second of which is left alone if it changed nothing.
#[repr(C, align(64))]
pub(crate) struct Entry<H: Host> {
    pub(crate) facts: Facts,
    actor: Option<H::Actor>,
    method: Option<H::Name>,
    /// `Nothing` if the facts say that there is none.
    trace: Trace<H>,
}

impl<H: Host> Entry<H> {
    /// A place for one.
    #[cold]
    pub(crate) fn empty() -> Box<Self> {
        Box::new(Self { facts: Facts::NONE, actor: None, method: None, trace: Trace::Nothing })
    }

    /// Puts an event into an empty place.
    #[inline(always)]
    pub(crate) fn fill(&mut self, facts: Facts, actor: Option<H::Actor>, method: Option<H::Name>) {
        self.facts = facts;
        self.actor = actor;
        self.method = method;
    }

    /// Notes what it left, once.
    #[inline(always)]
    pub(crate) fn leave(&mut self, trace: Trace<H>) {
        self.facts.has_trace = true;
        self.trace = trace;
    }

    pub(crate) fn actor(&self) -> Option<&H::Actor> {
        self.actor.as_ref()
    }

    pub(crate) fn method(&self) -> Option<&H::Name> {
        self.method.as_ref()
    }

    pub(crate) fn trace(&self) -> &Trace<H> {
        if self.facts.has_trace { &self.trace } else { &Trace::Nothing }
    }

    /// Lets go of all that it keeps alive.
    #[inline(always)]
    pub(crate) fn let_go(&mut self, cx: H::Cx<'_>) {
        if let Some(actor) = self.actor.take() {
            H::drop_actor(cx, actor);
        }
        if let Some(method) = self.method.take() {
            H::drop_name(cx, method);
        }
        if std::mem::take(&mut self.facts.has_trace) {
            std::mem::replace(&mut self.trace, Trace::Nothing).let_go(cx);
        }
    }

    /// The same, for one who may not be attached.
    pub(crate) fn drop_all(&mut self) {
        self.actor = None;
        self.method = None;
        self.facts.has_trace = false;
        self.trace = Trace::Nothing;
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
    fn let_go(self, cx: H::Cx<'_>) {
        match self {
            Self::Change(change) => change.let_go(cx),
            other => drop(other),
        }
    }

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn facts_and_two_references_fit_into_a_line_of_the_cache() {
        assert_eq!(size_of::<Facts>() + 2 * size_of::<&u8>(), 64);
    }

    proptest! {
        #[test]
        fn facts_are_what_was_noted(
            numbers in prop::array::uniform4(0u64..1 << 48), vat in prop::option::of(0u64..1000), stamp: [u64; 2]
        ) {
            let [churn, turn, time, cause_time] = numbers;
            let times = (ChurnId(churn), TurnId(turn), LamportTime(time));
            let cause = Cause { vat: vat.map(VatId), time: LamportTime(cause_time) };
            let [mark, ended] = stamp;
            let facts = Facts::new(EventKind::Send, times, cause, Stamp { mark, ended, place: 7 });
            prop_assert_eq!((facts.churn(), facts.turn(), facts.time()), times);
            prop_assert_eq!(facts.cause(), cause);
            prop_assert_eq!((facts.mark, facts.ended, facts.place, facts.kind), (mark, ended, 7, EventKind::Send));
        }
    }
}
