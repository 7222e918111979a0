//! Looking back at a part of a store: each batch leaves behind what it replaced, for a while (STO-09, STO-14).
//!
//! A *generation* is what a part was after one batch. Generation `n` is reached from `n + 1` by putting back what
//! the batch `n + 1` replaced: its *reverse delta*, written in that very batch. So the cost is that of the records
//! which changed, and nothing is copied.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ids::PartId;
use crate::parts;
use crate::schema::{self, Kind, Reader, put_bytes, put_varint};
use crate::store::{Batch, Change, Store, StoreError};

/// What a part was after one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number; the first is 1.
    pub number: u64,
    /// When it was written, in milliseconds since 1970. Of the first one that is kept, in a part that had kept none
    /// before, the moment of the next batch.
    pub millis: u64,
    /// How many records its batch has put or removed.
    pub records: u64,
}

/// Which generations a part has. It stands in the store, and is written with each batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ledger {
    newest: Generation,
    /// The oldest that can be read: of those after it there are reverse deltas.
    oldest: u64,
    /// Batches were written since without being noted.
    broken: bool,
    /// How many further deltas a generation has, where it has any: what collecting removed later.
    pieces: Vec<(u64, u64)>,
}

/// What kind of batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A churn's: it makes a generation.
    Churn,
    /// It removes what nobody can reach: the newest generation looks the same without it.
    Sweep,
}

/// The generations of a part that is written to.
#[derive(Debug)]
pub(crate) struct History {
    part: PartId,
    /// How many generations before the newest are kept.
    keep: u64,
    ledger: Option<Ledger>,
}

/// Pieces of one generation: the rest of a key's number.
const PIECES: u32 = 16;

/// No part comes as far, and there is room for the pieces in a key's number.
const MOST: u64 = 1 << 47;

/// The last moment that a calendar has: the end of the year 9999, in milliseconds since 1970.
const LAST_MOMENT: u64 = 253_402_300_799_999;

/// As many generations are forgotten without looking which records they have.
const FEW: u64 = 16;

impl Ledger {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Generation { number, millis, records } = self.newest;
        for number in [number, millis, records, self.oldest, u64::from(self.broken)] {
            put_varint(&mut out, number);
        }
        put_varint(&mut out, self.pieces.len() as u64);
        for (generation, count) in &self.pieces {
            put_varint(&mut out, *generation);
            put_varint(&mut out, *count);
        }
        out
    }

    fn decode(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let newest =
            Generation { number: reader.varint()?, millis: reader.varint()?, records: reader.varint()? };
        let oldest = reader.varint()?;
        let broken = match reader.varint()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let pieces = (0..reader.varint()?)
            .map(|_| Some((reader.varint()?, reader.varint()?)))
            .collect::<Option<Vec<_>>>()?;
        let ledger = Self { newest, oldest, broken, pieces };
        (reader.rest().is_empty() && ledger.is_sound()).then_some(ledger)
    }

    /// Whether it can be true.
    fn is_sound(&self) -> bool {
        let Generation { number, millis, .. } = self.newest;
        let mut before = HashSet::new();
        let sound = |(generation, count): &(u64, u64)| {
            (self.oldest + 1..=number).contains(generation)
                && *count >> PIECES == 0
                && before.insert(*generation)
        };
        (1..=number).contains(&self.oldest)
            && number < MOST
            && millis <= LAST_MOMENT
            && self.pieces.iter().all(sound)
    }

    fn read(store: &dyn Store, part: PartId) -> Result<Option<Self>, StoreError> {
        let ledger = schema::read(store, &ledger_key(part), Self::decode)?;
        let (start, end) = schema::range(part, Kind::Past);
        if ledger.is_none()
            && parts::first_key(store, &start, &end)?.is_some()
            // It may have been written just now.
            && store.get(&ledger_key(part))?.is_none()
        {
            return Err(schema::corrupt(&store.name(), &ledger_key(part), "the record is missing"));
        }
        Ok(ledger)
    }

    fn pieces_of(&self, generation: u64) -> u64 {
        self.pieces.iter().find(|(number, _)| *number == generation).map_or(0, |(_, count)| *count)
    }

    /// Forgets all generations before one.
    fn drop_before(
        &mut self,
        oldest: u64,
        part: PartId,
        store: &dyn Store,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        if oldest.saturating_sub(self.oldest) <= FEW {
            while self.oldest < oldest {
                self.drop_oldest(part, batch);
            }
            return Ok(());
        }
        // Many at once: whatever the ledger says, no more work is done than there are records.
        let (start, end) = (past_key(part, self.oldest + 1, 0), past_key(part, oldest + 1, 0));
        store.scan(&start, &end, &mut |key, _| {
            batch.delete(key.to_vec());
            ControlFlow::Continue(())
        })?;
        self.oldest = oldest;
        self.pieces.retain(|(number, _)| *number > oldest);
        Ok(())
    }

    /// Forgets the oldest generation.
    fn drop_oldest(&mut self, part: PartId, batch: &mut Batch) {
        self.oldest += 1;
        for piece in 0..=self.pieces_of(self.oldest) {
            batch.delete(past_key(part, self.oldest, piece));
        }
        self.pieces.retain(|(number, _)| *number > self.oldest);
    }
}

