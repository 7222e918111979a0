//! Recording: each turn, and each message handed to another vat, becomes an event of the log.
//!
//! Reading the clock is the most expensive part of it: see [`crate::clock`]. The first turns of a churn are timed one by one;
//! in a churn that goes on for longer, a reading stands for a group of turns, unless one of them takes long. The
//! events of such a group are entered into the log together.

use std::rc::Rc;

use crate::churn::Churn;
use crate::clock;
use crate::event::{Cause, Entries, Entry, EventKind, Facts, Stamp, Trace};
use crate::host::Host;
use crate::ids::{ChurnId, LamportTime, TurnId};
use crate::turn::Undo;
use crate::vat::Vat;

/// How many turns of a churn are timed one by one, and how many a later reading of the clock may stand for.
const TIMED: u16 = 16;

/// As many events are kept back at most, in a churn that goes on.
const AT_ONCE: usize = TIMED as usize;

/// How old the known difference between the two clocks may be, in ns or in counts, which are no longer.
const OFFSET_AGE: u64 = 1_000_000_000;

/// The clock can't have gone back if it is so much earlier.
const REORDERED: u64 = 1_000_000;

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
    /// The last reading; 0 for none in this churn.
    mark: u64,
    /// The last reading of all.
    last: u64,
    /// The tick of the watch at that time.
    tick: u64,
    /// Turns of this churn that were timed one by one.
    timed: u16,
    /// Turns that ended since the reading.
    since: u16,
    /// When the clock was last compared with the wall time.
    compared: u64,
}

/// Events of the churn that runs which are not in the log yet.
pub(crate) struct Recorded<H: Host> {
    entries: Entries<H>,
    /// Places for the next ones, which hold nothing.
    spare: Entries<H>,
    /// What state the log had when they were made.
    state: u64,
}

impl<H: Host> Default for Recorded<H> {
    fn default() -> Self {
        Self { entries: Vec::new(), spare: Vec::new(), state: 0 }
    }
}

impl<H: Host> Recorded<H> {
    /// A place for an event, which holds nothing yet.
    #[inline(always)]
    fn place(&mut self) -> Box<Entry<H>> {
        self.spare.pop().unwrap_or_else(Entry::empty)
    }
}

impl Timing {
    /// A turn begins. If it was found out anew what is to be added for the wall time, in ns: that, and from which reading
    /// on.
    #[inline(always)]
    pub(crate) fn begin<H: Host>(&mut self, tick: u64) -> Option<(u64, u64)> {
        if self.mark != 0 {
            return None;
        }
        self.read::<H>(tick);
        if self.compared != 0 && self.mark.wrapping_sub(self.compared) < OFFSET_AGE {
            return None;
        }
        self.compare::<H>()
    }

    #[cold]
    fn compare<H: Host>(&mut self) -> Option<(u64, u64)> {
        let offset = clock::compare::<H>();
        self.compared = self.mark;
        Some((self.mark, offset))
    }

    #[inline(always)]
    fn read<H: Host>(&mut self, tick: u64) {
        self.mark = self.reading::<H>();
        self.tick = tick;
        self.since = 0;
    }

    /// What the clock says: no less than before, whichever thread that was.
    #[inline(always)]
    fn reading<H: Host>(&mut self) -> u64 {
        let reading = clock::reading::<H>();
        self.last = if reading < self.last { self.earlier::<H>(reading) } else { reading };
        self.last
    }

    /// Two readings may be made in another order than they stand in, if nothing comes in between.
    #[cold]
    fn earlier<H: Host>(&self, reading: u64) -> u64 {
        if self.last - reading > REORDERED {
            clock::compare::<H>();
        }
        clock::reading::<H>().max(self.last)
    }

    /// What happens now.
    #[inline(always)]
    fn stamp(&self) -> Stamp {
        Stamp { mark: self.mark, ended: 0, place: self.since }
    }

    /// A turn has ended.
    #[inline(always)]
    fn end<H: Host>(&mut self, tick: u64) -> Stamp {
        let mut stamp = self.stamp();
        self.since += 1;
        if self.timed < TIMED || self.since == TIMED || tick != self.tick {
            self.timed = self.timed.saturating_add(1);
            self.read::<H>(tick);
            stamp.ended = self.mark;
        }
        stamp
    }
}

impl<H: Host> Trace<H> {
    fn of(mut changes: Vec<Undo<H>>) -> Self {
        match changes.len() {
            0 | 1 => changes.pop().map_or(Self::Nothing, Self::Change),
            _ => Self::Changes(changes),
        }
    }
}

