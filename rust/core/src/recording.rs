//! Recording: each turn, and each message handed to another vat, becomes an event of the log.
//!
//! Reading the clock would be the most expensive part of it. The first turns of a churn are timed one by one;
//! in a churn that goes on for longer, a reading stands for a group of turns, unless one of them takes long.

use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::churn::{Churn, Work};
use crate::host::Host;
use crate::ids::{ChurnId, LamportTime, TurnId};
use crate::log::{Cause, Changes, Entry, EventKind, EventOutcome, Stamp};
use crate::turn::Undo;
use crate::vat::Vat;

/// How many turns of a churn are timed one by one, and how many a later reading of the clock may stand for.
const TIMED: u32 = 16;

/// How old the difference between the two clocks may be, in ns.
const OFFSET_AGE: u64 = 1_000_000_000;

/// What a turn is about, for the log and for the note that its error gets.
pub struct Heading<'a, H: Host> {
    /// What it is.
    pub kind: EventKind,
    /// Why.
    pub cause: Cause,
    /// The actor that gets the message.
    pub actor: Option<&'a H::Actor>,
    /// The method it is asked for.
    pub method: Option<&'a H::Name>,
}

impl<H: Host> Clone for Heading<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H: Host> Copy for Heading<'_, H> {}

impl<H: Host> Heading<'_, H> {
    /// A block of calls from outside.
    pub fn run() -> Self {
        Self { kind: EventKind::Run, cause: Cause::default(), actor: None, method: None }
    }

    pub(crate) fn react(cause: Cause) -> Self {
        Self { kind: EventKind::React, cause, actor: None, method: None }
    }
}

/// Where an error left a turn.
pub struct Place<'a, H: Host> {
    /// The vat.
    pub vat: &'a Vat<H>,
    /// The actor that had got the message.
    pub actor: Option<&'a H::Actor>,
    /// The method it was asked for.
    pub method: Option<&'a H::Name>,
    /// The turn.
    pub turn: TurnId,
    /// Its event, if it was recorded.
    pub event: Option<u64>,
}

/// When the clock was read, in the churn that runs.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// The last reading, in ns; 0 for none in this churn.
    mark: u64,
    /// The tick of the watch at that time.
    tick: u64,
    /// Turns of this churn that were timed one by one.
    timed: u32,
    /// Turns that ended since the reading.
    since: u32,
    /// What to add for the wall time, in ns, and when that was found out.
    offset: u64,
    offset_at: u64,
}

/// Time since a moment that is the same for all vats, in ns, and never 0.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX) + 1
}

impl Timing {
    /// A turn begins.
    pub(crate) fn begin(&mut self, tick: u64) {
        if self.mark != 0 {
            return;
        }
        self.read(tick);
        if self.offset == 0 || self.mark - self.offset_at > OFFSET_AGE {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.offset = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX).wrapping_sub(self.mark);
            self.offset_at = self.mark;
        }
    }

    fn read(&mut self, tick: u64) {
        *self = Self { mark: now(), tick, since: 0, ..*self };
    }

    /// What happens now.
    fn stamp(&self) -> Stamp {
        Stamp { mark: self.mark, place: self.since, ended: 0, offset: self.offset }
    }

    /// A turn has ended.
    fn end(&mut self, tick: u64) -> Stamp {
        let mut stamp = self.stamp();
        self.since += 1;
        if self.timed < TIMED || self.since == TIMED || tick != self.tick {
            self.timed = self.timed.saturating_add(1);
            self.read(tick);
            stamp.ended = self.mark;
        }
        stamp
    }
}

impl<H: Host> Changes<H> {
    /// What the open turn changed. It is taken from its undo list, which a vat with a store needs itself.
    fn take(cx: H::Cx<'_>, work: &mut Work<H>) -> Self {
        if work.saving.is_some() {
            let mut kept: Vec<_> = work.undo.iter().filter(|change| change.is_logged()).collect();
            return match kept.len() {
                0 | 1 => kept.pop().map_or(Self::None, |change| Self::One(change.share(cx))),
                _ => Self::Many(kept.into_iter().map(|change| change.share(cx)).collect()),
            };
        }
        match work.undo.len() {
            0 | 1 => work.undo.pop().map_or(Self::None, Self::One),
            _ => Self::Many(std::mem::take(&mut work.undo)),
        }
    }
}

