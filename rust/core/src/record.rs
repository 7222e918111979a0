//! The record of one actor: what stands in the store under its slot.
//!
//! ```text
//! format (1 byte) | shape id | flags | [name] | slots referred to | [far references] | payload
//! ```
//!
//! Numbers are varints; the name has its length before it. A far reference is a vat's permanent id (16 bytes) and a
//! slot. The slots and the far references stand apart from the payload, which names them by their index: so the
//! graph can be walked without decoding a payload.

use std::sync::Arc;

use crate::ids::{Address, PermanentId, ShapeId, Slot};
use crate::schema::{Reader, put_bytes, put_varint, varint_len};

/// Format of an actor's record that this version writes.
pub const RECORD_FORMAT: u8 = 1;

const HAS_NAME: u64 = 1;
const HAS_FAR: u64 = 2;

/// What the records of actors of one kind have in common: label, version, and the names of the fields that their
/// payloads hold, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The stored name of the actor's constructor.
    pub label: String,
    /// The version of their portraits, encoded by the host.
    pub version: Vec<u8>,
    /// Names of the fields.
    pub fields: Vec<String>,
}

impl Shape {
    /// The bytes that are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, self.label.as_bytes());
        put_bytes(&mut out, &self.version);
        put_varint(&mut out, self.fields.len() as u64);
        for field in &self.fields {
            put_bytes(&mut out, field.as_bytes());
        }
        out
    }

    /// Reads what [`Shape::encode`] wrote.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let label = reader.text()?.to_owned();
        let version = reader.bytes()?.to_vec();
        let count = reader.varint()?;
        let fields = (0..count).map(|_| reader.text().map(str::to_owned)).collect::<Option<_>>()?;
        reader.rest().is_empty().then_some(Self { label, version, fields })
    }
}

/// An actor's portrait as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Label and fields, by number.
    pub shape: ShapeId,
    /// The debug name, where it is not the constructor's.
    pub name: Option<String>,
    /// The actors that the payload refers to, by index.
    pub slots: Vec<Slot>,
    /// Actors of other vats that the payload refers to, by index.
    pub far: Vec<Address>,
    /// The values of the fields, encoded by the host.
    pub payload: Vec<u8>,
}

impl Record {
    /// The bytes that are stored, without checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(16 + self.payload.len() + 2 * self.slots.len() + 18 * self.far.len());
        out.push(RECORD_FORMAT);
        put_varint(&mut out, u64::from(self.shape.0));
        let name = if self.name.is_some() { HAS_NAME } else { 0 };
        let far = if self.far.is_empty() { 0 } else { HAS_FAR };
        put_varint(&mut out, name | far);
        if let Some(name) = &self.name {
            put_bytes(&mut out, name.as_bytes());
        }
        put_varint(&mut out, self.slots.len() as u64);
        for slot in &self.slots {
            put_varint(&mut out, slot.0);
        }
        if !self.far.is_empty() {
            put_varint(&mut out, self.far.len() as u64);
            for address in &self.far {
                out.extend_from_slice(&address.vat.0);
                put_varint(&mut out, address.slot.0);
            }
        }
        out.extend_from_slice(&self.payload);
        out
    }

    /// How many bytes [`Record::encode`] gives.
    pub fn size(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| varint_len(name.len() as u64) + name.len());
        let slots: usize = self.slots.iter().map(|slot| varint_len(slot.0)).sum();
        let far: usize = match self.far.len() {
            0 => 0,
            count => {
                let slots: usize = self.far.iter().map(|address| varint_len(address.slot.0)).sum();
                varint_len(count as u64) + 16 * count + slots
            }
        };
        let numbers = varint_len(u64::from(self.shape.0)) + varint_len(self.slots.len() as u64);
        // The format and the flags take a byte each.
        2 + numbers + name + slots + far + self.payload.len()
    }

    /// Reads what [`Record::encode`] wrote; the error says what is wrong.
    pub fn decode(content: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(content);
        match reader.byte() {
            Some(RECORD_FORMAT) => {}
            Some(other) => return Err(format!("record format {other} is not known")),
            None => return Err("the record is empty".to_owned()),
        }
        Self::decode_fields(reader).ok_or_else(|| "the record is malformed".to_owned())
    }

    fn decode_fields(mut reader: Reader<'_>) -> Option<Self> {
        let shape = ShapeId(u32::try_from(reader.varint()?).ok()?);
        let flags = reader.varint()?;
        (flags & !(HAS_NAME | HAS_FAR) == 0).then_some(())?;
        let name = if flags & HAS_NAME != 0 { Some(reader.text()?.to_owned()) } else { None };
        let (slots, far) = Self::decode_references(&mut reader, flags)?;
        Some(Self { shape, name, slots, far, payload: reader.rest().to_vec() })
    }

    /// Only the actors that a record refers to, here and in other vats, for walks.
    pub fn references_of(content: &[u8]) -> Option<(Vec<Slot>, Vec<Address>)> {
        let mut reader = Reader::new(content);
        (reader.byte()? == RECORD_FORMAT).then_some(())?;
        reader.varint()?;
        let flags = reader.varint()?;
        if flags & HAS_NAME != 0 {
            reader.bytes()?;
        }
        Self::decode_references(&mut reader, flags)
    }

    fn decode_references(reader: &mut Reader<'_>, flags: u64) -> Option<(Vec<Slot>, Vec<Address>)> {
        let slots = reader.varints()?.into_iter().map(Slot).collect();
        let count = if flags & HAS_FAR != 0 { reader.varint()? } else { 0 };
        let address = |_| Some(Address { vat: PermanentId(reader.array()?), slot: Slot(reader.varint()?) });
        Some((slots, (0..count).map(address).collect::<Option<_>>()?))
    }

    /// Only the shape of a record, for walks that need no more.
    pub fn shape_of(content: &[u8]) -> Option<ShapeId> {
        let mut reader = Reader::new(content);
        (reader.byte()? == RECORD_FORMAT).then_some(())?;
        Some(ShapeId(u32::try_from(reader.varint()?).ok()?))
    }
}

