//! A store opened for vats: its format is checked, its parts are named, and each part has one live vat.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::calling;
use crate::collecting::Collector;
use crate::durability::Durability;
use crate::error::KernelError;
use crate::fork::is_forked;
use crate::history::{self, Generation, Kept};
use crate::host::Host;
use crate::ids::PartId;
use crate::overlay::Overlay;
use crate::pace::LONG;
use crate::parts::{self, Parts};
use crate::promise::StoreId;
use crate::registry::Registry;
use crate::release::Outputs;
use crate::schema::{self, Kind};
use crate::store::{Store, StoreError};
use crate::sync::Monitor;
use crate::vat::Vat;
use crate::weaks::Weaks;

pub use crate::claim::Claim;
pub use crate::survey::{Fit, Unfit};

/// How long a wait may last before the waiter looks around (interrupts, shutdown).
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// From this slowness on, no event loop writes.
const STALLED: u32 = 8;

/// What a store does beside keeping what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StorageOptions {
    /// How many generations of each part are kept before its newest, for looking back.
    pub keep_generations: u64,
    /// Collects in the background when the store has grown.
    pub auto_collect: bool,
}

/// A store that vats live in.
pub struct Storage<H: Host> {
    store: Arc<dyn Store>,
    options: StorageOptions,
    /// What is written here is forgotten in the end.
    is_view: bool,
    durability: Arc<Durability<Outputs<H>>>,
    parts: Monitor<Parts>,
    vats: Mutex<Vats<H>>,
    /// Views of it, which end with it.
    views: Mutex<Weaks<Self>>,
    /// Where its vats find each other.
    registry: Arc<Registry<H>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// More for each write that took long, less for each that did not.
    slowness: AtomicU32,
    collector: Collector,
}

/// The vats that live in a store.
struct Vats<H: Host> {
    /// In the order in which they were opened: they are closed so.
    all: Weaks<Vat<H>>,
    by_part: HashMap<PartId, Weak<Vat<H>>>,
}

/// A part that was taken for a moment.
struct Taken<'a>(&'a Monitor<Parts>);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.with(|parts| parts.swept = None);
        self.0.notify_all();
    }
}

impl<H: Host> Storage<H> {
    /// Opens a store: a new one gets the format of this version, a newer one is refused (guarantee G11).
    pub fn open(store: impl Store) -> Result<Arc<Self>, StoreError> {
        Self::open_with(store, StorageOptions::default())
    }

    /// As [`Storage::open`], with options.
    pub fn open_with(store: impl Store, options: StorageOptions) -> Result<Arc<Self>, StoreError> {
        Self::open_as(Arc::new(store), options, false)
    }

    fn open_view(&self, view: Overlay) -> Result<Arc<Self>, StoreError> {
        let view = Self::open_as(Arc::new(view), StorageOptions::default(), true)?;
        self.views.lock().add(&view);
        Ok(view)
    }

    fn open_as(
        store: Arc<dyn Store>,
        options: StorageOptions,
        is_view: bool,
    ) -> Result<Arc<Self>, StoreError> {
        let parts = match parts::found(&*store).and_then(|()| parts::read(&*store)) {
            Ok(parts) => Monitor::new(parts),
            // It may be filled; till then there is nothing to be seen in it.
            Err(StoreError::Incomplete { .. }) if !is_view => {
                Monitor::new(Parts { incomplete: true, ..Parts::default() })
            }
            Err(error) => {
                // That it can't be closed well comes of this.
                let _ = store.close();
                return Err(error);
            }
        };
        let storage = Self {
            durability: Arc::new(Durability::new(store.clone())),
            store,
            options,
            is_view,
            parts,
            vats: Mutex::new(Vats { all: Weaks::new(), by_part: HashMap::new() }),
            views: Mutex::new(Weaks::new()),
            registry: Registry::new(),
            committer: Mutex::new(None),
            slowness: AtomicU32::new(0),
            collector: Collector::new(),
        };
        if options.auto_collect
            && !storage.parts.with(|parts| parts.incomplete)
            && let Err(error) = storage.watch_growth()
        {
            let _ = storage.store.close();
            return Err(error);
        }
        Ok(Arc::new(storage))
    }

    /// The store's name in messages.
    pub fn name(&self) -> String {
        self.store.name()
    }

    /// Where its vats find each other.
    pub fn registry(&self) -> &Arc<Registry<H>> {
        &self.registry
    }

