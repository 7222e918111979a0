//! From Python values to bytes.

use std::convert::Infallible;

use goblins_core::promise::Outcome;
use minicbor::Encoder;
use minicbor::data::Tag;
use minicbor::encode::Error;
use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyFunction, PyInt, PyList, PySet, PyString,
    PyTuple,
};

use super::decode::says_no;
use super::promises::{BROKEN, FULFILLED, UNSETTLED, broken_error};
use super::{MAX_DEPTH, identifiers, known, numbers, records, tags, times};
use crate::behavior::type_name;
use crate::collections::Collection;
use crate::containers::{each_inner, may_change};
use crate::current::current;
use crate::host::PyHost;
use crate::records::{Kind, RecordClass, Records};
use crate::sealed;
use crate::shapes;

/// What stands for a reference or a promise.
pub(crate) enum Handle {
    /// The number of an actor of the same vat.
    Near(u64),
    /// The number of an actor of another vat.
    Far(u64),
    /// The number of a promise.
    Promise(u64),
    /// The number of a promise that was met for the first time, and how it settled, if it did: that is written now.
    NewPromise(u64, Option<Outcome<PyHost>>),
}

/// Where references to actors go.
pub(crate) trait Refs {
    /// What stands for a reference or a promise; `None` if `value` is neither.
    fn handle(&mut self, value: &Bound<'_, PyAny>) -> Result<Option<Handle>, NotPortable>;

    /// Takes what is written of a new promise.
    fn promise_written(&mut self, _number: u64, _entry: Vec<u8>) {}

    /// The classes whose instances are values.
    fn records(&self) -> Option<&Records> {
        None
    }
}

/// For places where no reference can stand.
pub(crate) struct NoRefs;

impl Refs for NoRefs {
    fn handle(&mut self, _value: &Bound<'_, PyAny>) -> Result<Option<Handle>, NotPortable> {
        Ok(None)
    }
}

/// Why a value can't be stored, and where in the whole it stands.
#[derive(Debug)]
pub(crate) struct NotPortable {
    /// The way to it, innermost step first while it is being built.
    steps: Vec<String>,
    reason: String,
    /// What came up meanwhile and says nothing about the value: Ctrl-C, for one.
    aside: Option<Box<PyErr>>,
}

impl NotPortable {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { steps: Vec::new(), reason: reason.into(), aside: None }
    }

    /// The error that says why the value can't be stored, as `refuse` words it; or what came up meanwhile.
    pub(crate) fn into_error(self, refuse: impl FnOnce(&str, String) -> PyErr) -> PyErr {
        match self.aside {
            Some(error) => *error,
            None => refuse(&self.reason, self.path()),
        }
    }

    /// Why the value can't be stored; an error if that is not known.
    pub(crate) fn into_reason(self) -> Result<String, Self> {
        if self.aside.is_some() { Err(self) } else { Ok(self.reason) }
    }

    pub(super) fn below(mut self, step: impl FnOnce() -> String) -> Self {
        self.steps.push(step());
        self
    }

    /// The way to the value, such as `[3].name["two words"]`.
    fn path(&self) -> String {
        self.steps.iter().rev().map(String::as_str).collect()
    }
}

impl From<Error<Infallible>> for NotPortable {
    fn from(error: Error<Infallible>) -> Self {
        Self::new(error.to_string())
    }
}

impl From<PyErr> for NotPortable {
    fn from(error: PyErr) -> Self {
        match says_no(&error) {
            true => Self::new(format!("a value that could not be read: {error}")),
            false => Self { aside: Some(Box::new(error)), ..Self::new("") },
        }
    }
}

/// Appends one item.
pub(crate) fn encode(
    value: &Bound<'_, PyAny>,
    refs: &mut dyn Refs,
    out: &mut Vec<u8>,
) -> Result<(), NotPortable> {
    Writer { refs, above: Vec::new(), floor: 0 }.value(value, out)
}

pub(super) struct Writer<'r, 'py> {
    refs: &'r mut dyn Refs,
    /// The containers that the value stands in.
    above: Vec<Bound<'py, PyAny>>,
    /// How many of them are outside of the promise whose value is written: that may lead back to them.
    floor: usize,
}