/// A vat as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VatRecord {
    /// The permanent id, made at the first spawn (PV-12).
    pub id: [u8; 16],
    /// The version of the roots, encoded by the host.
    pub roots_version: Vec<u8>,
    /// The roots, in the order in which they were given.
    pub roots: Vec<Slot>,
}

impl VatRecord {
    /// The bytes that are stored, without checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.id.to_vec();
        put_bytes(&mut out, &self.roots_version);
        put_varint(&mut out, self.roots.len() as u64);
        for slot in &self.roots {
            put_varint(&mut out, slot.0);
        }
        out
    }

    /// Reads what [`VatRecord::encode`] wrote.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let (id, rest) = content.split_first_chunk::<16>()?;
        let mut reader = Reader::new(rest);
        let roots_version = reader.bytes()?.to_vec();
        let roots = reader.varints()?.into_iter().map(Slot).collect();
        reader.rest().is_empty().then_some(Self { id: *id, roots_version, roots })
    }
}

/// What an actor says of itself: enough to make it again (POR-02). `A` is a reference to an actor, `P` a promise.
#[derive(Debug)]
pub struct Portrait<A, P> {
    /// Label and fields.
    pub shape: Arc<Shape>,
    /// The debug name, where it is not the constructor's.
    pub name: Option<String>,
    /// The actors that the payload refers to, by index.
    pub refs: Vec<A>,
    /// Actors of other vats that the payload refers to, by index.
    pub far: Vec<FarReference<A>>,
    /// Promises in the payload that had not settled: it is stored that they had not, and the portrait is taken again
    /// when they have.
    pub unsettled: Vec<P>,
    /// Promises stand in the payload, settled or not; those for actors of other vats don't count.
    pub holds_promises: bool,
    /// The values of the fields, encoded by the host.
    pub payload: Vec<u8>,
}

/// A reference to an actor of another vat, as it is stored.
#[derive(Debug)]
pub struct FarReference<A> {
    /// Where it is found again.
    pub address: Address,
    /// The actor, if it is known: its vat is told to store it.
    pub actor: Option<A>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_comes_back(
            shape: u32, name: Option<String>, slots: Vec<u64>, far: Vec<([u8; 16], u64)>, payload: Vec<u8>
        ) {
            let slots = slots.into_iter().map(Slot).collect();
            let address = |(vat, slot)| Address { vat: PermanentId(vat), slot: Slot(slot) };
            let far = far.into_iter().map(address).collect();
            let record = Record { shape: ShapeId(shape), name, slots, far, payload };
            let bytes = record.encode();
            prop_assert_eq!(Record::shape_of(&bytes), Some(record.shape));
            prop_assert_eq!(record.size(), bytes.len());
            prop_assert_eq!(Record::references_of(&bytes), Some((record.slots.clone(), record.far.clone())));
            prop_assert_eq!(Record::decode(&bytes).unwrap(), record);
        }

        #[test]
        fn a_vat_record_comes_back(id: [u8; 16], roots_version: Vec<u8>, roots: Vec<u64>) {
            let roots = roots.into_iter().map(Slot).collect();
            let record = VatRecord { id, roots_version, roots };
            prop_assert_eq!(VatRecord::decode(&record.encode()), Some(record));
        }

        #[test]
        fn a_shape_comes_back(label: String, version: Vec<u8>, fields: Vec<String>) {
            let shape = Shape { label, version, fields };
            prop_assert_eq!(Shape::decode(&shape.encode()), Some(shape));
        }

        #[test]
        fn malformed_records_never_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
            let _ = Record::references_of(&bytes);
            let _ = VatRecord::decode(&bytes);
            let _ = Shape::decode(&bytes);
        }
    }

    #[test]
    fn a_small_record_takes_few_bytes() {
        let record =
            Record { shape: ShapeId(1), name: None, slots: vec![], far: vec![], payload: vec![0x81, 5] };
        assert!(record.encode().len() <= 10);
    }
}