    /// A view of the store as it is now, which may be written to and is forgotten in the end: for rehearsals.
    /// Reads go to a snapshot; it ends with the view, and with the store.
    pub fn view(&self) -> Result<Arc<Self>, StoreError> {
        self.check_complete()?;
        self.open_view(Overlay::new(self.store.snapshot()?))
    }

    /// Where the records are. What is not written through a [`Claim`] is not seen by vats.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn is_view(&self) -> bool {
        self.is_view
    }

    pub(crate) fn id(&self) -> StoreId {
        StoreId(std::ptr::from_ref(self) as usize)
    }

    /// How many older states are kept of each part.
    pub(crate) fn keep_generations(&self) -> u64 {
        self.options.keep_generations
    }

    /// A part has no live vat any more.
    pub(crate) fn free(&self, part: PartId) {
        self.vats.lock().by_part.remove(&part);
        self.parts.with(|parts| parts.claimed.remove(&part));
    }

    /// Notes how long a write took. One that took long may be a whim of the system: some of them are none.
    pub(crate) fn note_write(&self, took: Duration) {
        let before = self.slowness.load(Ordering::Relaxed);
        let after = if took > LONG { (before + 4).min(2 * STALLED) } else { before.saturating_sub(1) };
        if after != before {
            self.slowness.store(after, Ordering::Relaxed);
        }
    }

    /// Whether writes take long at present.
    pub(crate) fn is_stalled(&self) -> bool {
        self.slowness.load(Ordering::Relaxed) >= STALLED
    }

    pub(crate) fn durability(&self) -> &Arc<Durability<Outputs<H>>> {
        &self.durability
    }

    pub(crate) fn collector(&self) -> &Collector {
        &self.collector
    }

    /// The parts that hold a vat.
    pub(crate) fn stored_parts(&self) -> Result<HashMap<String, PartId>, StoreError> {
        match parts::read(&*self.store) {
            Err(StoreError::Incomplete { store }) if self.parts.with(|parts| parts.filling) => {
                Err(StoreError::BeingFilled { store })
            }
            found => Ok(found?.names),
        }
    }

    /// Refuses a store into which a copy was cut off.
    pub(crate) fn check_complete(&self) -> Result<(), StoreError> {
        self.parts.with(|parts| self.check_open_to_all(parts))
    }

    fn check_open_to_all(&self, parts: &Parts) -> Result<(), StoreError> {
        match parts {
            Parts { filling: true, .. } => Err(StoreError::BeingFilled { store: self.name() }),
            Parts { incomplete: true, .. } => Err(StoreError::Incomplete { store: self.name() }),
            _ => Ok(()),
        }
    }

    /// Whether others wait for it to be closed.
    pub fn is_held(&self) -> bool {
        self.store.is_held()
    }

    /// Names of the vats that live here.
    pub fn live_vat_names(&self) -> Vec<String> {
        self.live_vats().iter().map(|vat| vat.name().to_owned()).collect()
    }

    /// The vats that live here.
    pub(crate) fn live_vats(&self) -> Vec<Arc<Vat<H>>> {
        let vats = self.vats.lock().all.there();
        vats.into_iter().filter(|vat| !vat.is_closed()).collect()
    }

    /// The vat that lives in a part.
    pub(crate) fn live_vat(&self, part: PartId) -> Option<Arc<Vat<H>>> {
        let vat = self.vats.lock().by_part.get(&part).and_then(Weak::upgrade);
        vat.filter(|vat| !vat.is_closed())
    }

    /// Notes that it is not known what was written: every vat must stop (guarantee G9).
    pub(crate) fn failed(&self, error: StoreError) -> Arc<StoreError> {
        let error = Arc::new(error);
        self.durability.fail(error.clone());
        error
    }

    /// Writes to a part without a vat. `None`: there is one, or there is about to be.
    pub(crate) fn while_free<T>(
        self: &Arc<Self>,
        part: PartId,
        name: &str,
        doing: impl FnOnce(&Claim<H>) -> T,
    ) -> Option<T> {
        let taken = self.parts.with(|parts| {
            let free = !parts.claimed.contains(&part) && !parts.filling && parts.swept.is_none();
            parts.swept = parts.swept.or(free.then_some(part));
            free
        });
        if !taken {
            return None;
        }
        let _taken = Taken(&self.parts);
        let mut claim = Claim::new(self, part, name);
        // It was not claimed for long.
        *claim.released.get_mut() = true;
        Some(doing(&claim))
    }

    /// Names of the parts that hold a vat, in order.
    pub fn part_names(&self) -> Result<Vec<String>, StoreError> {
        let mut names: Vec<String> = self.stored_parts()?.into_keys().collect();
        names.sort();
        Ok(names)
    }

    /// The number of a part that holds a vat.
    fn part_number(&self, name: &str) -> Result<Option<PartId>, StoreError> {
        Ok(self.stored_parts()?.get(name).copied())
    }

    /// The generations of a part that can be read, the oldest first (STO-09).
    pub fn generations(&self, name: &str) -> Result<Vec<Generation>, StoreError> {
        self.check_complete()?;
        match self.part_number(name)? {
            Some(part) => history::generations(&*self.store.snapshot()?, part),
            None => Ok(Vec::new()),
        }
    }

    /// The store as it is, with one part as it was at an older generation (STO-14). What is written there stays in
    /// memory.
    pub fn at(&self, name: &str, generation: i128) -> Result<Arc<Self>, StoreError> {
        if self.is_view {
            return Err(history::no_such(&*self.store, name, generation, Kept::InView));
        }
        let view = Overlay::new(self.store.snapshot()?);
        let rewound = match self.part_number(name)? {
            Some(part) => history::rewind(&view, part, name, generation),
            None => Err(history::no_such(&view, name, generation, Kept::Nothing)),
        };
        match rewound {
            Ok(()) => self.open_view(view),
            Err(error) => {
                view.close()?;
                Err(error)
            }
        }
    }

    /// Takes a part for a live vat. To be called detached: it may wait for a moment.
    pub fn claim(self: &Arc<Self>, name: &str) -> Result<Claim<H>, StoreError> {
        let part = loop {
            let claimed = self.parts.wait(SLICE, |parts| {
                if let Err(error) = self.check_open_to_all(parts) {
                    return Some(Err(error));
                }
                let Some(part) = parts.number(name) else {
                    let key = schema::key(schema::STORE_PART, Kind::PartName, u64::from(u32::MAX));
                    return Some(Err(schema::corrupt(
                        &self.name(),
                        &key,
                        "no number is left for another part",
                    )));
                };
                if parts.swept == Some(part) {
                    return None;
                }
                let free = parts.claimed.insert(part);
                let in_use = || StoreError::PartInUse { store: self.name(), part: name.to_owned() };
                Some(free.then_some(part).ok_or_else(in_use))
            });
            if let Some(part) = claimed {
                break part?;
            }
        };
        Ok(Claim::new(self, part, name))
    }

    /// Fills the store, which must be empty, while no vat may be opened in it.
    pub(crate) fn fill<T>(
        &self,
        fill: impl FnOnce(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let stored = match self.stored_parts() {
            Err(StoreError::Incomplete { .. }) => HashMap::new(),
            stored => stored?,
        };
        let refused = self.parts.with(|parts| {
            if parts.filling {
                return Some(StoreError::BeingFilled { store: self.name() });
            }
            let claimed = parts.names.iter().filter(|(_, part)| parts.claimed.contains(part));
            let mut there: Vec<_> = stored.keys().chain(claimed.map(|(name, _)| name)).cloned().collect();
            there.sort();
            there.dedup();
            if !there.is_empty() {
                return Some(StoreError::NotEmpty { store: self.name(), parts: there });
            }
            parts.filling = true;
            None
        });
        if let Some(error) = refused {
            return Err(error);
        }
        let filled = fill(&*self.store);
        if filled.is_err() {
            // As far as it can be had, it is what it was: empty. The error that counts is the first one.
            let _ = parts::clear(&*self.store).and_then(|()| parts::found(&*self.store));
        }
        let known = parts::read(&*self.store);
        self.parts.with(|parts| match known {
            Ok(known) => *parts = known,
            Err(_) => *parts = Parts { incomplete: true, ..Parts::default() },
        });
        filled
    }

    /// Remembers a vat, to close it with the store.
    pub(crate) fn adopt(&self, part: PartId, vat: &Arc<Vat<H>>) {
        let mut vats = self.vats.lock();
        vats.all.add(vat);
        vats.by_part.insert(part, Arc::downgrade(vat));
    }

    /// Keeps output until it is durable; gives it back if it is already.
    pub(crate) fn hold(self: &Arc<Self>, outputs: Outputs<H>) -> Option<Outputs<H>> {
        let back = self.durability.hold_silently(outputs);
        if back.is_none() {
            self.start_committer();
            calling::call(self.durability.clone());
        }
        back
    }

    /// The committer makes durable what no caller waits for.
    fn start_committer(&self) {
        let mut committer = self.committer.lock();
        if committer.is_some() {
            return;
        }
        let durability = self.durability.clone();
        let name = self.name();
        let thread = std::thread::Builder::new().name("goblins-committer".to_owned());
        // Without a thread the output goes out with the next wait of a caller, or at close.
        *committer = thread.spawn(move || run_committer::<H>(&durability, &name)).ok();
    }

    /// Lets out what is durable, and takes back what never will be.
    pub(crate) fn flush(&self, cx: H::Cx<'_>) {
        H::together(cx, || self.durability.emit(|outputs| outputs.emit(cx)));
        if let Some(cause) = self.durability.failure() {
            let why = KernelError::Poisoned { vat: format!("of the store {}", self.name()), cause };
            self.durability.take_lost().into_iter().for_each(|outputs| outputs.refuse(cx, &why));
        }
    }

    /// Closes the views and the vats that live here, makes all durable, and closes the store: as far as it can, whatever
    /// fails. The error is the first one that nobody was told of before.
    pub fn close(&self, cx: H::Cx<'_>) -> Result<(), H::Error> {
        self.close_before(cx, None)
    }

    /// As [`Storage::close`], for the end of a process: what is written is made durable, but a store with a
    /// vat whose turn goes on beyond the deadline stays open, and that is an error.
    pub fn close_before(&self, cx: H::Cx<'_>, deadline: Option<Instant>) -> Result<(), H::Error> {
        let known = self.durability.failure().is_some();
        H::detached(cx, || self.stop_collecting());
        let views = self.views.lock().there();
        let result = views.iter().map(|view| view.close_before(cx, deadline)).fold(Ok(()), Result::and);
        let vats = self.vats.lock().all.there();
        let mut result = vats.iter().map(|vat| vat.close_before(cx, deadline)).fold(result, Result::and);
        let busy = vats.iter().any(|vat| !vat.is_at_rest());
        let committer = self.committer.lock().take();
        let last = self.durability.last();
        let synced = H::detached(cx, || {
            let synced = self.durability.wait_for(last);
            self.durability.close();
            if let Some(thread) = committer {
                // A panic there has been reported by the thread itself.
                let _ = thread.join();
            }
            synced
        });
        self.flush(cx);
        let failed = |error| H::error(cx, KernelError::Store(error));
        if !known {
            result = result.and(synced.map_err(failed));
        }
        if busy {
            return result;
        }
        match H::detached(cx, || self.store.close()) {
            // It comes of the failure that was told.
            Err(_) if known => result,
            closed => result.and(closed.map_err(|error| failed(Arc::new(error)))),
        }
    }
}

