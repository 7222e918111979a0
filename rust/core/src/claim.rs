//! A part of a store, claimed for its one live vat: what is read and written there.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::fork::is_forked;
use crate::history::{History, Purpose};
use crate::host::Host;
use crate::ids::{Address, PartId, Slot};
use crate::naming::Named;
use crate::parts;
use crate::record::{Record, Shape, VatRecord};
use crate::schema::{self, Kind};
use crate::storage::{Storage, scan};
use crate::store::{Batch, StoreError};

/// The right to be the one live vat of a part. Dropping it frees the part.
pub struct Claim<H: Host> {
    storage: Arc<Storage<H>>,
    part: PartId,
    name: String,
    /// A closed vat's part is free, though its actors still hold the vat.
    pub(crate) released: AtomicBool,
    /// Read at the first write.
    history: Mutex<Option<History>>,
    /// The lowest slot never used, as far as it is written.
    next_slot: AtomicU64,
    /// Its vat among the names, while that is open.
    named: Mutex<Option<Named>>,
}

impl<H: Host> Claim<H> {
    pub(crate) fn new(storage: &Arc<Storage<H>>, part: PartId, name: &str) -> Self {
        Self {
            storage: storage.clone(),
            part,
            name: name.to_owned(),
            released: AtomicBool::new(false),
            history: Mutex::new(None),
            next_slot: AtomicU64::new(0),
            named: Mutex::new(None),
        }
    }

    /// The store.
    pub fn storage(&self) -> &Arc<Storage<H>> {
        &self.storage
    }

