//! From bytes to Python values. The bytes may be anything: nothing here trusts them.

use std::collections::HashSet;

use minicbor::Decoder;
use minicbor::data::Type;
use pyo3::exceptions::{PyException, PyMemoryError, PyRecursionError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFrozenSet, PyList, PySet, PyString, PyTuple};

use super::encode::item_step;
use super::records::{self, Problem};
use super::{MAX_DEPTH, identifiers, numbers, tags, times};
use crate::collections::collection;
use crate::records::Records;
use crate::refs::Ref;

/// Where the actors are that references stand for.
pub(crate) trait Actors {
    /// The reference with this number.
    fn actor<'py>(&self, py: Python<'py>, number: u64) -> Option<Bound<'py, PyAny>>;

    /// What stands for the actor of another vat with this number.
    fn far<'py>(&self, _py: Python<'py>, _number: u64) -> Option<Bound<'py, PyAny>> {
        None
    }

    /// The promise with this number.
    fn promise<'py>(&self, _py: Python<'py>, _number: u64) -> Option<Bound<'py, PyAny>> {
        None
    }

    /// The classes whose instances are values.
    fn records(&self) -> Option<&Records> {
        None
    }
}

/// For places where no reference can stand.
pub(crate) struct NoActors;

impl Actors for NoActors {
    fn actor<'py>(&self, _py: Python<'py>, _number: u64) -> Option<Bound<'py, PyAny>> {
        None
    }
}

/// Why bytes could not be read.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// They are not what [`super::encode`] writes.
    Malformed(String),
    /// They are, and what they need is not here.
    Missing(String),
    /// Python raised while a value was being made.
    Python(PyErr),
    /// A record does not fit the classes there are.
    Record {
        /// The way to it, innermost step first.
        steps: Vec<String>,
        problem: Problem,
    },
}

impl DecodeError {
    /// The error that says what is wrong with the bytes, as `refuse` words it; or the one that Python raised.
    pub(crate) fn into_error(self, refuse: impl FnOnce(&Self) -> PyErr) -> PyErr {
        match self {
            Self::Python(error) => error,
            other => refuse(&other),
        }
    }

    pub(crate) fn below(mut self, step: impl FnOnce() -> String) -> Self {
        if let Self::Record { steps, .. } = &mut self {
            steps.push(step());
        }
        self
    }
}

impl From<minicbor::decode::Error> for DecodeError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<PyErr> for DecodeError {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(reason) | Self::Missing(reason) => f.write_str(reason),
            Self::Python(error) => error.fmt(f),
            Self::Record { problem: Problem::UnknownRecord(name), .. } => {
                write!(f, "there is no record named {name:?}")
            }
            Self::Record { problem: Problem::Changed(how), .. } => write!(f, "a record {how}"),
        }
    }
}

pub(super) fn malformed<T>(reason: impl Into<String>) -> Result<T, DecodeError> {
    Err(DecodeError::Malformed(reason.into()))
}

/// What Python made of parts that were read; if it refuses them, they are not what was written.
pub(super) fn valid<T>(made: PyResult<T>) -> Result<T, DecodeError> {
    made.map_err(|error| match says_no(&error) {
        true => DecodeError::Malformed(error.to_string()),
        false => DecodeError::Python(error),
    })
}

/// Whether an error is about what was given, and about nothing else that may happen.
pub(super) fn says_no(error: &PyErr) -> bool {
    Python::attach(|py| {
        error.is_instance_of::<PyException>(py)
            && !error.is_instance_of::<PyMemoryError>(py)
            && !error.is_instance_of::<PyRecursionError>(py)
    })
}

/// What was made of members or keys. One that can't be hashed is none that was written; what else hashing them says, it
/// says itself.
fn hashed<T>(made: PyResult<T>) -> Result<T, DecodeError> {
    made.map_err(|error| {
        let text = error.to_string();
        match text.strip_prefix("TypeError: ") {
            Some(reason) if reason.starts_with("unhashable type") => {
                DecodeError::Malformed(reason.to_owned())
            }
            _ => DecodeError::Python(error),
        }
    })
}

/// Reads the head of an array with so many members.
pub(super) fn array_of(from: &mut Decoder<'_>, count: u64) -> Result<(), DecodeError> {
    if from.array()? == Some(count) { Ok(()) } else { malformed("an array has another length") }
}

/// Reads one item and refuses what comes after it.
pub(crate) fn decode_all<'py>(
    py: Python<'py>,
    bytes: &[u8],
    actors: &dyn Actors,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = decode(py, &mut decoder, actors)?;
    if decoder.position() != bytes.len() {
        return malformed("something stands after the value");
    }
    Ok(value)
}

/// Reads one item.
pub(crate) fn decode<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    item(py, from, actors, 0)
}

