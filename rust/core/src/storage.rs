//! A store opened for vats: its format is checked, its parts are named, and each part has one live vat.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::durability::Durability;
use crate::error::KernelError;
use crate::host::Host;
use crate::ids::{PartId, ShapeId, Slot};
use crate::promise::StoreId;
use crate::record::{Record, Shape, VatRecord};
use crate::registry::Registry;
use crate::release::Outputs;
use crate::schema::{self, FORMAT, Kind, Reader, STORE_PART};
use crate::store::{Batch, Store, StoreError};
use crate::vat::Vat;

/// How long a wait may last before the waiter looks around (interrupts, shutdown).
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// A store that vats live in.
pub struct Storage<H: Host> {
    store: Arc<dyn Store>,
    durability: Arc<Durability<Outputs<H>>>,
    parts: Mutex<Parts>,
    vats: Mutex<Vec<Weak<Vat<H>>>>,
    /// Where its vats find each other.
    registry: Arc<Registry<H>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Parts {
    names: HashMap<String, PartId>,
    claimed: HashSet<PartId>,
    last: u32,
}

/// The right to be the one live vat of a part. Dropping it frees the part.
pub struct Claim<H: Host> {
    storage: Arc<Storage<H>>,
    part: PartId,
    name: String,
    /// A closed vat's part is free, though its actors still hold the vat.
    released: AtomicBool,
}

/// Whether actors of a stored shape can be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// They can.
    Fits,
    /// Their label is not in the environment.
    Unknown,
    /// The environment can't deal with their version or their fields, for this reason.
    Misfit(String),
}

/// Actors that stand in a part, and can't be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Their label.
    pub label: String,
    /// Why they can't be made; `None` if the label is not known.
    pub reason: Option<String>,
    /// How many actors have it.
    pub count: u64,
    /// One of them.
    pub slot: Slot,
}

impl<H: Host> Storage<H> {
    /// Opens a store: a new one gets the format of this version, a newer one is refused (guarantee G11).
    pub fn open(store: impl Store) -> Result<Arc<Self>, StoreError> {
        let store: Arc<dyn Store> = Arc::new(store);
        let parts = match check_format(&*store) {
            Ok(()) => read_parts(&*store),
            Err(error) => Err(error),
        };
        let parts = match parts {
            Ok(parts) => Mutex::new(parts),
            Err(error) => {
                store.close()?;
                return Err(error);
            }
        };
        Ok(Arc::new(Self {
            durability: Arc::new(Durability::new(store.clone())),
            store,
            parts,
            vats: Mutex::new(Vec::new()),
            registry: Registry::new(),
            committer: Mutex::new(None),
        }))
    }

    /// The store's name in messages.
    pub fn name(&self) -> String {
        self.store.name()
    }

    /// Where its vats find each other.
    pub fn registry(&self) -> &Arc<Registry<H>> {
        &self.registry
    }

    pub(crate) fn id(&self) -> StoreId {
        StoreId(std::ptr::from_ref(self) as usize)
    }

    pub(crate) fn durability(&self) -> &Arc<Durability<Outputs<H>>> {
        &self.durability
    }

    /// Names of the parts that hold a vat, in order.
    pub fn part_names(&self) -> Result<Vec<String>, StoreError> {
        let mut names: Vec<String> = read_parts(&*self.store)?.names.into_keys().collect();
        names.sort();
        Ok(names)
    }

    /// Takes a part for a live vat.
    pub fn claim(self: &Arc<Self>, name: &str) -> Result<Claim<H>, StoreError> {
        let mut parts = self.parts.lock();
        let part = match parts.names.get(name) {
            Some(part) => *part,
            None => {
                parts.last += 1;
                let part = PartId(parts.last);
                parts.names.insert(name.to_owned(), part);
                part
            }
        };
        if !parts.claimed.insert(part) {
            return Err(StoreError::PartInUse { store: self.name(), part: name.to_owned() });
        }
        Ok(Claim { storage: self.clone(), part, name: name.to_owned(), released: AtomicBool::new(false) })
    }

    /// Remembers a vat, to close it with the store.
    pub(crate) fn adopt(&self, vat: &Arc<Vat<H>>) {
        let mut vats = self.vats.lock();
        vats.retain(|vat| vat.strong_count() > 0);
        vats.push(Arc::downgrade(vat));
    }

