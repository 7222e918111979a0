//! The event log of a vat: what happened, why, how it ended, and what it changed.
//!
//! Recording a turn allocates nothing, unless it changed more than one actor. The log has a lock of its own, so
//! that a vat that is busy, or stuck, can be looked at from any thread. A churn that goes on for long enters its
//! events in groups: others may miss the last few of one that runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{self, Scale};
pub use crate::event::{Cause, Event, EventKind, EventOutcome, Moment};
use crate::event::{Entries, Entry};
use crate::host::Host;
use crate::ids::LamportTime;
use crate::ring::Ring;
use crate::turn::Undo;

/// Room for so many events, where nothing else was said (LOG-09).
const CAPACITY: usize = 256;

/// So much may the wall time differ from what the clock says, in ns, before that is noted.
const OFFSET_MAY_DIFFER: u64 = 1_000_000;
/// So many such notes are kept.
const OFFSETS: usize = 64;

/// The log of a vat.
pub struct Log<H: Host> {
    /// Odd if it is on. Read without the lock by each turn; changed only under it, whenever it is switched or
    /// cleared: events of before are not entered any more then.
    state: AtomicU64,
    inner: Mutex<Inner<H>>,
}

struct Inner<H: Host> {
    /// Boxes, so that entering an event moves a pointer only.
    ring: Ring<Box<Entry<H>>>,
    /// The number of the next event.
    next: u64,
    /// The first event from which on all changes are known; `u64::MAX` while the log is off.
    floor: u64,
    /// What is to be added to readings of the clock for the wall time, each from a reading on.
    offsets: Vec<(u64, u64)>,
}

impl<H: Host> Log<H> {
    /// A log with room for `capacity` events; without one it is off.
    pub(crate) fn new(capacity: Option<usize>) -> Self {
        if capacity.is_some() {
            clock::start::<H>();
        }
        let ring = Ring::new(capacity.unwrap_or(CAPACITY));
        let floor = if capacity.is_some() { 0 } else { u64::MAX };
        let inner = Inner { ring, next: 0, floor, offsets: Vec::new() };
        Self { state: AtomicU64::new(u64::from(capacity.is_some())), inner: Mutex::new(inner) }
    }

    /// Whether events are recorded.
    pub fn is_on(&self) -> bool {
        self.state() & 1 == 1
    }

    pub(crate) fn state(&self) -> u64 {
        self.state.load(Ordering::Relaxed)
    }

    /// Switches it on or off (LOG-11). What it holds stays.
    pub fn set_on(&self, on: bool) {
        if on {
            clock::start::<H>();
        }
        let mut inner = self.inner.lock();
        if self.is_on() != on {
            self.state.fetch_add(1, Ordering::Relaxed);
            inner.floor = if on { inner.next } else { u64::MAX };
        }
    }

    /// How many events it can hold.
    pub fn capacity(&self) -> usize {
        self.inner.lock().ring.capacity()
    }

    /// Changes that; shrinking drops the oldest (LOG-10).
    pub fn set_capacity(&self, _cx: H::Cx<'_>, capacity: usize) {
        let dropped = self.inner.lock().ring.resize(capacity);
        drop(dropped);
    }

    /// Forgets all events.
    pub fn clear(&self, _cx: H::Cx<'_>) {
        let dropped = {
            let mut inner = self.inner.lock();
            self.state.fetch_add(2, Ordering::Relaxed);
            inner.ring.take()
        };
        drop(dropped);
    }

    /// As [`Log::clear`], unless somebody looks at it: for the host's garbage collector.
    pub fn try_clear(&self) {
        let dropped = self.inner.try_lock().map(|mut inner| inner.ring.take());
        drop(dropped);
    }

