//! Promises: how each one settled stands after the fields of the actor that holds them, so that one which stands in
//! several places is one promise again, and the value of one may lead back to it.

use goblins_core::promise::Outcome;
use goblins_core::references::settle_restored;
use minicbor::{Decoder, Encoder};
use pyo3::prelude::*;

use super::decode::{Actors, DecodeError, decode, malformed, valid};
use super::encode::NotPortable;
use crate::calls;
use crate::errors::{Fault, broken_promise};
use crate::host::PyHost;
use crate::promise::Promise;
use crate::sealed;

pub(super) const UNSETTLED: u8 = 0;
pub(super) const FULFILLED: u8 = 1;
pub(super) const BROKEN: u8 = 2;

/// What is kept of the error of a broken promise, as plain values.
pub(super) fn broken_error<'py>(error: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, NotPortable> {
    let module = error.py().import("goblins._broken")?;
    Ok(calls::call_attribute(module.as_any(), "describe", (error,))?)
}

/// Appends what was written of the promises of an actor, in the order of their numbers; nothing if there are none.
pub(crate) fn append(entries: Vec<Vec<u8>>, out: &mut Vec<u8>) -> Result<(), NotPortable> {
    if !entries.is_empty() {
        Encoder::new(&mut *out).array(entries.len() as u64)?;
        out.extend(entries.into_iter().flatten());
    }
    Ok(())
}

/// Makes the promises whose outcomes stand after the fields that `fields` is about to read.
pub(crate) fn begin(py: Python<'_>, fields: &Decoder<'_>) -> Result<Vec<Py<Promise>>, DecodeError> {
    let mut ahead = fields.clone();
    ahead.skip()?;
    let left = ahead.input().len() - ahead.position();
    if left == 0 {
        return Ok(Vec::new());
    }
    match ahead.array()? {
        // Each takes a byte at least: a damaged count can't make us make more than there are.
        Some(count) if count <= left as u64 => {
            (0..count).map(|_| Promise::pending(py).map_err(DecodeError::from)).collect()
        }
        _ => malformed("something else than promises stands after its fields"),
    }
}

/// Reads how the promises settled, and settles them.
pub(crate) fn finish(
    py: Python<'_>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
    promises: &[Py<Promise>],
) -> Result<(), DecodeError> {
    if promises.is_empty() {
        return Ok(());
    }
    from.array()?;
    let mut outcomes = Vec::with_capacity(promises.len());
    for _ in promises {
        outcomes.push(outcome(py, from, actors).map_err(|error| error.below(|| "<a promise>".to_owned()))?);
    }
    for (promise, outcome) in promises.iter().zip(outcomes) {
        settle_restored::<PyHost>(py, promise.clone_ref(py), outcome);
    }
    Ok(())
}

fn outcome(
    py: Python<'_>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
) -> Result<Outcome<PyHost>, DecodeError> {
    let count = from.array()?;
    let outcome = match (from.u8()?, count) {
        (UNSETTLED, Some(1)) => Outcome::Broken(
            broken_promise(
                "the promise had not settled when the vat that held it ended: what was to settle it is gone",
            )
            .into(),
        ),
        (FULFILLED, Some(2)) => Outcome::Fulfilled(valid(sealed::seal(decode(py, from, actors)?))?),
        (BROKEN, Some(2)) => {
            let kept = decode(py, from, actors)?;
            let error = valid(py.import("goblins._broken")?.call_method1("revive", (kept,)))?;
            Outcome::Broken(Fault::from(PyErr::from_value(error)).sealed(py))
        }
        _ => return malformed("a promise ended in no known way"),
    };
    Ok(outcome)
}