fn ledger_key(part: PartId) -> Vec<u8> {
    schema::key(part, Kind::Generations, 0)
}

fn past_key(part: PartId, generation: u64, piece: u64) -> Vec<u8> {
    schema::key(part, Kind::Past, generation << PIECES | piece)
}

impl History {
    /// What the store knows of a part; `keep`: how many generations before the newest are to be kept.
    pub(crate) fn read(store: &dyn Store, part: PartId, keep: u64) -> Result<Self, StoreError> {
        Ok(Self { part, keep, ledger: Ledger::read(store, part)? })
    }

    /// Adds to a batch what it needs for looking back, and removes what is too old.
    pub(crate) fn extend(
        &mut self,
        store: &dyn Store,
        batch: &mut Batch,
        purpose: Purpose,
    ) -> Result<(), StoreError> {
        match purpose {
            Purpose::Churn if self.keep > 0 => self.note(store, batch),
            Purpose::Churn => self.stop(store, batch),
            Purpose::Sweep => self.amend(store, batch),
        }
    }

    fn note(&mut self, store: &dyn Store, batch: &mut Batch) -> Result<(), StoreError> {
        // A counter alone is no change of anything.
        let counts = |change: &Change| matches!(change, Change::Put(key, _) if schema::is_of(key, self.part, Kind::NextSlot));
        if self.ledger.is_some() && batch.changes().iter().all(counts) {
            return Ok(());
        }
        let (entries, count) = self.replaced(store, batch)?;
        let millis = now();
        let baseline = |number| {
            let newest = Generation { number, millis, records: 0 };
            Ledger { newest, oldest: number, broken: false, pieces: Vec::new() }
        };
        let mut ledger = match self.ledger.take() {
            Some(ledger) if !ledger.broken => ledger,
            Some(ledger) => baseline(ledger.newest.number + 1),
            // Nothing is to be seen of a part before it had a vat.
            None if store.get(&schema::key(self.part, Kind::Vat, 0))?.is_none() => {
                let newest = Generation { number: 1, millis, records: count };
                let founded = Ledger { newest, ..baseline(1) };
                put(batch, ledger_key(self.part), founded.encode());
                self.ledger = Some(founded);
                return Ok(());
            }
            None => baseline(1),
        };
        let number = ledger.newest.number + 1;
        let mut content = Vec::new();
        put_varint(&mut content, ledger.newest.millis);
        put_varint(&mut content, ledger.newest.records);
        put_varint(&mut content, count);
        content.extend_from_slice(&entries);
        put(batch, past_key(self.part, number, 0), content);
        ledger.newest = Generation { number, millis: millis.max(ledger.newest.millis), records: count };
        let oldest = number.saturating_sub(self.keep);
        ledger.drop_before(oldest, self.part, store, batch)?;
        put(batch, ledger_key(self.part), ledger.encode());
        self.ledger = Some(ledger);
        Ok(())
    }

    /// From this batch on no generation is kept.
    fn stop(&mut self, store: &dyn Store, batch: &mut Batch) -> Result<(), StoreError> {
        if let Some(ledger) = &mut self.ledger
            && !ledger.broken
        {
            ledger.drop_before(ledger.newest.number, self.part, store, batch)?;
            ledger.broken = true;
            put(batch, ledger_key(self.part), ledger.encode());
        }
        Ok(())
    }

    /// Older generations may need what is removed now.
    fn amend(&mut self, store: &dyn Store, batch: &mut Batch) -> Result<(), StoreError> {
        let Some(mut ledger) = self.ledger.clone().filter(|ledger| !ledger.broken) else {
            return Ok(());
        };
        let generation = ledger.newest.number;
        if ledger.oldest == generation {
            return Ok(());
        }
        let piece = ledger.pieces_of(generation) + 1;
        if piece >> PIECES != 0 {
            // No key is left for it.
            ledger.drop_before(generation, self.part, store, batch)?;
        } else {
            let (entries, count) = self.replaced(store, batch)?;
            let mut content = vec![0, 0];
            put_varint(&mut content, count);
            content.extend_from_slice(&entries);
            put(batch, past_key(self.part, generation, piece), content);
            ledger.pieces.retain(|(number, _)| *number != generation);
            ledger.pieces.push((generation, piece));
        }
        put(batch, ledger_key(self.part), ledger.encode());
        self.ledger = Some(ledger);
        Ok(())
    }

    /// What stands under the keys of this part that a batch changes, and how many they are.
    fn replaced(&self, store: &dyn Store, batch: &Batch) -> Result<(Vec<u8>, u64), StoreError> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        for change in batch.changes() {
            let (Change::Put(key, _) | Change::Delete(key)) = change;
            if !key.starts_with(&self.part.0.to_be_bytes()) || !seen.insert(key) {
                continue;
            }
            entries.extend_from_slice(&key[4..]);
            match store.get(key)? {
                Some(value) => {
                    entries.push(1);
                    put_bytes(&mut entries, &value);
                }
                None => entries.push(0),
            }
        }
        Ok((entries, seen.len() as u64))
    }
}

