//! Which parts a store has, and whether it is whole: what must hold between records, whatever each of them says. A
//! record may be lost, or come from elsewhere.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use crate::ids::{PartId, Slot};
use crate::schema::{self, Kind, STORE_PART};
use crate::storage::scan;
use crate::store::{Batch, Store, StoreError};

/// No counter of slots comes as far: a million a second would take 285 years.
const MOST_SLOTS: u64 = 1 << 53;

/// The parts of a storage.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) names: HashMap<String, PartId>,
    pub(crate) claimed: HashSet<PartId>,
    pub(crate) last: u32,
    /// Taken for a moment, by one who removes records: a claim waits.
    pub(crate) swept: Option<PartId>,
    /// A copy of another store is being made here.
    pub(crate) filling: bool,
    /// A copy that was made here was cut off.
    pub(crate) incomplete: bool,
}

impl Parts {
    /// The number of a part, a new one if need be; `None` if all are taken.
    pub(crate) fn number(&mut self, name: &str) -> Option<PartId> {
        if let Some(part) = self.names.get(name) {
            return Some(*part);
        }
        self.last = self.last.checked_add(1)?;
        let part = PartId(self.last);
        self.names.insert(name.to_owned(), part);
        Some(part)
    }
}

/// Gives a store that is empty the format of this version, and refuses one of a newer format.
pub(crate) fn found(store: &dyn Store) -> Result<(), StoreError> {
    let key = schema::format_key();
    match store.get(&key)? {
        Some(value) => schema::check_format(&store.name(), &value),
        None if first_key(store, &[], &end())?.is_some() => Ok(()),
        None => {
            let mut content = Vec::new();
            schema::put_varint(&mut content, schema::FORMAT);
            let value = schema::seal(&key, content);
            let mut batch = Batch::new();
            batch.put(key, value);
            store.write(&batch)
        }
    }
}

/// Removes all that stands in a store: it is empty, and has no format.
pub(crate) fn clear(store: &dyn Store) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    store.scan(&[], &end(), &mut |key, _| {
        batch.delete(key.to_vec());
        ControlFlow::Continue(())
    })?;
    if batch.is_empty() { Ok(()) } else { store.write(&batch) }
}

/// The parts that hold a vat.
pub(crate) fn read(store: &dyn Store) -> Result<Parts, StoreError> {
    let name = store.name();
    let mut parts = Parts::default();
    let mut ids = BTreeMap::new();
    scan(store, STORE_PART, Kind::PartName, |id, key, content| {
        let part = u32::try_from(id).ok().filter(|part| *part > 0);
        let part = part.ok_or_else(|| schema::corrupt(&name, key, "no part has such a number"))?;
        let text = std::str::from_utf8(content)
            .map_err(|_| schema::corrupt(&name, key, "the part's name is not UTF-8"))?;
        if parts.names.insert(text.to_owned(), PartId(part)).is_some() {
            return Err(schema::corrupt(&name, key, "another part has the same name"));
        }
        ids.insert(part, ());
        Ok(())
    })?;
    parts.last = ids.keys().next_back().copied().unwrap_or(0);
    check_names(store, ids.keys().copied())?;
    check_format_is_there(store, &parts)?;
    Ok(parts)
}

/// The format is written with the first record. While a store is being copied into, it has none: that is written last,
/// together with the names of the parts.
fn check_format_is_there(store: &dyn Store, parts: &Parts) -> Result<(), StoreError> {
    let key = schema::format_key();
    if store.get(&key)?.is_some() {
        return Ok(());
    }
    if !parts.names.is_empty() {
        return Err(schema::corrupt(&store.name(), &key, MISSING));
    }
    match first_key(store, &[], &end())? {
        Some(_) => Err(StoreError::Incomplete { store: store.name() }),
        None => Ok(()),
    }
}