impl<H: Host> Undo<H> {
    /// Whether a look back needs it. What a record says of an actor is what it was before it was made of that.
    fn is_logged(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Touched { .. } | Self::Spawned { .. })
    }

    pub(crate) fn actor(&self) -> &H::Actor {
        match self {
            Self::Changed { actor, .. }
            | Self::Touched { actor, .. }
            | Self::Spawned { actor }
            | Self::Rehydrated { actor }
            | Self::Upgraded { actor }
            | Self::Stored { actor } => actor,
        }
    }

    pub(crate) fn share(&self, cx: H::Cx<'_>) -> Self {
        let actor = H::clone_actor(cx, self.actor());
        match self {
            Self::Changed { old, .. } => Self::Changed { actor, old: H::clone_behavior(cx, old) },
            Self::Touched { saved, .. } => Self::Touched { actor, saved: H::clone_saved(cx, saved) },
            Self::Spawned { .. } => Self::Spawned { actor },
            Self::Rehydrated { .. } => Self::Rehydrated { actor },
            Self::Upgraded { .. } => Self::Upgraded { actor },
            Self::Stored { .. } => Self::Stored { actor },
        }
    }
}

impl<H: Host> Churn<H> {
    /// Records the turn that has just succeeded.
    pub(crate) fn record_kept(&self, cx: H::Cx<'_>, heading: Heading<'_, H>) {
        let mut work = self.work();
        let changes = Changes::take(cx, &mut work);
        drop(work);
        self.record(cx, heading, EventOutcome::Kept, None, changes);
    }

    /// Records the turn that has just failed, if there is a log, and notes in the error where that was.
    pub(crate) fn record_undone(self: &Rc<Self>, cx: H::Cx<'_>, heading: Heading<'_, H>, error: &H::Error) {
        let event = if self.vat().log().is_on() {
            let kept = H::error_value(cx, error);
            self.record(cx, heading, EventOutcome::Undone, Some(kept), Changes::None)
        } else {
            None
        };
        let Heading { actor, method, .. } = heading;
        let turn = TurnId(self.work().turn);
        H::note(cx, error, &Place { vat: self.vat(), actor, method, turn, event });
    }

    fn record(
        &self,
        cx: H::Cx<'_>,
        heading: Heading<'_, H>,
        outcome: EventOutcome,
        error: Option<H::Value>,
        changes: Changes<H>,
    ) -> Option<u64> {
        let tick = self.vat().runtime().watch().tick();
        let actor = heading.actor.map(|actor| H::clone_actor(cx, actor));
        let method = heading.method.map(|method| H::clone_name(cx, method));
        let mut work = self.work();
        let entry = Entry {
            kind: heading.kind,
            outcome,
            churn: ChurnId(work.churn + 1),
            turn: TurnId(work.turn),
            time: work.cause.time,
            cause: heading.cause,
            stamp: work.timing.end(tick),
            actor,
            method,
            error,
            changes,
        };
        drop(work);
        let (number, dropped) = self.vat().log().record(entry);
        drop(dropped);
        number
    }

    /// A message goes to another vat: that is an event, with a time of its own. Gives what the message was
    /// caused by.
    pub(crate) fn record_send(&self, cx: H::Cx<'_>, actor: &H::Actor, message: &H::Message) -> Cause {
        let mut work = self.work();
        work.clock += 1;
        let time = LamportTime(work.clock);
        if self.vat().log().is_on() {
            let entry = Entry {
                kind: EventKind::Send,
                outcome: EventOutcome::Kept,
                churn: ChurnId(work.churn + 1),
                turn: TurnId(work.turn),
                time,
                cause: work.cause,
                stamp: work.timing.stamp(),
                actor: Some(H::clone_actor(cx, actor)),
                method: H::method(cx, message),
                error: None,
                changes: Changes::None,
            };
            drop(work);
            let (_, dropped) = self.vat().log().record(entry);
            drop(dropped);
        }
        Cause { vat: Some(self.vat().id()), time }
    }

    /// The churn is over: the times of its last turns are known.
    pub(crate) fn record_end(&self) {
        let mut work = self.work();
        let Timing { mark, since, .. } = work.timing;
        if mark == 0 {
            return;
        }
        work.timing.mark = 0;
        work.timing.timed = 0;
        work.timing.since = 0;
        drop(work);
        if since > 0 {
            self.vat().log().newest_ended(mark, now());
        }
    }
}