    /// Frees the part.
    pub(crate) fn release(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            self.storage.free(self.part);
        }
        drop(self.named.lock().take());
    }

    /// Keeps the name of its vat.
    pub(crate) fn set_named(&self, named: Named) {
        *self.named.lock() = Some(named);
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
        let Some(value) = self.storage.store().get(&key)? else {
            return Ok(None);
        };
        let corrupt = |reason: &str| schema::corrupt(&self.storage.name(), &key, reason);
        let content = schema::content(&key, &value).map_err(corrupt)?;
        decode(content).map(Some).map_err(|reason| corrupt(&reason))
    }

    /// The vat that is stored here.
    pub fn read_vat(&self) -> Result<Option<VatRecord>, StoreError> {
        self.get(Kind::Vat, 0, |content| VatRecord::decode(content).ok_or_else(malformed))
    }

    /// The lowest slot never used.
    pub fn read_next_slot(&self) -> Result<Slot, StoreError> {
        parts::next_slot(&**self.storage.store(), self.part)
    }

    /// The vat that is stored here, and the lowest slot that it has never used: as far as a few reads tell, they are
    /// whole.
    pub(crate) fn read_whole(&self) -> Result<(Option<VatRecord>, Slot), StoreError> {
        let store = &**self.storage.store();
        let Some(vat) = self.read_vat()? else {
            parts::check_empty(store, self.part)?;
            return Ok((None, Slot(0)));
        };
        let next = self.read_next_slot()?;
        if let Some(root) = vat.roots.iter().find(|root| **root >= next) {
            let key = schema::key(self.part, Kind::Vat, 0);
            let reason = format!("its root in slot {root} was never made");
            return Err(schema::corrupt(&store.name(), &key, &reason));
        }
        self.next_slot.store(next.0, Ordering::Relaxed);
        Ok((Some(vat), next))
    }

    /// The first stored actor in a slot or after it.
    pub(crate) fn next_actor(&self, from: Slot) -> Result<Option<Slot>, StoreError> {
        parts::next_actor(&**self.storage.store(), self.part, from)
    }

    /// The record of an actor.
    pub fn read_actor(&self, slot: Slot) -> Result<Option<Record>, StoreError> {
        self.get(Kind::Actor, slot.0, Record::decode)
    }

    /// The records of actors from one on, in order, up to the first that can't be read: at most so many, of about so
    /// many bytes.
    pub(crate) fn read_actors(
        &self,
        from: Slot,
        most: usize,
        most_bytes: usize,
    ) -> Result<Vec<(Slot, Record)>, StoreError> {
        let (start, end) = (schema::actor_key(self.part, from), schema::range(self.part, Kind::Actor).1);
        let (mut records, mut bytes) = (Vec::new(), 0);
        self.storage.store().scan(&start, &end, &mut |key, value| {
            let content = schema::content(key, value).ok();
            let found =
                content.and_then(|content| Some((Slot(schema::id_of(key)?), Record::decode(content).ok()?)));
            let Some(found) = found else {
                return ControlFlow::Break(());
            };
            bytes += value.len();
            records.push(found);
            if records.len() < most && bytes < most_bytes {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(records)
    }

    /// Whether an actor has a record.
    pub(crate) fn has_actor(&self, slot: Slot) -> Result<bool, StoreError> {
        self.read_actor(slot).map(|record| record.is_some())
    }

    /// What a stored actor is called: by its own name, if one was given, or by its label.
    pub fn read_title(&self, slot: Slot) -> Result<Option<String>, StoreError> {
        let Some(record) = self.read_actor(slot)? else {
            return Ok(None);
        };
        if record.name.is_some() {
            return Ok(record.name);
        }
        self.read_label_of(&record)
    }

    /// The label that an actor is stored under.
    pub fn read_label(&self, slot: Slot) -> Result<Option<String>, StoreError> {
        self.read_actor(slot)?.map_or(Ok(None), |record| self.read_label_of(&record))
    }

    fn read_label_of(&self, record: &Record) -> Result<Option<String>, StoreError> {
        let shape = self.get(Kind::Shape, u64::from(record.shape.0), |content| {
            Shape::decode(content).ok_or_else(malformed)
        })?;
        Ok(shape.map(|shape| shape.label))
    }

    /// All shapes, by number.
    pub fn read_shapes(&self) -> Result<Vec<Arc<Shape>>, StoreError> {
        let name = self.storage.name();
        let mut shapes = Vec::new();
        scan(&**self.storage.store(), self.part, Kind::Shape, |id, key, content| {
            let shape = Shape::decode(content).filter(|_| id == shapes.len() as u64);
            shapes.push(Arc::new(shape.ok_or_else(|| schema::corrupt(&name, key, &malformed()))?));
            Ok(())
        })?;
        Ok(shapes)
    }

    /// Appends a batch. To be called by the one who runs the vat, or before there is one.
    ///
    /// If a panic cuts it off, the vats of the store stop: nobody knows what was written (guarantee G9).
    pub(crate) fn write(&self, batch: Batch, purpose: Purpose) -> Result<(), StoreError> {
        let cut_off = CutOff(&self.storage);
        let written = self.write_now(batch, purpose);
        std::mem::forget(cut_off);
        written
    }

    fn write_now(&self, mut batch: Batch, purpose: Purpose) -> Result<(), StoreError> {
        let store = &**self.storage.store();
        if is_forked() {
            return Err(StoreError::Forked { store: store.name() });
        }
        {
            let mut history = self.history.lock();
            let history = match &mut *history {
                Some(history) => history,
                None => history.insert(History::read(store, self.part, self.storage.keep_generations())?),
            };
            history.extend(store, &mut batch, purpose)?;
        }
        store.write(&batch)?;
        self.storage.collector().barrier.wrote(&batch);
        Ok(())
    }

    /// Notes which slots a batch that was written has given out.
    pub(crate) fn gave_out(&self, next_slot: u64) {
        let before = self.next_slot.swap(next_slot, Ordering::Relaxed);
        if next_slot > before {
            self.storage.grew(next_slot - before);
        }
    }

    /// Notes that an actor is about to come into memory.
    pub(crate) fn loaded(&self, slot: Slot) {
        self.storage.collector().barrier.loaded(self.part, slot);
    }

    /// Notes that an actor of another vat is about to be waited for.
    pub(crate) fn asked(&self, address: Address) {
        self.storage.collector().barrier.asked(address);
    }
}

/// Stops the vats of a store, should it be dropped.
struct CutOff<'a, H: Host>(&'a Arc<Storage<H>>);

impl<H: Host> Drop for CutOff<'_, H> {
    fn drop(&mut self) {
        self.0.durability().fail(Arc::new(cut_off(self.0.name())));
    }
}

/// The error of a vat whose churn was cut off by a panic in the midst of being written.
pub(crate) fn cut_off(store: String) -> StoreError {
    let reason = "a panic cut it off, so nobody knows what was written".to_owned();
    StoreError::Failed { store, doing: "writing", reason }
}

pub(crate) fn malformed() -> String {
    "the record is malformed".to_owned()
}

impl<H: Host> Drop for Claim<H> {
    fn drop(&mut self) {
        if !is_forked() {
            self.release();
        }
    }
}