    /// Keeps output until it is durable; gives it back if it is already.
    pub(crate) fn hold(self: &Arc<Self>, outputs: Outputs<H>) -> Option<Outputs<H>> {
        let back = self.durability.hold(outputs);
        if back.is_none() {
            self.start_committer();
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
        self.durability.emit(|outputs| outputs.emit(cx));
        if let Some(cause) = self.durability.failure() {
            let why = KernelError::Poisoned { vat: format!("of the store {}", self.name()), cause };
            self.durability.take_lost().into_iter().for_each(|outputs| outputs.refuse(cx, &why));
        }
    }

    /// Closes the vats that live here, makes all durable, and closes the store: as far as it can, whatever
    /// fails. The error is the first one that nobody was told of before.
    pub fn close(&self, cx: H::Cx<'_>) -> Result<(), H::Error> {
        self.close_before(cx, None)
    }

    /// As [`Storage::close`], for the end of a process: what is written is made durable, but a store with a
    /// vat whose turn goes on beyond the deadline stays open, and that is an error.
    pub fn close_before(&self, cx: H::Cx<'_>, deadline: Option<Instant>) -> Result<(), H::Error> {
        let known = self.durability.failure().is_some();
        let vats: Vec<_> = self.vats.lock().iter().filter_map(Weak::upgrade).collect();
        let mut result = vats.iter().map(|vat| vat.close_before(cx, deadline)).fold(Ok(()), Result::and);
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
        result.and(H::detached(cx, || self.store.close()).map_err(|error| failed(Arc::new(error))))
    }
}

impl<H: Host> Drop for Storage<H> {
    fn drop(&mut self) {
        // Ends the committer, which would keep the store open.
        self.durability.close();
    }
}

fn run_committer<H: Host>(durability: &Durability<Outputs<H>>, name: &str) {
    while let Some(committed) = durability.commit_held(SLICE) {
        let emitted = match committed {
            Ok(false) => continue,
            Ok(true) => H::attached(|cx| durability.emit(|outputs| outputs.emit(cx))),
            Err(error) => {
                let why = KernelError::Poisoned { vat: format!("of the store {name}"), cause: error };
                let lost = durability.take_lost();
                H::attached(|cx| lost.into_iter().for_each(|outputs| outputs.refuse(cx, &why)));
                return;
            }
        };
        if emitted.is_none() {
            return;
        }
    }
}

fn check_format(store: &dyn Store) -> Result<(), StoreError> {
    let key = schema::key(STORE_PART, Kind::Format, 0);
    let Some(value) = store.get(&key)? else {
        let mut content = Vec::new();
        schema::put_varint(&mut content, FORMAT);
        let mut batch = Batch::new();
        let value = schema::seal(&key, content);
        batch.put(key, value);
        return store.write(&batch);
    };
    let name = store.name();
    let content = schema::open(&name, &key, &value)?;
    match Reader::new(content).varint() {
        Some(found) if found > FORMAT => {
            Err(StoreError::NewerFormat { store: name, found, supported: FORMAT })
        }
        Some(_) => Ok(()),
        None => Err(schema::corrupt(&name, &key, "the format number is malformed")),
    }
}

fn read_parts(store: &dyn Store) -> Result<Parts, StoreError> {
    let name = store.name();
    let mut parts = Parts::default();
    scan(store, STORE_PART, Kind::PartName, |id, key, content| {
        let part =
            u32::try_from(id).map_err(|_| schema::corrupt(&name, key, "the part's number is too large"))?;
        let text = std::str::from_utf8(content)
            .map_err(|_| schema::corrupt(&name, key, "the part's name is not UTF-8"))?;
        parts.names.insert(text.to_owned(), PartId(part));
        parts.last = parts.last.max(part);
        Ok(())
    })?;
    Ok(parts)
}

/// Visits all records of one kind, their checksums verified.
fn scan(
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

impl<H: Host> Claim<H> {
    /// The store.
    pub fn storage(&self) -> &Arc<Storage<H>> {
        &self.storage
    }

    /// Frees the part.
    pub(crate) fn release(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            self.storage.parts.lock().claimed.remove(&self.part);
        }
    }

    /// The part's number.
    pub fn part(&self) -> PartId {
        self.part
    }

    /// The part's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn get<T>(
        &self,
        kind: Kind,
        id: u64,
        decode: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<Option<T>, StoreError> {
        let key = schema::key(self.part, kind, id);
        let Some(value) = self.storage.store.get(&key)? else {
            return Ok(None);
        };
        let name = self.storage.name();
        let content = schema::open(&name, &key, &value)?;
        decode(content).map(Some).map_err(|reason| schema::corrupt(&name, &key, &reason))
    }

    /// The vat that is stored here.
    pub fn read_vat(&self) -> Result<Option<VatRecord>, StoreError> {
        self.get(Kind::Vat, 0, |content| VatRecord::decode(content).ok_or_else(malformed))
    }

    /// The lowest slot never used.
    pub fn read_next_slot(&self) -> Result<Slot, StoreError> {
        let slot =
            self.get(Kind::NextSlot, 0, |content| Reader::new(content).varint().ok_or_else(malformed))?;
        Ok(Slot(slot.unwrap_or(0)))
    }

    /// The record of an actor.
    pub fn read_actor(&self, slot: Slot) -> Result<Option<Record>, StoreError> {
        self.get(Kind::Actor, slot.0, Record::decode)
    }

    /// Whether an actor has a record.
    pub(crate) fn has_actor(&self, slot: Slot) -> Result<bool, StoreError> {
        self.read_actor(slot).map(|record| record.is_some())
    }

    /// Whether an actor is marked as needed by vats of other stores.
    pub(crate) fn is_kept(&self, slot: Slot) -> Result<bool, StoreError> {
        self.get(Kind::Kept, slot.0, |_| Ok(())).map(|mark| mark.is_some())
    }

    /// What a stored actor is called: by its own name, if one was given, or by its label.
    pub fn read_title(&self, slot: Slot) -> Result<Option<String>, StoreError> {
        let Some(record) = self.read_actor(slot)? else {
            return Ok(None);
        };
        if record.name.is_some() {
            return Ok(record.name);
        }
        let shape = self.get(Kind::Shape, u64::from(record.shape.0), |content| {
            Shape::decode(content).ok_or_else(malformed)
        })?;
        Ok(shape.map(|shape| shape.label))
    }

    /// All shapes, by number.
    pub fn read_shapes(&self) -> Result<Vec<Arc<Shape>>, StoreError> {
        let name = self.storage.name();
        let mut shapes = Vec::new();
        scan(&*self.storage.store, self.part, Kind::Shape, |id, key, content| {
            let shape = Shape::decode(content).filter(|_| id == shapes.len() as u64);
            shapes.push(Arc::new(shape.ok_or_else(|| schema::corrupt(&name, key, &malformed()))?));
            Ok(())
        })?;
        Ok(shapes)
    }

    /// Actors of this part that can't be made. Reads the actors' records only if there is a shape to suspect:
    /// one that nobody has any more is no harm.
    pub fn find_unfit(
        &self,
        shapes: &[Arc<Shape>],
        fits: impl Fn(&Shape) -> Fit,
    ) -> Result<Option<Unfit>, StoreError> {
        let judged = (0u32..).zip(shapes).filter_map(|(id, shape)| {
            let reason = match fits(shape) {
                Fit::Fits => return None,
                Fit::Unknown => None,
                Fit::Misfit(reason) => Some(reason),
            };
            Some((ShapeId(id), (shape.label.as_str(), reason)))
        });
        let suspects: HashMap<ShapeId, (&str, Option<String>)> = judged.collect();
        if suspects.is_empty() {
            return Ok(None);
        }
        let mut found: Option<Unfit> = None;
        scan(&*self.storage.store, self.part, Kind::Actor, |id, _, content| {
            let suspect = Record::shape_of(content).and_then(|shape| suspects.get(&shape));
            match (suspect, &mut found) {
                (Some((label, reason)), None) => {
                    let (label, reason) = ((*label).to_owned(), reason.clone());
                    found = Some(Unfit { label, reason, count: 1, slot: Slot(id) });
                }
                (Some((label, reason)), Some(found)) if found.label == *label && found.reason == *reason => {
                    found.count += 1;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Appends a batch.
    pub(crate) fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.storage.store.write(batch)
    }
}

fn malformed() -> String {
    "the record is malformed".to_owned()
}

impl<H: Host> Drop for Claim<H> {
    fn drop(&mut self) {
        self.release();
    }
}