pub(super) fn item<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
    depth: usize,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    if depth > MAX_DEPTH {
        return malformed("the value is nested too deeply");
    }
    let value = match from.datatype()? {
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
            from.u64()?.into_pyobject(py).map_err(PyErr::from)?.into_any()
        }
        Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
            i128::from(from.int()?).into_pyobject(py).map_err(PyErr::from)?.into_any()
        }
        Type::F64 => from.f64()?.into_pyobject(py).map_err(PyErr::from)?.into_any(),
        Type::String => PyString::new(py, from.str()?).into_any(),
        Type::Bytes => PyBytes::new(py, from.bytes()?).into_any(),
        Type::Null => {
            from.null()?;
            py.None().into_bound(py)
        }
        Type::Bool => from.bool()?.into_pyobject(py).map_err(PyErr::from)?.to_owned().into_any(),
        Type::Array => PyList::new(py, items(py, from, actors, depth)?)?.into_any(),
        Type::Map => map(py, from, actors, depth)?.into_any(),
        Type::Tag => tagged(py, from, actors, depth)?,
        other => return malformed(format!("{other} is not used here")),
    };
    Ok(value)
}

/// The members of an array. A claimed length reserves nothing: each member takes a byte at least.
fn items<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
    depth: usize,
) -> Result<Vec<Bound<'py, PyAny>>, DecodeError> {
    let Some(count) = from.array()? else {
        return malformed("an array without length");
    };
    let left = from.input().len() - from.position();
    if count > left as u64 {
        return malformed("an array is longer than what is left");
    }
    let member =
        |index| item(py, from, actors, depth + 1).map_err(|error| error.below(|| format!("[{index}]")));
    (0..count).map(member).collect()
}

fn map<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
    depth: usize,
) -> Result<Bound<'py, PyDict>, DecodeError> {
    let Some(count) = from.map()? else {
        return malformed("a map without length");
    };
    let start = from.position();
    let dict = PyDict::new(py);
    for read in 0..count {
        let key = item(py, from, actors, depth + 1).map_err(|error| error.below(|| "<key>".to_owned()))?;
        let value = item(py, from, actors, depth + 1).map_err(|error| error.below(|| item_step(&key)))?;
        hashed(dict.set_item(key, value))?;
        if dict.len() as u64 != read + 1 {
            return Err(twice(from, start, read + 1, 2, "two keys of a dict").unwrap_or_else(|error| error));
        }
    }
    Ok(dict)
}

/// The members of a set; `make` makes it of them.
fn members<'py, T>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
    depth: usize,
    make: impl FnOnce(Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, T>>,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let start = from.position();
    let members = items(py, from, actors, depth)?;
    let count = members.len();
    let set = hashed(make(members))?.into_any();
    if set.len()? != count {
        from.set_position(start);
        from.array()?;
        let first = from.position();
        return Err(twice(from, first, count as u64, 1, "two members of a set").unwrap_or_else(|error| error));
    }
    Ok(set)
}

/// What is wrong with so many members or keys, `step` items apart, two of which are equal: the same bytes twice were
/// never written, and other ones became equal since the code of today compares them otherwise.
fn twice(
    from: &mut Decoder<'_>,
    start: usize,
    count: u64,
    step: usize,
    which: &str,
) -> Result<DecodeError, DecodeError> {
    from.set_position(start);
    let mut seen = HashSet::new();
    for _ in 0..count {
        let begin = from.position();
        from.skip()?;
        if !seen.insert(&from.input()[begin..from.position()]) {
            return malformed(format!("{which} are the same"));
        }
        for _ in 1..step {
            if from.datatype().is_ok() {
                from.skip()?;
            }
        }
    }
    Ok(DecodeError::Record {
        steps: Vec::new(),
        problem: Problem::Changed(format!(
            "has {which} that were different when they were stored, and are equal by the code of today: use the code \
             that compared them otherwise, and change them there"
        )),
    })
}

fn tagged<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
    depth: usize,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let value = match from.tag()?.as_u64() {
        tags::REFERENCE => {
            let number = from.u64()?;
            match actors.actor(py, number) {
                Some(actor) => actor,
                None => return malformed(format!("there is no reference number {number}")),
            }
        }
        tags::FAR => {
            let number = from.u64()?;
            match actors.far(py, number) {
                Some(promise) => promise,
                None => return malformed(format!("there is no far reference number {number}")),
            }
        }
        tags::PROMISE => {
            let number = from.u64()?;
            match actors.promise(py, number) {
                Some(promise) => promise,
                None => return malformed(format!("there is no promise number {number}")),
            }
        }
        tags::IDENTIFIER => identifiers::read(py, from)?,
        tags::COLLECTION => {
            if from.array()? != Some(2) {
                return malformed("a collection is not kind and root");
            }
            let kind = from.u8()?;
            let root = item(py, from, actors, depth + 1)?;
            if !root.is_exact_instance_of::<Ref>() {
                return malformed("the root of a collection is no reference");
            }
            match collection(kind, &root)? {
                Some(collection) => collection,
                None => return malformed(format!("there is no kind {kind} of collections")),
            }
        }
        tags::TUPLE => PyTuple::new(py, items(py, from, actors, depth)?)?.into_any(),
        tags::SET => members(py, from, actors, depth, |members| PySet::new(py, members))?,
        tags::FROZENSET => members(py, from, actors, depth, |members| PyFrozenSet::new(py, members))?,
        tags::BYTEARRAY => PyByteArray::new(py, from.bytes()?).into_any(),
        tags::RECORD => records::read(py, from, actors, depth)?,
        tags::MEMBER => records::read_member(py, from, actors)?,
        other => match numbers::read(py, other, from)? {
            Some(number) => number,
            None => match times::read(py, other, from)? {
                Some(time) => time,
                None => return malformed(format!("tag {other} is not used here")),
            },
        },
    };
    Ok(value)
}