impl<H: Host> std::fmt::Debug for Storage<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Storage({})", self.name())
    }
}

impl<H: Host> Drop for Storage<H> {
    fn drop(&mut self) {
        if is_forked() {
            // The threads that closing would wait for are in the parent.
            std::mem::forget(self.store.clone());
            return;
        }
        // Ends the committer, which would keep the store open.
        self.durability.close();
        if self.store.is_held() {
            let what = format!("store {}", self.name());
            H::attached(|cx| H::report_unclosed(cx, &what));
        }
    }
}

/// What the committer's thread does. It attaches to the host once for its life, and is detached while it waits.
fn run_committer<H: Host>(durability: &Durability<Outputs<H>>, name: &str) {
    let held = || {
        loop {
            match durability.commit_held(SLICE) {
                Some(Ok(false)) => {}
                committed => return committed,
            }
        }
    };
    H::attached(|cx| {
        while let Some(committed) = H::detached(cx, held) {
            match committed {
                Ok(_) => H::together(cx, || durability.emit(|outputs| outputs.emit(cx))),
                Err(error) => {
                    let why = KernelError::Poisoned { vat: format!("of the store {name}"), cause: error };
                    let lost = durability.take_lost();
                    return H::together(cx, || {
                        lost.into_iter().for_each(|outputs| outputs.refuse(cx, &why));
                    });
                }
            }
        }
    });
}

/// Visits all records of one kind, their checksums verified.
pub(crate) fn scan(
    store: &dyn Store,
    part: PartId,
    kind: Kind,
    mut visit: impl FnMut(u64, &[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let name = store.name();
    let (start, end) = schema::range(part, kind);
    let mut outcome = Ok(());
    store.scan(&start, &end, &mut |key, value| {
        outcome = schema::open(&name, key, value).and_then(|content| match schema::id_of(key) {
            Some(id) => visit(id, key, content),
            None => Err(schema::corrupt(&name, key, "the key is malformed")),
        });
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}