fn put(batch: &mut Batch, key: Vec<u8>, content: Vec<u8>) {
    let value = schema::seal(&key, content);
    batch.put(key, value);
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(LAST_MOMENT).min(LAST_MOMENT)
}

/// A reverse delta: the generation before it, and what to put back.
struct Past {
    millis: u64,
    records: u64,
    restored: Batch,
}

fn read_past(store: &dyn Store, part: PartId, generation: u64, piece: u64) -> Result<Past, StoreError> {
    let key = past_key(part, generation, piece);
    let decode = |content: &[u8]| decode_past(part, content);
    let missing = || schema::corrupt(&store.name(), &key, "the record is missing");
    schema::read(store, &key, decode)?.ok_or_else(missing)
}

fn decode_past(part: PartId, content: &[u8]) -> Option<Past> {
    let mut reader = Reader::new(content);
    let (millis, records) = (reader.varint()?, reader.varint()?);
    let mut restored = Batch::new();
    for _ in 0..reader.varint()? {
        let mut key = part.0.to_be_bytes().to_vec();
        for _ in 4..schema::KEY_LEN {
            key.push(reader.byte()?);
        }
        match reader.byte()? {
            0 => restored.delete(key),
            _ => restored.put(key, reader.bytes()?.to_vec()),
        }
    }
    let sound = reader.rest().is_empty() && millis <= LAST_MOMENT;
    sound.then_some(Past { millis, records, restored })
}

/// The generations of a part that can be read, the oldest first.
pub(crate) fn generations(store: &dyn Store, part: PartId) -> Result<Vec<Generation>, StoreError> {
    let Some(ledger) = Ledger::read(store, part)?.filter(|ledger| !ledger.broken) else {
        return Ok(Vec::new());
    };
    let mut found = vec![ledger.newest];
    for number in (ledger.oldest + 1..=ledger.newest.number).rev() {
        let Past { millis, records, .. } = read_past(store, part, number, 0)?;
        found.push(Generation { number: number - 1, millis, records });
    }
    found.reverse();
    Ok(found)
}

/// Takes a part back to a generation. The part keeps no generations from there on.
pub(crate) fn rewind(
    store: &dyn Store,
    part: PartId,
    name: &str,
    generation: i128,
) -> Result<(), StoreError> {
    let Some(ledger) = Ledger::read(store, part)?.filter(|ledger| !ledger.broken) else {
        return Err(no_such(store, name, generation, Kept::Nothing));
    };
    let (oldest, newest) = (ledger.oldest, ledger.newest.number);
    let kept = u64::try_from(generation).ok().filter(|number| (oldest..=newest).contains(number));
    let Some(generation) = kept else {
        return Err(no_such(store, name, generation, Kept::Range(oldest, newest)));
    };
    for number in (generation + 1..=newest).rev() {
        // What was collected after a batch was there when it was written.
        for piece in (0..=ledger.pieces_of(number)).rev() {
            store.write(&read_past(store, part, number, piece)?.restored)?;
        }
    }
    let mut batch = Batch::new();
    put(&mut batch, ledger_key(part), Ledger { broken: true, ..ledger }.encode());
    store.write(&batch)
}

/// The error for a number that no generation has.
pub(crate) fn no_such(store: &dyn Store, part: &str, generation: i128, kept: Kept) -> StoreError {
    StoreError::NoSuchGeneration { store: store.name(), part: part.to_owned(), generation, kept }
}

/// Which generations a part keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Those from and to these numbers.
    Range(u64, u64),
    /// None so far.
    Nothing,
    /// None ever: it is looked at as it was at one of them.
    InView,
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Range(oldest, newest) => write!(f, "it keeps {oldest} to {newest}"),
            Self::Nothing => f.write_str("it keeps none: open the store with keep_generations= from now on"),
            Self::InView => f.write_str("it is a view, which keeps none: ask the store that it is a view of"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_ledger_comes_back(
            oldest in 1..1u64 << 46, kept in 0u64..1000, millis in 0..LAST_MOMENT, records: u64, broken: bool,
            pieces in prop::collection::btree_map(1u64..1000, 0u64..1 << PIECES, 0..8),
        ) {
            let newest = Generation { number: oldest + kept, millis, records };
            let pieces = pieces.into_iter().filter(|(ahead, _)| *ahead <= kept);
            let pieces = pieces.map(|(ahead, count)| (oldest + ahead, count)).collect();
            let ledger = Ledger { newest, oldest, broken, pieces };
            prop_assert_eq!(Ledger::decode(&ledger.encode()), Some(ledger));
        }

        #[test]
        fn malformed_records_never_panic(bytes: Vec<u8>) {
            let _ = Ledger::decode(&bytes);
            let _ = decode_past(PartId(1), &bytes);
        }
    }
}
