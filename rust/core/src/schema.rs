//! Everything that stands in a store, and its version history: keys, kinds of record, sealed values.
//!
//! A key is `part (u32) | kind (u8) | id (u64)`, big-endian, so that the records of one vat stand
//! together and in the order of their numbers. Part 0 belongs to the store itself.
//!
//! | part | kind | id | value |
//! |---|---|---|---|
//! | 0 | `Format` | 0 | format version of the store (varint) |
//! | 0 | `PartName` | part | name of the part (UTF-8) |
//! | 0 | `Collection` | 0 | what the last walk found ([`crate::collecting`]) |
//! | n | `Vat` | 0 | the vat's permanent id, roots version, root slots |
//! | n | `NextSlot` | 0 | a slot that was never used, nor any higher one (varint) |
//! | n | `Shape` | shape id | label and field names |
//! | n | `Actor` | slot | the actor's record ([`crate::record`]) |
//! | n | `Generations` | 0 | which older generations can be read ([`crate::history`]) |
//! | n | `Exported` | slot | the name of a vat of another store that refers to this actor (UTF-8) |
//! | n | `Past` | generation and piece | what a batch replaced |
//!
//! A value is its content followed by the CRC-32C of key and content: a record that was damaged, or that
//! stands under a key that is not its own, is found out.
//!
//! Versions: **1**, the first.

use crate::ids::{PartId, ShapeId, Slot};
use crate::store::{Store, StoreError};

/// The format that this version writes, and the newest it reads.
pub const FORMAT: u64 = 1;

/// The part that belongs to the store itself.
pub const STORE_PART: PartId = PartId(0);

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The store's format.
    Format = 1,
    /// A part's name.
    PartName = 2,
    /// What the last collection found.
    Collection = 3,
    /// A vat's identity and roots.
    Vat = 16,
    /// A vat's slot counter.
    NextSlot = 17,
    /// A label with its field names.
    Shape = 18,
    /// Which generations of the part can be read.
    Generations = 19,
    /// An actor that a vat of another store refers to.
    Exported = 20,
    /// An actor.
    Actor = 32,
    /// What a batch replaced.
    Past = 64,
}

impl Kind {
    /// All kinds, in the order of their keys.
    pub const ALL: [Self; 10] = [
        Self::Format,
        Self::PartName,
        Self::Collection,
        Self::Vat,
        Self::NextSlot,
        Self::Shape,
        Self::Generations,
        Self::Exported,
        Self::Actor,
        Self::Past,
    ];

    /// In words, for messages.
    pub fn title(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::PartName => "part name",
            Self::Collection => "collection",
            Self::Vat => "vat",
            Self::NextSlot => "next slot",
            Self::Shape => "shape",
            Self::Generations => "generations",
            Self::Exported => "exported slot",
            Self::Actor => "slot",
            Self::Past => "past",
        }
    }
}

/// Where the format of a store stands.
pub fn format_key() -> Vec<u8> {
    key(STORE_PART, Kind::Format, 0)
}

/// Whether this version reads the format that stands in a store: `value`, under [`format_key`] (guarantee G11).
pub fn check_format(store: &str, value: &[u8]) -> Result<(), StoreError> {
    let key = format_key();
    match number(open(store, &key, value)?) {
        Some(found) if found > FORMAT => {
            Err(StoreError::NewerFormat { store: store.to_owned(), found, supported: FORMAT })
        }
        Some(found) if found > 0 => Ok(()),
        _ => Err(corrupt(store, &key, "the format number is malformed")),
    }
}

/// The number that a content consists of.
pub fn number(content: &[u8]) -> Option<u64> {
    let mut reader = Reader::new(content);
    let number = reader.varint()?;
    reader.rest().is_empty().then_some(number)
}

/// Length of every key in bytes.
pub const KEY_LEN: usize = 13;

