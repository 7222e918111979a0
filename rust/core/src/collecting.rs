//! Collection of a store: what no root reaches any more is removed (LIM-07).
//!
//! First a [walk](crate::walk) marks what can be reached, from the roots of all parts and from what vats have in
//! memory. Then what is not marked is removed, in batches ([`crate::sweeping`]). Vats go on meanwhile: they are
//! entered for moments only, to hear what they have in memory, and for each batch. Nothing is kept of a collection
//! that was cut off; what it had removed by then nobody could reach.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::KernelError;
use crate::host::Host;
use crate::schema::{self, Kind, Reader, STORE_PART, put_varint};
use crate::storage::{SLICE, Storage};
use crate::store::{Batch, StoreError};
use crate::sweeping::Run;
use crate::sync::Monitor;
use crate::walk::Barrier;

/// A store that has given out fewer slots since the last collection is not collected by itself.
pub const LEAST_GROWTH: u64 = 10_000;

/// How much is done at a time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Records that are looked at between two looks around.
    pub step: usize,
    /// Records that are checked, and at most removed, in one batch.
    pub page: usize,
    /// A part is compacted if so many of a hundred actors were removed.
    pub compact_from: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { step: 1024, page: 2048, compact_from: 0 }
    }
}

/// What a collection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It looks for what can be reached.
    Marking,
    /// It removes the rest.
    Sweeping,
    /// It gives back the room.
    Compacting,
}

/// How far a collection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Records that it has looked at in this phase.
    pub done: u64,
    /// How many there may be at most.
    pub total: u64,
}

/// What was found in one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReport {
    /// Name of the part.
    pub name: String,
    /// Actors that stay.
    pub kept: u64,
    /// Actors that were removed.
    pub removed: u64,
    /// Bytes of their records, with their keys.
    pub bytes: u64,
}

/// What a collection has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// For each part, in the order of their names.
    pub parts: Vec<PartReport>,
    /// How long it took.
    pub lasting: Duration,
}

/// Asked now and then whether to go on.
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// What a storage knows of its collections.
pub(crate) struct Collector {
    pub(crate) barrier: Barrier,
    state: Monitor<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Slots given out since the last collection began.
    growth: AtomicU64,
    /// With so many the next one is due; [`u64::MAX`]: never.
    due: AtomicU64,
    /// Those that run have to end.
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    /// The thread that runs it, if that is one that was told to.
    by: Option<ThreadId>,
    /// Somebody waits to collect himself: what runs in the background has to end.
    wanted: bool,
}