impl<H: Host> Undo<H> {
    /// Whether a look back needs it. What a record says of an actor is what it was before it was made of that.
    fn is_logged(&self) -> bool {
        matches!(
            self,
            Self::Changed { .. } | Self::Replaced { .. } | Self::Touched { .. } | Self::Spawned { .. }
        )
    }

    /// The actor that it is about.
    pub(crate) fn actor(&self) -> Option<&H::Actor> {
        match self {
            Self::Changed { actor, .. }
            | Self::Replaced { actor, .. }
            | Self::Touched { actor, .. }
            | Self::Spawned { actor }
            | Self::Rehydrated { actor }
            | Self::Upgraded { actor }
            | Self::Stored { actor } => Some(actor),
            Self::Environment { .. } => None,
        }
    }

    /// Drops it.
    #[inline]
    pub(crate) fn let_go(self, cx: H::Cx<'_>) {
        match self {
            Self::Changed { actor, old } | Self::Replaced { actor, old } => {
                H::drop_behavior(cx, old);
                H::drop_actor(cx, actor);
            }
            Self::Touched { actor, saved } => {
                drop(saved);
                H::drop_actor(cx, actor);
            }
            other => drop(other),
        }
    }

    pub(crate) fn share(&self, cx: H::Cx<'_>) -> Self {
        let same = |actor| H::clone_actor(cx, actor);
        match self {
            Self::Changed { actor, old } => {
                Self::Changed { actor: same(actor), old: H::clone_behavior(cx, old) }
            }
            Self::Replaced { actor, old } => {
                Self::Replaced { actor: same(actor), old: H::clone_behavior(cx, old) }
            }
            Self::Touched { actor, saved } => {
                Self::Touched { actor: same(actor), saved: H::clone_saved(cx, saved) }
            }
            Self::Spawned { actor } => Self::Spawned { actor: same(actor) },
            Self::Rehydrated { actor } => Self::Rehydrated { actor: same(actor) },
            Self::Upgraded { actor } => Self::Upgraded { actor: same(actor) },
            Self::Stored { actor } => Self::Stored { actor: same(actor) },
            Self::Environment { vat, old } => Self::Environment { vat: vat.clone(), old: old.clone() },
        }
    }
}

impl<H: Host> Churn<H> {
    /// Records the turn that has just succeeded.
    pub(crate) fn record_kept(&self, cx: H::Cx<'_>, heading: Heading<'_, H>) {
        self.record(cx, heading, false, |undo, is_needed, entry| {
            if undo.is_empty() {
                return;
            }
            if is_needed {
                let kept = undo.iter().filter(|change| change.is_logged());
                entry.leave(Trace::of(kept.map(|change| change.share(cx)).collect()));
            } else if undo.len() > 1 {
                entry.leave(Trace::Changes(std::mem::take(undo)));
            } else if let Some(change) = undo.pop() {
                entry.leave(Trace::Change(change));
            }
        });
    }

    /// Records the turn that has just failed, if there is a log, and notes in the error where that was.
    pub(crate) fn record_undone(self: &Rc<Self>, cx: H::Cx<'_>, heading: Heading<'_, H>, error: &H::Error) {
        let event = if self.vat().log().is_on() {
            let error = H::error_value(cx, error);
            // What a failed turn is told of has a number.
            self.record(cx, heading, true, |_, _, entry| entry.leave(Trace::Error(error)))
        } else {
            None
        };
        let Heading { actor, method, .. } = heading;
        let turn = TurnId(self.work().turn);
        H::note(cx, error, &Place { vat: self.vat(), actor, method, turn, event });
    }

    /// Notes an event. `leave` notes what it left: it gets the undo list, and whether a vat with a store needs that
    /// itself. Gives the event's number, if it went into the log at once.
    #[inline(always)]
    fn record(
        &self,
        cx: H::Cx<'_>,
        heading: Heading<'_, H>,
        at_once: bool,
        leave: impl FnOnce(&mut Vec<Undo<H>>, bool, &mut Entry<H>),
    ) -> Option<u64> {
        let actor = heading.actor.map(|actor| H::clone_actor(cx, actor));
        let method = heading.method.map(|method| H::clone_name(cx, method));
        let state = self.vat().log().state();
        self.forget_outdated(state);
        let entry = {
            let mut work = self.work();
            let work = &mut **work;
            let times = (ChurnId(work.churn + 1), TurnId(work.turn), work.cause.time);
            let stamp = work.timing.end::<H>(self.vat().runtime().watch().tick());
            let facts = Facts::new(heading.kind, times, heading.cause, stamp);
            let recorded = &mut work.recorded;
            let mut entry = recorded.place();
            entry.fill(facts, actor, method);
            leave(&mut work.undo, work.saving.is_some(), &mut entry);
            let waits = !at_once && stamp.ended == 0;
            if !waits && recorded.entries.is_empty() {
                Some(entry)
            } else {
                recorded.entries.push(entry);
                if waits && recorded.entries.len() < AT_ONCE {
                    return None;
                }
                None
            }
        };
        match entry {
            Some(entry) => self.enter_one(cx, entry, state),
            None => self.enter_recorded(None, |entry| entry.let_go(cx)),
        }
    }