/// The key of a record.
pub fn key(part: PartId, kind: Kind, id: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(KEY_LEN);
    key.extend_from_slice(&part.0.to_be_bytes());
    key.push(kind as u8);
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// The key of an actor's record.
pub fn actor_key(part: PartId, slot: Slot) -> Vec<u8> {
    key(part, Kind::Actor, slot.0)
}

/// The key of a shape.
pub fn shape_key(part: PartId, shape: ShapeId) -> Vec<u8> {
    key(part, Kind::Shape, u64::from(shape.0))
}

/// The range of keys of one kind in one part: from the first (inclusive) to the second (exclusive).
pub fn range(part: PartId, kind: Kind) -> (Vec<u8>, Vec<u8>) {
    let start = key(part, kind, 0);
    let mut end = start.clone();
    end[4] += 1;
    (start, end)
}

/// Whether a key is that of a record of this part and kind.
pub fn is_of(key: &[u8], part: PartId, kind: Kind) -> bool {
    key.starts_with(&part.0.to_be_bytes()) && key.get(4) == Some(&(kind as u8))
}

/// Part, kind and id in a key; `None` if it is malformed, or of a kind that is not known.
pub fn parts_of(key: &[u8]) -> Option<(PartId, Kind, u64)> {
    let part = PartId(u32::from_be_bytes(key.get(..4)?.try_into().ok()?));
    let kind = key.get(4)?;
    Some((part, Kind::ALL.into_iter().find(|known| *known as u8 == *kind)?, id_of(key)?))
}

/// The id in a key.
pub fn id_of(key: &[u8]) -> Option<u64> {
    let id = key.get(5..KEY_LEN)?;
    Some(u64::from_be_bytes(id.try_into().ok()?))
}

/// A key in words, for messages.
pub fn describe(key: &[u8]) -> String {
    if let Some((part, kind, id)) = parts_of(key) {
        return format!("part {part}, {} {id}", kind.title());
    }
    format!("key {key:02x?}, which is of no known kind")
}

/// Completes a value: appends the checksum over key and content.
pub fn seal(key: &[u8], mut content: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, &content);
    content.extend_from_slice(&sum.to_le_bytes());
    content
}

/// The content of a value, if its checksum fits.
pub fn open<'a>(store: &str, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    content(key, value).map_err(|reason| corrupt(store, key, reason))
}

/// As [`open`]; the error is the reason.
pub fn content<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (content, sum) = value.split_last_chunk::<4>().ok_or("the value is cut off")?;
    if checksum(key, content) != u32::from_le_bytes(*sum) {
        return Err("the checksum does not fit");
    }
    Ok(content)
}

/// The error for a record that can't be read.
pub fn corrupt(store: &str, key: &[u8], reason: &str) -> StoreError {
    StoreError::Corrupt { store: store.to_owned(), place: describe(key), reason: reason.to_owned() }
}

/// The record under a key, its checksum verified; `None` if there is none.
pub fn read<T>(
    store: &dyn Store,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let Some(value) = store.get(key)? else {
        return Ok(None);
    };
    let content = open(&store.name(), key, &value)?;
    decode(content).map(Some).ok_or_else(|| corrupt(&store.name(), key, "the record is malformed"))
}

fn checksum(key: &[u8], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), content)
}

/// Appends an unsigned number, seven bits a byte, lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// How many bytes [`put_varint`] takes for a number.
pub fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends bytes with their length before them.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what [`put_varint`] and [`put_bytes`] wrote. Gives `None` on anything malformed.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `content`.
    pub fn new(content: &'a [u8]) -> Self {
        Self { rest: content }
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next number.
    pub fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// The next so many bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    /// The next bytes with a length before them.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    /// The next text.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// As many numbers as the number before them says.
    pub fn varints(&mut self) -> Option<Vec<u64>> {
        let count = usize::try_from(self.varint()?).ok()?;
        // Each takes a byte at least: a damaged count can't make us reserve more than there is.
        if count > self.rest.len() {
            return None;
        }
        (0..count).map(|_| self.varint()).collect()
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_under_another_key_is_corrupt() {
        let value = seal(&actor_key(PartId(1), Slot(1)), vec![1, 2, 3]);
        let error = open("s", &actor_key(PartId(1), Slot(2)), &value).unwrap_err();
        assert!(error.to_string().contains("part 1, slot 2"), "{error}");
    }

    #[test]
    fn keys_of_one_kind_stand_together_in_order() {
        let (start, end) = range(PartId(7), Kind::Actor);
        let first = actor_key(PartId(7), Slot(0));
        let last = actor_key(PartId(7), Slot(u64::MAX));
        assert!(start <= first && first < last && last < end);
        assert!(key(PartId(7), Kind::Shape, u64::MAX) < start);
        assert!(end <= key(PartId(8), Kind::Format, 0));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_found(content: Vec<u8>, bit: prop::sample::Index) {
            let key = actor_key(PartId(1), Slot(1));
            let mut value = seal(&key, content);
            let bit = bit.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open("s", &key, &value).is_err());
        }

        #[test]
        fn numbers_and_bytes_come_back(number: u64, bytes: Vec<u8>, list: Vec<u64>) {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            put_bytes(&mut out, &bytes);
            put_varint(&mut out, list.len() as u64);
            list.iter().for_each(|n| put_varint(&mut out, *n));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Some(number));
            prop_assert_eq!(reader.bytes(), Some(&bytes[..]));
            prop_assert_eq!(reader.varints(), Some(list));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn malformed_bytes_never_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.varint();
            let _ = reader.text();
            let _ = reader.varints();
        }
    }
}
