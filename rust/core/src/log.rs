//! The event log: a ring of fixed-size records (BEHAVIOURS LOG-02, LOG-09).
//!
//! Recording an event allocates nothing. Names of methods are interned once per vat.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::ids::{ChurnId, LamportTime, Slot, TurnId, VatId};

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A message was handled.
    Deliver,
    /// A handler ran because a promise settled.
    React,
    /// A block of calls from outside was run as one turn.
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

/// An interned method name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Symbol(u32);

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it tells of.
    pub kind: EventKind,
    /// How it ended.
    pub outcome: EventOutcome,
    /// Where it happened.
    pub vat: VatId,
    /// In which churn.
    pub churn: ChurnId,
    /// In which turn.
    pub turn: TurnId,
    /// When, by the vat's clock.
    pub time: LamportTime,
    /// Why.
    pub cause: Cause,
    /// The actor that got the message.
    pub actor: Option<Slot>,
    /// The method it was asked for.
    pub method: Option<Symbol>,
    /// Time since the log was made.
    pub since: Duration,
}

/// A ring of events: the newest push out the oldest.
#[derive(Debug)]
pub struct Ring {
    events: Vec<Event>,
    /// Index of the oldest event, once the ring is full.
    oldest: usize,
    capacity: usize,
    started: Instant,
    started_at: SystemTime,
    names: Vec<String>,
    symbols: HashMap<String, Symbol>,
}

impl Ring {
    /// A ring for `capacity` events. With capacity 0 it keeps none (the original fails there: LIM-39).
    pub fn new(capacity: usize) -> Self {
        Self {
            events: Vec::new(),
            oldest: 0,
            capacity,
            started: Instant::now(),
            started_at: SystemTime::now(),
            names: Vec::new(),
            symbols: HashMap::new(),
        }
    }

    /// Adds an event, stamping it with the time.
    pub fn record(&mut self, mut event: Event) {
        event.since = self.started.elapsed();
        if self.events.len() < self.capacity {
            self.events.push(event);
        } else if let Some(slot) = self.events.get_mut(self.oldest) {
            *slot = event;
            self.oldest = (self.oldest + 1) % self.capacity;
        }
    }

    /// How many events it holds.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The events, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        let (newer, older) = self.events.split_at(self.oldest);
        older.iter().chain(newer)
    }

    /// Changes the capacity. Shrinking drops the oldest (LOG-10).
    pub fn resize(&mut self, capacity: usize) {
        let surplus = self.len().saturating_sub(capacity);
        self.events = self.iter().skip(surplus).copied().collect();
        self.oldest = 0;
        self.capacity = capacity;
    }

    /// Forgets all events.
    pub fn clear(&mut self) {
        self.events.clear();
        self.oldest = 0;
    }

    /// The wall time of an event, since 1970.
    pub fn wall_time(&self, event: &Event) -> Duration {
        self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default() + event.since
    }

    /// Interns a method name.
    pub fn symbol(&mut self, name: &str) -> Symbol {
        if let Some(symbol) = self.symbols.get(name) {
            return *symbol;
        }
        let symbol = Symbol(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(name.to_owned());
        self.symbols.insert(name.to_owned(), symbol);
        symbol
    }

    /// The name behind a symbol of this ring.
    pub fn name(&self, symbol: Symbol) -> &str {
        self.names.get(symbol.0 as usize).map_or("?", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(turn: u64) -> Event {
        Event {
            kind: EventKind::Deliver,
            outcome: EventOutcome::Kept,
            vat: VatId(0),
            churn: ChurnId(1),
            turn: TurnId(turn),
            time: LamportTime(turn),
            cause: Cause::default(),
            actor: None,
            method: None,
            since: Duration::ZERO,
        }
    }

    fn turns(ring: &Ring) -> Vec<u64> {
        ring.iter().map(|event| event.turn.0).collect()
    }

    #[test]
    fn the_newest_events_push_out_the_oldest() {
        let mut ring = Ring::new(3);
        (1..=5).for_each(|turn| ring.record(event(turn)));
        assert_eq!(turns(&ring), [3, 4, 5]);
    }

    #[test]
    fn a_ring_of_capacity_0_keeps_nothing_and_works_on() {
        let mut ring = Ring::new(0);
        ring.record(event(1));
        assert!(ring.is_empty());
        ring.resize(1);
        ring.record(event(2));
        assert_eq!(turns(&ring), [2]);
    }

    #[test]
    fn shrinking_drops_the_oldest_and_growing_keeps_all() {
        let mut ring = Ring::new(4);
        (1..=6).for_each(|turn| ring.record(event(turn)));
        ring.resize(2);
        assert_eq!(turns(&ring), [5, 6]);
        ring.resize(3);
        (7..=8).for_each(|turn| ring.record(event(turn)));
        assert_eq!(turns(&ring), [6, 7, 8]);
        ring.clear();
        assert_eq!(ring.len(), 0);
    }

    #[test]
    fn a_name_is_interned_once() {
        let mut ring = Ring::new(1);
        let first = ring.symbol("deposit");
        assert_eq!(ring.symbol("deposit"), first);
        assert_ne!(ring.symbol("withdraw"), first);
        assert_eq!(ring.name(first), "deposit");
    }
}
