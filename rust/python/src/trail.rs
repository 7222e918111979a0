//! The way to an actor that can't be stored, in the error that says so.

use goblins_core::record::{Record, Shape};
use goblins_core::trail::Trail;
use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error;
use pyo3::prelude::*;

use crate::cbor;
use crate::errors::{self, Fault};
use crate::refs::Ref;

/// The field of a record in which the reference with this number stands.
pub(crate) fn field_of(shape: &Shape, record: &Record, number: usize) -> Option<String> {
    let mut decoder = Decoder::new(&record.payload);
    decoder.array().ok()?;
    for field in &shape.fields {
        let start = decoder.position();
        decoder.skip().ok()?;
        let value = record.payload.get(start..decoder.position())?;
        if mentions(value, number as u64).ok()? {
            return Some(field.clone());
        }
    }
    None
}

/// Whether a reference stands anywhere in a value. Members of containers follow their heads, so no stack is needed.
fn mentions(value: &[u8], number: u64) -> Result<bool, Error> {
    let mut decoder = Decoder::new(value);
    while decoder.position() < value.len() {
        match decoder.datatype()? {
            Type::Array => {
                decoder.array()?;
            }
            Type::Map => {
                decoder.map()?;
            }
            Type::Tag if decoder.tag()?.as_u64() == cbor::REFERENCE => {
                if decoder.u64()? == number {
                    return Ok(true);
                }
            }
            // The tagged value comes next.
            Type::Tag => {}
            _ => decoder.skip()?,
        }
    }
    Ok(false)
}

/// The error of a portrait, with the way from a root to its actor.
pub(crate) fn traced(py: Python<'_>, error: Fault, actor: &Py<Ref>, trail: &Trail) -> Fault {
    errors::add_trail(py, &error, &trail.to_string(), &actor.get().title(py));
    error
}
