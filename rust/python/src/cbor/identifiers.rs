//! Persistable ids: the permanent id of a vat, and a slot there.

use std::convert::Infallible;

use goblins_core::ids::{Address, PermanentId, Slot};
use minicbor::data::Tag;
use minicbor::encode::Error;
use minicbor::{Decoder, Encoder};
use pyo3::prelude::*;

use super::decode::{DecodeError, array_of, malformed};
use super::encode::NotPortable;
use super::tags;
use crate::identifiers::PersistableId;

/// Appends a persistable id. False if the value is none.
pub(super) fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<bool, NotPortable> {
    let Ok(id) = value.cast_exact::<PersistableId>() else {
        return Ok(false);
    };
    let Address { vat, slot } = id.get().address;
    let mut written = || -> Result<(), Error<Infallible>> {
        let mut to = Encoder::new(&mut *out);
        to.tag(Tag::new(tags::IDENTIFIER))?.array(2)?.bytes(&vat.0)?.u64(slot.0)?;
        Ok(())
    };
    written()?;
    Ok(true)
}

/// Reads what stands after the tag.
pub(super) fn read<'py>(py: Python<'py>, from: &mut Decoder<'_>) -> Result<Bound<'py, PyAny>, DecodeError> {
    array_of(from, 2)?;
    let Ok(vat) = from.bytes()?.try_into() else {
        return malformed("a vat's id has another length than 16");
    };
    let address = Address { vat: PermanentId(vat), slot: Slot(from.u64()?) };
    Ok(Bound::new(py, PersistableId { address })?.into_any())
}