    /// Forgets the events that are not in the log yet, if it was switched or cleared since they were made.
    #[inline(always)]
    fn forget_outdated(&self, state: u64) {
        if self.work().recorded.state != state {
            self.forget_recorded(state);
        }
    }

    #[cold]
    fn forget_recorded(&self, state: u64) {
        let outdated = {
            let mut work = self.work();
            work.recorded.state = state;
            std::mem::take(&mut work.recorded.entries)
        };
        // That may run any code of the host: nothing is borrowed here.
        drop(outdated);
    }

    /// Enters an event into the log, where no other waits for that. Gives its number.
    fn enter_one(&self, cx: H::Cx<'_>, entry: Box<Entry<H>>, state: u64) -> Option<u64> {
        let (number, left) = self.vat().log().enter_one(entry, state);
        if let Some(mut left) = left {
            // That may run any code of the host: nothing is borrowed here.
            left.let_go(cx);
            self.work().recorded.spare.push(left);
        }
        number
    }

    /// Enters the events that this churn has made so far into the log, and empties those that make way. Gives the number
    /// of the last.
    #[inline(never)]
    fn enter_recorded(&self, ended: Option<(u64, u64)>, empty: impl Fn(&mut Entry<H>)) -> Option<u64> {
        let (mut entries, state) = {
            let mut work = self.work();
            (std::mem::take(&mut work.recorded.entries), work.recorded.state)
        };
        let number = self.vat().log().enter(&mut entries, state, ended);
        // What the log has no room for any more. That may run any code of the host: nothing is borrowed here.
        entries.iter_mut().for_each(|entry| empty(entry));
        let mut work = self.work();
        let recorded = &mut work.recorded;
        if recorded.spare.len() < AT_ONCE {
            recorded.spare.append(&mut entries);
        }
        if recorded.entries.capacity() == 0 {
            entries.clear();
            recorded.entries = entries;
        }
        number
    }

    /// Enters what this churn has done so far into the log, for one who looks at it from within.
    pub fn enter_events(&self) {
        if !self.work().recorded.entries.is_empty() {
            self.enter_recorded(None, Entry::drop_all);
        }
    }

    /// A message goes to another vat: that is an event, with a time of its own. Gives what the message was
    /// caused by.
    pub(crate) fn record_send(&self, cx: H::Cx<'_>, actor: &H::Actor, message: &H::Message) -> Cause {
        let (facts, time) = {
            let mut work = self.work();
            work.clock += 1;
            let time = LamportTime(work.clock);
            let times = (ChurnId(work.churn + 1), TurnId(work.turn), time);
            (Facts::new(EventKind::Send, times, work.cause, work.timing.stamp()), time)
        };
        if self.vat().log().is_on() {
            let (actor, method) = (Some(H::clone_actor(cx, actor)), H::method(cx, message));
            self.forget_outdated(self.vat().log().state());
            let full = {
                let mut work = self.work();
                let recorded = &mut work.recorded;
                let mut entry = recorded.place();
                entry.fill(facts, actor, method);
                recorded.entries.push(entry);
                recorded.entries.len() >= AT_ONCE
            };
            if full {
                self.enter_recorded(None, |entry| entry.let_go(cx));
            }
        }
        Cause { vat: Some(self.vat().id()), time }
    }

    /// The churn is over: the times of its last turns are known.
    pub(crate) fn record_end(&self, cx: H::Cx<'_>) {
        let mut work = self.work();
        let Timing { mark, since, .. } = work.timing;
        let none = work.recorded.entries.is_empty();
        if mark == 0 && none {
            return;
        }
        work.timing.mark = 0;
        work.timing.timed = 0;
        work.timing.since = 0;
        let ended = (since > 0).then(|| (mark, work.timing.reading::<H>()));
        drop(work);
        if ended.is_some() || !none {
            self.enter_recorded(ended, |entry| entry.let_go(cx));
        }
    }
}