impl Collector {
    pub(crate) fn new() -> Self {
        Self {
            barrier: Barrier::default(),
            state: Monitor::new(State::default()),
            thread: Mutex::new(None),
            growth: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
            stopping: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl<H: Host> Storage<H> {
    /// Removes the stored actors that can't be reached, and gives back their room. `None` if `watch` or the closing
    /// of the store has ended it: what was removed by then stays removed. To be called detached, outside any turn.
    ///
    /// Waits for turns that run, and for another collection. `watch` can't begin another one.
    pub fn collect(
        self: &Arc<Self>,
        pace: Pace,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Report>, Arc<StoreError>> {
        let collector = self.collector();
        let waiting = Progress { phase: Phase::Marking, done: 0, total: 0 };
        let this = std::thread::current().id();
        loop {
            if collector.is_stopping() || watch(waiting).is_break() {
                return Ok(None);
            }
            let begun = collector.state.wait(SLICE, |state| match state.by {
                Some(by) if by == this => Some(Err(StoreError::BeingCollected { store: self.name() })),
                _ if state.running => {
                    state.wanted = true;
                    None
                }
                _ => {
                    *state = State { running: true, by: Some(this), wanted: false };
                    Some(Ok(()))
                }
            });
            if let Some(begun) = begun {
                begun?;
                return Running(self).collect(pace, watch);
            }
        }
    }

    /// Sees to it that a collection begins when one is due.
    pub(crate) fn watch_growth(&self) -> Result<(), StoreError> {
        let mut slots = 0u64;
        for part in self.stored_parts()?.into_values() {
            // Whether it is right is looked at when the vat is opened, or the store is collected.
            let key = schema::key(part, Kind::NextSlot, 0);
            let counter = schema::read(&**self.store(), &key, schema::number)?;
            slots = slots.saturating_add(counter.unwrap_or(0));
        }
        let last = schema::read(&**self.store(), &last_key(), |content| {
            let mut reader = Reader::new(content);
            let found = (reader.varint()?, reader.varint()?);
            reader.rest().is_empty().then_some(found)
        })?;
        let (slots_then, kept) = last.unwrap_or_default();
        self.collector().due.store(due(kept), Ordering::Relaxed);
        self.collector().growth.store(slots.saturating_sub(slots_then), Ordering::Relaxed);
        Ok(())
    }

    /// Notes that slots were given out. Starts a collection in the background if one is due.
    pub(crate) fn grew(self: &Arc<Self>, slots: u64) {
        let collector = self.collector();
        let growth = collector.growth.fetch_add(slots, Ordering::Relaxed).saturating_add(slots);
        if growth < collector.due.load(Ordering::Relaxed) || collector.is_stopping() {
            return;
        }
        if collector.state.with(|state| std::mem::replace(&mut state.running, true)) {
            return;
        }
        let storage = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("goblins-collector".to_owned());
        match thread.spawn(move || collect_in_background(&storage)) {
            // The one before has ended.
            Ok(handle) => drop(collector.thread.lock().replace(handle)),
            Err(_) => collector.state.with(|state| state.running = false),
        }
    }

    /// Ends the collections that run, and lets no other begin. To be called detached.
    pub(crate) fn stop_collecting(&self) {
        let collector = self.collector();
        collector.stopping.store(true, Ordering::Relaxed);
        collector.state.notify_all();
        self.store().stop_compacting();
        let thread = collector.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic there has been reported by the thread itself.
            let _ = thread.join();
        }
        let this = std::thread::current().id();
        // One that has called this ends when it comes back.
        let over = |state: &mut State| (!state.running || state.by == Some(this)).then_some(());
        collector.state.wait(Duration::from_secs(1), over);
    }
}

/// A collection has begun; the next one may when this is dropped.
struct Running<'a, H: Host>(&'a Arc<Storage<H>>);

impl<H: Host> Running<'_, H> {
    fn collect(&self, pace: Pace, watch: &mut Watch<'_>) -> Result<Option<Report>, Arc<StoreError>> {
        let (storage, began) = (self.0, Instant::now());
        let collector = storage.collector();
        // One that fails is not tried at each churn.
        collector.growth.store(0, Ordering::Relaxed);
        let Some((parts, slots)) =
            Run::new(storage, pace).collect(watch)?.filter(|_| !collector.is_stopping())
        else {
            return Ok(None);
        };
        let kept = parts.iter().map(|part| part.kept).sum();
        if collector.due.load(Ordering::Relaxed) != u64::MAX {
            collector.due.store(due(kept), Ordering::Relaxed);
        }
        let mut content = Vec::new();
        put_varint(&mut content, slots);
        put_varint(&mut content, kept);
        let mut batch = Batch::new();
        batch.put(last_key(), schema::seal(&last_key(), content));
        storage.store().write(&batch).map_err(|error| storage.failed(error))?;
        Ok(Some(Report { parts, lasting: began.elapsed() }))
    }
}

impl<H: Host> Drop for Running<'_, H> {
    fn drop(&mut self) {
        let collector = self.0.collector();
        collector.barrier.stop();
        collector.state.with(|state| *state = State::default());
        collector.state.notify_all();
    }
}

/// Where it stands what the last collection found: how many slots had been given out, and how many actors stayed.
fn last_key() -> Vec<u8> {
    schema::key(STORE_PART, Kind::Collection, 0)
}

fn due(kept: u64) -> u64 {
    (kept / 2).max(LEAST_GROWTH)
}

/// Works a third of the time: nobody waits for it.
fn collect_in_background<H: Host>(storage: &Weak<Storage<H>>) {
    let Some(storage) = storage.upgrade() else {
        return;
    };
    let collector = storage.collector();
    let mut since = Instant::now();
    let pace = Pace { compact_from: 10, ..Pace::default() };
    let collected = Running(&storage).collect(pace, &mut |_| {
        let pause = (since.elapsed() * 2).min(SLICE);
        let wanted = collector.state.wait(pause, |state| {
            // Nobody else may have the store any more.
            let over = state.wanted || collector.is_stopping() || Arc::strong_count(&storage) == 1;
            over.then_some(())
        });
        since = Instant::now();
        if wanted.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Err(error) = collected
        && let Some(vat) = storage.live_vats().into_iter().next()
    {
        H::attached(|cx| {
            H::report(cx, &vat, "its store could not be collected", &H::error(cx, KernelError::Store(error)))
        });
    }
}