    /// Shows all that it keeps alive, unless somebody looks at it: for the host's garbage collector.
    pub fn try_visit<E>(
        &self,
        mut actor: impl FnMut(&H::Actor) -> Result<(), E>,
        mut behavior: impl FnMut(&H::Behavior) -> Result<(), E>,
        mut saved: impl FnMut(&H::Saved) -> Result<(), E>,
        mut error: impl FnMut(&H::Value) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(inner) = self.inner.try_lock() else {
            return Ok(());
        };
        for entry in inner.ring.iter() {
            entry.actor().into_iter().try_for_each(&mut actor)?;
            let trace = entry.trace();
            trace.error().into_iter().try_for_each(&mut error)?;
            for change in trace.changes() {
                change.actor().into_iter().try_for_each(&mut actor)?;
                match change {
                    Undo::Changed { old, .. } | Undo::Replaced { old, .. } => behavior(old)?,
                    Undo::Touched { saved: state, .. } => saved(state)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The numbers of the oldest event and of the next one.
    pub fn span(&self) -> std::ops::Range<u64> {
        let inner = self.inner.lock();
        inner.first()..inner.next
    }

    /// Those of these events that are there, in order.
    pub fn events(&self, cx: H::Cx<'_>, numbers: std::ops::Range<u64>) -> Vec<Event<H>> {
        let scale = clock::scale::<H>();
        let inner = self.inner.lock();
        let first = inner.first();
        let start = numbers.start.max(first);
        (start..numbers.end.min(inner.next)).filter_map(|number| inner.event(cx, &scale, number)).collect()
    }

    /// The event at a logical time.
    pub fn find(&self, cx: H::Cx<'_>, time: LamportTime) -> Option<Event<H>> {
        let scale = clock::scale::<H>();
        let inner = self.inner.lock();
        let (mut low, mut high) = (0, inner.ring.len());
        while low < high {
            let middle = (low + high) / 2;
            if inner.ring.get(middle)?.facts.time() < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let found = inner.ring.get(low)?.facts.time() == time;
        let number = inner.first() + low as u64;
        if found { inner.event(cx, &scale, number) } else { None }
    }

    /// The events that were caused by this, in order (LOG-12).
    pub fn effects(&self, cx: H::Cx<'_>, cause: Cause) -> Vec<Event<H>> {
        let scale = clock::scale::<H>();
        let inner = self.inner.lock();
        let caused = inner.ring.iter().enumerate().filter(|(_, entry)| entry.facts.cause() == cause);
        let first = inner.first();
        caused.filter_map(|(index, _)| inner.event(cx, &scale, first + index as u64)).collect()
    }

    /// Enters one event that was made while the log was in this state. Gives its number, and what is to be emptied by the
    /// caller: the event that had to make way, or this one if there is no room for any.
    #[inline]
    pub(crate) fn enter_one(&self, entry: Box<Entry<H>>, state: u64) -> (Option<u64>, Option<Box<Entry<H>>>) {
        let mut inner = self.inner.lock();
        if self.state() != state {
            return (None, Some(entry));
        }
        let number = inner.next;
        inner.next += 1;
        (Some(number), inner.ring.push(entry))
    }

    /// Enters events that were made while the log was in this state, and the time at which the newest turn ended,
    /// if it was not known: the reading before, and the one at the end. Gives the number of the last event. What is
    /// left in `events` is to be dropped by the caller.
    pub(crate) fn enter(
        &self,
        events: &mut Entries<H>,
        state: u64,
        ended: Option<(u64, u64)>,
    ) -> Option<u64> {
        let mut inner = self.inner.lock();
        if self.state() == state {
            inner.next += events.len() as u64;
            let room = inner.ring.room().min(events.len());
            for entry in events.drain(..room) {
                inner.ring.push(entry);
            }
            for entry in events {
                // In its place: it is the most frequent case by far.
                if let Some(oldest) = inner.ring.recycle() {
                    std::mem::swap(oldest, entry);
                }
            }
        }
        if let Some((mark, ended)) = ended {
            inner.newest_ended(mark, ended);
        }
        (self.state() == state).then(|| inner.next.wrapping_sub(1))
    }

    /// From this reading of the clock on, this is to be added to one for the wall time.
    pub(crate) fn set_offset(&self, mark: u64, offset: u64) {
        let mut inner = self.inner.lock();
        let before = inner.offsets.last().map(|(_, before)| *before);
        if before.is_none_or(|before| before.abs_diff(offset) > OFFSET_MAY_DIFFER) {
            if inner.offsets.len() == OFFSETS {
                inner.offsets.remove(0);
            }
            inner.offsets.push((mark, offset));
        }
    }

    /// What to take back, the last first, to be at that moment; or why the log doesn't reach that far.
    pub(crate) fn steps_back(&self, cx: H::Cx<'_>, moment: Moment) -> Result<Vec<Undo<H>>, &'static str> {
        let inner = self.inner.lock();
        let first = inner.first();
        if moment.sequence < inner.floor || moment.sequence >= inner.next {
            return Err("it was switched off since");
        }
        let from = if moment.before { moment.sequence } else { moment.sequence + 1 };
        if from < first {
            return Err("later events have been dropped; give it a larger capacity");
        }
        let later = inner.ring.iter().rev().take((inner.next - from) as usize);
        let steps = later.flat_map(|entry| entry.trace().changes().iter().rev());
        Ok(steps.map(|change| change.share(cx)).collect())
    }
}

impl<H: Host> Inner<H> {
    /// Adds the time at which the newest turn ended.
    fn newest_ended(&mut self, mark: u64, ended: u64) {
        for index in (0..self.ring.len()).rev() {
            match self.ring.get_mut(index).map(|entry| &mut entry.facts) {
                Some(facts) if facts.mark == mark && facts.kind != EventKind::Send => {
                    facts.ended = ended;
                    return;
                }
                Some(facts) if facts.mark == mark => {}
                _ => return,
            }
        }
    }

    fn first(&self) -> u64 {
        self.next - self.ring.len() as u64
    }

    fn event(&self, cx: H::Cx<'_>, scale: &Scale, number: u64) -> Option<Event<H>> {
        let index = number.checked_sub(self.first())? as usize;
        let entry = self.ring.get(index)?;
        let facts = &entry.facts;
        // The turns of a group whose end is known have equal parts of its time.
        let group = (index..self.ring.len()).map_while(|index| self.ring.get(index));
        let mut group = group.map(|entry| entry.facts).take_while(|other| other.mark == facts.mark);
        let part = group.find(|last| last.ended != 0).map(|last| {
            // Of several readings in the same nanosecond, the later ones are no later.
            scale.time(last.ended).saturating_sub(scale.time(last.mark)) / (u64::from(last.place) + 1)
        });
        let began = scale.time(facts.mark) + part.unwrap_or(0) * u64::from(facts.place);
        let duration = part.filter(|_| facts.kind != EventKind::Send);
        let offset = self.offsets.iter().rev().find(|(from, _)| *from <= facts.mark);
        let offset = offset.or(self.offsets.first()).map_or(0, |(_, offset)| *offset);
        let error = entry.trace().error();
        Some(Event {
            sequence: number,
            kind: facts.kind,
            outcome: if error.is_some() { EventOutcome::Undone } else { EventOutcome::Kept },
            churn: facts.churn(),
            turn: facts.turn(),
            time: facts.time(),
            cause: facts.cause(),
            actor: entry.actor().map(|actor| H::clone_actor(cx, actor)),
            method: entry.method().map(|method| H::clone_name(cx, method)),
            error: error.map(|error| H::clone_value(cx, error)),
            began: Duration::from_nanos(began),
            wall: Duration::from_nanos(began.wrapping_add(offset)),
            duration: duration.map(Duration::from_nanos),
        })
    }
}

impl<H: Host> std::fmt::Debug for Log<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner.lock();
        write!(f, "a log of {} events, room for {}", inner.ring.len(), inner.ring.capacity())
    }
}