/// Refuses records of a part that has no name: the next vat would get them.
fn check_names(store: &dyn Store, named: impl Iterator<Item = u32>) -> Result<(), StoreError> {
    if store.get(&schema::format_key())?.is_none() {
        return Ok(());
    }
    let mut from = 1;
    for part in named.map(Some).chain([None]) {
        let stop = part.map_or_else(end, start_of);
        while let Some(key) = first_key(store, &start_of(from), &stop)? {
            let found = key.first_chunk().map_or(u32::MAX, |part| u32::from_be_bytes(*part));
            let name = schema::key(STORE_PART, Kind::PartName, u64::from(found));
            // It may have been made just now.
            if store.get(&name)?.is_none() {
                return Err(schema::corrupt(&store.name(), &name, MISSING_BESIDE));
            }
            match found.checked_add(1) {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
        match part.and_then(|part| part.checked_add(1)) {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Refuses a part without a vat in which a vat has been.
pub(crate) fn check_empty(store: &dyn Store, part: PartId) -> Result<(), StoreError> {
    let stop = part.0.checked_add(1).map_or_else(end, start_of);
    let named = store.get(&schema::key(STORE_PART, Kind::PartName, u64::from(part.0)))?.is_some();
    if named || first_key(store, &start_of(part.0), &stop)?.is_some() {
        return Err(without_vat(store, part));
    }
    Ok(())
}

/// The error for a part that has lost its vat's record.
pub(crate) fn without_vat(store: &dyn Store, part: PartId) -> StoreError {
    schema::corrupt(&store.name(), &schema::key(part, Kind::Vat, 0), MISSING_BESIDE)
}

/// The lowest slot of a part that was never used: 0 if there is no vat. All stored actors are below.
pub(crate) fn next_slot(store: &dyn Store, part: PartId) -> Result<Slot, StoreError> {
    let key = schema::key(part, Kind::NextSlot, 0);
    let corrupt = |reason: &str| schema::corrupt(&store.name(), &key, reason);
    loop {
        let Some(counter) = schema::read(store, &key, schema::number)? else {
            let vat = store.get(&schema::key(part, Kind::Vat, 0))?;
            // They are written together: it may have been made just now.
            if vat.is_some() && store.get(&key)?.is_none() {
                return Err(corrupt(MISSING));
            }
            if vat.is_none() {
                return Ok(Slot(0));
            }
            continue;
        };
        if counter > MOST_SLOTS {
            return Err(corrupt(&format!("{counter} is no number of slots")));
        }
        let Some(above) = next_actor(store, part, Slot(counter))? else {
            return Ok(Slot(counter));
        };
        // A vat may have written meanwhile, both at once.
        if schema::read(store, &key, schema::number)? == Some(counter) {
            return Err(corrupt(&format!("it says {counter}, and there is an actor in slot {above}")));
        }
    }
}

/// The first stored actor of a part in a slot or after it.
pub(crate) fn next_actor(store: &dyn Store, part: PartId, from: Slot) -> Result<Option<Slot>, StoreError> {
    let (_, end) = schema::range(part, Kind::Actor);
    let key = first_key(store, &schema::actor_key(part, from), &end)?;
    let slot = |key: Vec<u8>| match schema::id_of(&key) {
        Some(slot) => Ok(Slot(slot)),
        None => Err(schema::corrupt(&store.name(), &key, "the key is malformed")),
    };
    key.map(slot).transpose()
}

const MISSING: &str = "the record is missing";
const MISSING_BESIDE: &str = "the record is missing, and others that go with it are there";

pub(crate) fn first_key(store: &dyn Store, start: &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut found = None;
    store.scan(start, end, &mut |key, _| {
        found = Some(key.to_vec());
        ControlFlow::Break(())
    })?;
    Ok(found)
}

fn start_of(part: u32) -> Vec<u8> {
    part.to_be_bytes().to_vec()
}

/// Behind all keys.
fn end() -> Vec<u8> {
    vec![0xff; schema::KEY_LEN + 1]
}