impl<'py> Writer<'_, 'py> {
    pub(super) fn value(&mut self, value: &Bound<'py, PyAny>, out: &mut Vec<u8>) -> Result<(), NotPortable> {
        let mut to = Encoder::new(&mut *out);
        if let Ok(number) = value.cast_exact::<PyInt>() {
            return numbers::integer(number, out);
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            let text = text.to_str().map_err(|_| {
                NotPortable::new("a str with lone surrogates, which has no UTF-8; store it as bytes")
            })?;
            to.str(text)?;
            return Ok(());
        }
        if value.is_none() {
            to.null()?;
            return Ok(());
        }
        if let Some(handle) = self.refs.handle(value)? {
            return self.handle(value.py(), handle, out);
        }
        if let Ok(collection) = value.cast::<Collection>() {
            return self.collection(collection, out);
        }
        if let Ok(truth) = value.cast_exact::<PyBool>() {
            to.bool(truth.is_true())?;
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            return numbers::float(number.value(), out);
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            to.bytes(bytes.as_bytes())?;
        } else if let Ok(bytes) = value.cast_exact::<PyByteArray>() {
            to.tag(Tag::new(tags::BYTEARRAY))?.bytes(&bytes.to_vec())?;
        } else {
            return self.container(value, out);
        }
        Ok(())
    }

    fn handle(&mut self, py: Python<'py>, handle: Handle, out: &mut Vec<u8>) -> Result<(), NotPortable> {
        let mut to = Encoder::new(&mut *out);
        match handle {
            Handle::Near(number) => to.tag(Tag::new(tags::REFERENCE))?.u64(number)?,
            Handle::Far(number) => to.tag(Tag::new(tags::FAR))?.u64(number)?,
            Handle::Promise(number) | Handle::NewPromise(number, _) => {
                to.tag(Tag::new(tags::PROMISE))?.u64(number)?
            }
        };
        if let Handle::NewPromise(number, outcome) = handle {
            let entry = self.promise(py, outcome)?;
            self.refs.promise_written(number, entry);
        }
        Ok(())
    }

    /// How a promise settled: `[0]` if it did not, `[1, value]`, or `[2, what is kept of the error]`.
    fn promise(&mut self, py: Python<'py>, outcome: Option<Outcome<PyHost>>) -> Result<Vec<u8>, NotPortable> {
        let mut entry = Vec::new();
        let mut to = Encoder::new(&mut entry);
        match outcome {
            None => {
                to.array(1)?.u8(UNSETTLED)?;
            }
            Some(Outcome::Fulfilled(value)) => {
                to.array(2)?.u8(FULFILLED)?;
                let floor = std::mem::replace(&mut self.floor, self.above.len());
                let written = self.value(&sealed::inside(py, &value), &mut entry);
                self.floor = floor;
                written.map_err(|error| error.below(|| ".<value>".to_owned()))?;
            }
            Some(Outcome::Broken(error)) => {
                to.array(2)?.u8(BROKEN)?;
                let kept = broken_error(&error.value(py).into_bound(py))?;
                encode(&kept, &mut NoRefs, &mut entry)?;
            }
        }
        Ok(entry)
    }

    fn collection(
        &mut self,
        collection: &Bound<'py, Collection>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotPortable> {
        let (kind, root) = collection.get().parts();
        let number = match self.refs.handle(root.bind(collection.py()))? {
            Some(Handle::Near(number)) => number,
            Some(_) => {
                return Err(NotPortable::new(format!(
                    "a {} of another vat, and only an actor there can use it: refer to that actor",
                    type_name(collection)
                )));
            }
            None => {
                return Err(NotPortable::new(format!("{}, which is no plain value", type_name(collection))));
            }
        };
        let mut to = Encoder::new(&mut *out);
        to.tag(Tag::new(tags::COLLECTION))?.array(2)?.u8(kind)?;
        to.tag(Tag::new(tags::REFERENCE))?.u64(number)?;
        Ok(())
    }

    fn container(&mut self, value: &Bound<'py, PyAny>, out: &mut Vec<u8>) -> Result<(), NotPortable> {
        if self.above[self.floor..].iter().any(|above| above.is(value)) {
            return Err(NotPortable::new(format!("{}, and contains itself", type_name(value))));
        }
        if self.above.len() >= MAX_DEPTH {
            if scalar(value, out)? {
                return Ok(());
            }
            // A member of an enum is written below.
            if !self
                .refs
                .records()
                .and_then(|records| records.of(value))
                .is_some_and(|record| is_enum(&record))
            {
                return Err(NotPortable::new(format!("nested more than {MAX_DEPTH} levels deep")));
            }
        }
        self.above.push(value.clone());
        let written = self.members(value, out);
        self.above.pop();
        written
    }

    fn members(&mut self, value: &Bound<'py, PyAny>, out: &mut Vec<u8>) -> Result<(), NotPortable> {
        let mut to = Encoder::new(&mut *out);
        if let Ok(list) = value.cast_exact::<PyList>() {
            to.array(list.len() as u64)?;
            self.sequence(list.iter(), out)
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            to.tag(Tag::new(tags::TUPLE))?.array(tuple.len() as u64)?;
            self.sequence(tuple.iter(), out)
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            to.map(dict.len() as u64)?;
            self.dict(dict, out)
        } else if let Ok(set) = value.cast_exact::<PySet>() {
            to.tag(Tag::new(tags::SET))?.array(set.len() as u64)?;
            self.set(value, set.iter(), out)
        } else if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
            to.tag(Tag::new(tags::FROZENSET))?.array(set.len() as u64)?;
            self.set(value, set.iter(), out)
        } else if scalar(value, out)? {
            Ok(())
        } else if let Some(record) = self.refs.records().and_then(|records| records.of(value)) {
            if is_enum(&record) {
                records::member(record.get(), value, out)
            } else {
                self.record(record.get(), value, out)
            }
        } else {
            Err(NotPortable::new(unsupported(value)))
        }
    }

    fn sequence(
        &mut self,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotPortable> {
        for (index, item) in items.enumerate() {
            self.value(&item, out).map_err(|error| error.below(|| format!("[{index}]")))?;
        }
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>, out: &mut Vec<u8>) -> Result<(), NotPortable> {
        // Code of the user may change it meanwhile.
        let dict = if shapes::any_own_hash() { dict.copy()? } else { dict.clone() };
        for (key, item) in &dict {
            self.check_hash(&key).map_err(|error| error.below(|| format!("<key {}>", brief(&key))))?;
            self.value(&key, out).map_err(|error| error.below(|| format!("<key {}>", brief(&key))))?;
            self.value(&item, out).map_err(|error| error.below(|| item_step(&key)))?;
        }
        if shapes::any_in_sets() {
            self.check_found(dict.as_any(), &dict.keys())?;
        }
        Ok(())
    }

    /// Members and keys that were changed in place may hash otherwise than when they came in, or be equal to others. So
    /// what is made again would not be what is there.
    fn check_found(
        &self,
        container: &Bound<'py, PyAny>,
        members: &Bound<'py, PyList>,
    ) -> Result<(), NotPortable> {
        let changing: Vec<_> = members.iter().filter(may_change).collect();
        if changing.is_empty() || self.refs.records().is_none() {
            return Ok(());
        }
        let lost = || -> PyResult<Option<Bound<'py, PyAny>>> {
            for member in changing {
                if !container.contains(&member)? {
                    return Ok(Some(member));
                }
            }
            let again = PySet::empty(members.py())?;
            for member in members {
                let before = again.len();
                again.add(&member)?;
                if again.len() == before {
                    return Ok(Some(member));
                }
            }
            Ok(None)
        };
        let lost = match current() {
            Some(churn) => churn.paused(lost),
            None => lost(),
        }?;
        lost.map_or(Ok(()), |member| {
                Err(NotPortable::new(format!(
                "{}, which was changed where it stands, so that it is not found there any more: take it out first, \
                 change it, and put it back",
                type_name(&member)
            ))
            .below(|| match container.is_instance_of::<PyDict>() {
                true => format!("<key {}>", brief(&member)),
                false => "<member>".to_owned(),
            }))
        })
    }

    /// When a set or a dict is made again its members are hashed, and perhaps compared, before any actor can answer.
    fn check_hash(&self, member: &Bound<'py, PyAny>) -> Result<(), NotPortable> {
        if !shapes::any_own_hash() || !may_change(member) || self.refs.records().is_none() {
            return Ok(());
        }
        let hash = || {
            let mut todo = vec![member.clone()];
            while let Some(value) = todo.pop() {
                value.hash()?;
                // A tuple takes for equal what is the same.
                value.rich_compare(&value, CompareOp::Eq)?;
                let mut parts = Vec::new();
                each_inner(&value, |part| parts.push(part))?;
                // What has none is not a part of what is hashed or compared.
                for part in parts {
                    match part.hash() {
                        Ok(_) => todo.push(part),
                        // What has none is not a part of what is hashed or compared.
                        Err(error) if says_no(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(())
        };
        let hashed: PyResult<()> = match current() {
            Some(churn) => churn.paused(hash),
            None => hash(),
        };
        hashed.map_err(|error| match says_no(&error) {
            true => NotPortable::new(format!(
                "{}, whose __hash__ or __eq__ fails while no actor can be called ({error}), so it could not be made \
                 again: let them depend on its own fields only",
                type_name(member)
            )),
            false => error.into(),
        })
    }

    /// Members in the order of their bytes, so that equal sets give equal bytes.
    fn set(
        &mut self,
        set: &Bound<'py, PyAny>,
        members: impl Iterator<Item = Bound<'py, PyAny>>,
        out: &mut Vec<u8>,
    ) -> Result<(), NotPortable> {
        let mut encoded = Vec::new();
        let members: Vec<_> = members.collect();
        for member in &members {
            self.check_hash(member).map_err(|error| error.below(|| "<member>".to_owned()))?;
            let mut bytes = Vec::new();
            self.value(member, &mut bytes).map_err(|error| error.below(|| "<member>".to_owned()))?;
            encoded.push(bytes);
        }
        if shapes::any_in_sets() {
            self.check_found(set, &PyList::new(set.py(), &members)?)?;
        }
        encoded.sort_unstable();
        out.extend(encoded.into_iter().flatten());
        Ok(())
    }
}

/// Appends a value of the standard library's classes. False if it is of none of them.
fn scalar(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<bool, NotPortable> {
    Ok(times::write(value, out)? || numbers::write(value, out)? || identifiers::write(value, out)?)
}

fn is_enum(record: &Bound<'_, RecordClass>) -> bool {
    matches!(record.get().kind, Kind::Enum | Kind::Flag)
}

/// The step to what stands under a key: `.name` where that is how one would write it.
pub(super) fn item_step(key: &Bound<'_, PyAny>) -> String {
    let name = key.cast_exact::<PyString>().ok().and_then(|text| text.to_str().ok());
    match name {
        Some(name) if is_identifier(name) => format!(".{name}"),
        _ => format!("[{}]", brief(key)),
    }
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    name.len() <= 40
        && letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
}

/// A key in a path.
fn brief(key: &Bound<'_, PyAny>) -> String {
    let plain = key.is_exact_instance_of::<PyString>() || key.is_exact_instance_of::<PyInt>();
    let text = if plain { key.repr().ok() } else { None };
    match text {
        Some(text) if text.len().is_ok_and(|len| len <= 40) => text.to_string_lossy().replace('\'', "\""),
        _ => type_name(key),
    }
}

/// Why a value of this type can't be stored.
fn unsupported(value: &Bound<'_, PyAny>) -> String {
    let name = type_name(value);
    if let Some(kind) = kind_of_record(value) {
        return format!("{name}, {kind} that the vat's PersistenceEnv does not know: add it to records=");
    }
    let builtin = value.is_instance_of::<PyInt>()
        || value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyDict>()
        || value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.is_instance_of::<PySet>()
        || value.is_instance_of::<PyFloat>()
        || value.is_instance_of::<PyBytes>()
        || [&known::DATE, &known::TIME, &known::TIMEDELTA, &known::DECIMAL, &known::FRACTION, &known::UUID]
            .iter()
            .any(|class| class.is_parent_of(value));
    if builtin {
        return format!("{name}, a subclass of a plain type, which would not come back as what it was");
    }
    if value.is_callable() {
        let called = value.getattr("__qualname__").ok().filter(|_| value.is_instance_of::<PyFunction>());
        let called = called.map(|called| format!(" ({called})")).unwrap_or_default();
        return format!("{name}{called}, and code is never stored: use an actor");
    }
    format!("{name}, which is not a portable value")
}

/// What a class is that `records=` could name.
fn kind_of_record(value: &Bound<'_, PyAny>) -> Option<&'static str> {
    let class = value.get_type();
    let has = |name: &str| class.hasattr(name).unwrap_or(false);
    if has("__dataclass_fields__") {
        Some("a dataclass")
    } else if has("__attrs_attrs__") {
        Some("a class of attrs")
    } else if value.is_instance_of::<PyTuple>() && has("_fields") {
        Some("a named tuple")
    } else if known::ENUM.is_parent_of(value) {
        Some("an enum")
    } else {
        None
    }
}
