//! Records: instances of classes that an environment names, and members of its enums.

use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use num_bigint::BigInt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::decode::{Actors, DecodeError, array_of, item, malformed};
use super::encode::{NotPortable, Writer};
use super::tags;
use crate::calls;
use crate::errors::goblins_error;
use crate::records::{Kind, RecordClass};

/// The bytes that are the same for all instances of a record: what stands before the fields, and their names.
pub(crate) struct Head {
    start: Vec<u8>,
    names: Vec<Vec<u8>>,
}

impl Head {
    pub(crate) fn new(name: &str, kind: Kind, fields: &[&str]) -> PyResult<Self> {
        let written = || -> Result<Self, NotPortable> {
            let mut start = Vec::new();
            let mut to = Encoder::new(&mut start);
            match kind {
                Kind::Fields | Kind::Tuple => {
                    to.tag(Tag::new(tags::RECORD))?.array(2)?.str(name)?.map(fields.len() as u64)?;
                }
                Kind::Enum | Kind::Flag => {
                    to.tag(Tag::new(tags::MEMBER))?.array(2)?.str(name)?;
                }
            }
            let mut names = Vec::new();
            for field in fields {
                let mut bytes = Vec::new();
                Encoder::new(&mut bytes).str(field)?;
                names.push(bytes);
            }
            Ok(Self { start, names })
        };
        written().map_err(|error| error.into_error(|reason, _| goblins_error(reason.to_owned())))
    }
}

impl<'py> Writer<'_, 'py> {
    /// Appends an instance of a record.
    pub(super) fn record(
        &mut self,
        record: &RecordClass,
        value: &Bound<'py, PyAny>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotPortable> {
        if let Some(name) = record.unknown_attribute(value)? {
            return Err(NotPortable::new(format!(
                "a {} with an attribute {name:?} that is no field and would be lost: make it a field",
                record.name
            )));
        }
        out.extend(&record.head.start);
        for (index, key) in record.head.names.iter().enumerate() {
            let field = || record.fields.get(index).map_or(String::new(), |field| field.to_string());
            let Some(item) = record.field(value, index)? else {
                return Err(NotPortable::new(format!(
                    "a {} that has no value for its field {:?}",
                    record.name,
                    field()
                )));
            };
            out.extend(key);
            self.value(&item, out).map_err(|error| error.below(|| format!(".{}", field())))?;
        }
        Ok(())
    }
}

/// Appends a member of an enum.
pub(super) fn member(
    record: &RecordClass,
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> Result<(), NotPortable> {
    let py = value.py();
    let name = value.getattr(intern!(py, "_name_"))?;
    out.extend(&record.head.start);
    let mut to = Encoder::new(out);
    if let Ok(name) = name.cast::<PyString>()
        && record.member(name)?.is_some_and(|known| known.is(value))
    {
        to.str(name.to_str()?)?;
        return Ok(());
    }
    if record.kind == Kind::Enum {
        return Err(NotPortable::new(format!("a member of {} that it does not list", record.name)));
    }
    // Several flags, whose name is made of theirs, or none.
    let joined = match name.cast::<PyString>() {
        Ok(name) => name.to_str()?.to_owned(),
        Err(_) => String::new(),
    };
    let names: Vec<&str> = joined.split('|').filter(|name| !name.is_empty()).collect();
    let mut bits = BigInt::from(0);
    for name in &names {
        if let Some(flag) = record.member(&PyString::new(py, name))? {
            bits |= flag.getattr(intern!(py, "_value_"))?.extract::<BigInt>()?;
        }
    }
    if bits != value.getattr(intern!(py, "_value_"))?.extract::<BigInt>()? {
        return Err(NotPortable::new(format!("flags of {} that have no name", record.name)));
    }
    to.array(names.len() as u64)?;
    for name in names {
        to.str(name)?;
    }
    Ok(())
}

/// Why a record can't be made again, though its bytes are in order.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No class has this name.
    UnknownRecord(String),
    /// The class has changed: what is stored does not fit it.
    Changed(String),
}

fn changed<T>(reason: String) -> Result<T, DecodeError> {
    Err(DecodeError::Record { steps: Vec::new(), problem: Problem::Changed(reason) })
}

fn named<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
) -> Result<Bound<'py, RecordClass>, DecodeError> {
    array_of(from, 2)?;
    let name = from.str()?;
    actors.records().and_then(|records| records.named(py, name)).ok_or_else(|| DecodeError::Record {
        steps: Vec::new(),
        problem: Problem::UnknownRecord(name.to_owned()),
    })
}

/// Reads an instance of a record.
pub(super) fn read<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
    depth: usize,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let record = named(py, from, actors)?;
    let record = record.get();
    if !matches!(record.kind, Kind::Fields | Kind::Tuple) {
        return changed(format!("has fields, and {} is an enum now", record.name));
    }
    let Some(count) = from.map()? else {
        return malformed("a map without length");
    };
    let mut stored = Vec::new();
    for _ in 0..count {
        let name = from.str()?;
        let value = item(py, from, actors, depth + 1).map_err(|error| error.below(|| format!(".{name}")))?;
        stored.push((name, value));
    }
    let mut take = |wanted: &str| {
        let at = stored.iter().position(|(name, _)| *name == wanted)?;
        Some(stored.swap_remove(at).1)
    };
    match record.make(py, &mut take)? {
        Err(missing) => changed(format!(
            "has no field {missing:?}, which {} needs: give the field a default",
            record.name
        )),
        Ok(value) => match stored.first() {
            Some((lost, _)) => changed(format!(
                "has a field {lost:?} that {} does not have any more, so it would be lost",
                record.name
            )),
            None => Ok(value),
        },
    }
}

/// Reads a member of an enum.
pub(super) fn read_member<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
    actors: &dyn Actors,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let record = named(py, from, actors)?;
    let record = record.get();
    let find = |name: &str| match record.member(&PyString::new(py, name))? {
        Some(member) => Ok(member),
        None => changed(format!("is the member {name:?} of {}, which has no such member now", record.name)),
    };
    if from.datatype()? == Type::String {
        return find(from.str()?);
    }
    let Some(count) = from.array()? else {
        return malformed("an array without length");
    };
    if record.kind != Kind::Flag {
        return changed(format!("is made of flags, and {} has none now", record.name));
    }
    let mut flags: Option<Bound<'py, PyAny>> = None;
    for _ in 0..count {
        let flag = find(from.str()?)?;
        flags = Some(match flags {
            None => flag,
            Some(others) => others.bitor(flag)?,
        });
    }
    match flags {
        Some(flags) => Ok(flags),
        None => Ok(calls::call_with(record.class.bind(py), (0,))?),
    }
}
