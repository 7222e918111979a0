//! From behaviors to portraits (POR-09: each constructor argument under its name).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use goblins_core::ids::{Address, ShapeId};
use goblins_core::promise::{Outcome, Progress};
use goblins_core::record::{FarReference, Portrait, Record, Shape};
use goblins_core::references::{Kept, Reference, kept, reference};
use goblins_core::vat::Vat;
use minicbor::Encoder;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::behavior::{self, Parameter, ParameterKind, Source, version_bytes};
use crate::calls::{self, Args};
use crate::cbor::{self, Handle, NotPortable, Refs};
use crate::class_actor::{self, ActorBase};
use crate::environment::{Environment, Maker, name};
use crate::errors::{broken_promise, hidden_state, not_portable, persistence_error};
use crate::fields::Fields;
use crate::host::PyHost;
use crate::portrayed::Portrayed;
use crate::promise::Promise;
use crate::records::Records;
use crate::refs::Ref;
use crate::sealed;
use crate::texts;

/// A portrait of an actor in Python.
type Taken = Portrait<Py<Ref>, Py<Promise>>;

/// Collects the actors that a portrait refers to, and the promises in it.
struct Collected<'a> {
    vat: &'a Arc<Vat<PyHost>>,
    refs: Vec<Py<Ref>>,
    far: Vec<FarReference<Py<Ref>>>,
    /// What was written of each promise; they are held, so that their addresses stay theirs.
    promises: Vec<(Py<Promise>, Vec<u8>)>,
    unsettled: Vec<Py<Promise>>,
    /// Numbers of references and promises, each in its list, by their addresses.
    numbers: HashMap<usize, u64>,
    records: &'a Records,
    as_is: AsIs<'a>,
    /// It is only seen whether a value can be stored.
    trying: bool,
}

/// Where promises and references to other vats go that are not to be stored, but handed over as they are.
type AsIs<'a> = Option<&'a RefCell<Vec<Py<PyAny>>>>;

/// The likeness of an actor.
pub(crate) struct Likeness {
    pub(crate) shape: Arc<Shape>,
    pub(crate) record: Record,
    pub(crate) refs: Vec<Py<Ref>>,
    pub(crate) as_is: Vec<Py<PyAny>>,
}

impl<'a> Collected<'a> {
    fn new(env: &'a Environment, vat: &'a Arc<Vat<PyHost>>, as_is: AsIs<'a>) -> Self {
        Self {
            vat,
            as_is,
            trying: false,
            refs: Vec::new(),
            far: Vec::new(),
            promises: Vec::new(),
            unsettled: Vec::new(),
            numbers: HashMap::new(),
            records: &env.records,
        }
    }

    /// What stands for something that is handed over as it is.
    fn handed_over(&mut self, list: &RefCell<Vec<Py<PyAny>>>, value: &Bound<'_, PyAny>) -> Handle {
        if let Some(number) = self.numbers.get(&(value.as_ptr() as usize)) {
            return Handle::Far(*number);
        }
        list.borrow_mut().push(value.clone().unbind());
        let count = list.borrow().len();
        Handle::Far(self.numbered(value, count))
    }

    fn actor(&mut self, actor: &Bound<'_, Ref>) -> Result<Handle, NotPortable> {
        if let Some(list) = self.as_is
            && !Arc::ptr_eq(actor.get().cell.vat(), self.vat)
        {
            return Ok(self.handed_over(list, actor.as_any()));
        }
        let known = self.numbers.get(&(actor.as_ptr() as usize)).copied();
        match reference::<PyHost>(actor.py(), self.vat, actor.as_unbound()) {
            Ok(Reference::Near) => Ok(Handle::Near(known.unwrap_or_else(|| {
                self.refs.push(actor.clone().unbind());
                self.numbered(actor.as_any(), self.refs.len())
            }))),
            Ok(Reference::Far(address)) => Ok(Handle::Far(match known {
                Some(number) => number,
                None => {
                    let number = self.far(address, Some(actor.clone().unbind()));
                    self.numbered(actor.as_any(), number + 1)
                }
            })),
            Err(error) => Err(NotPortable::new(error.to_string())),
        }
    }

    /// The index of an actor of another vat.
    fn far(&mut self, address: Address, actor: Option<Py<Ref>>) -> usize {
        let index = self.far.iter().position(|known| known.address == address).unwrap_or_else(|| {
            self.far.push(FarReference { address, actor: None });
            self.far.len() - 1
        });
        let known = &mut self.far[index].actor;
        *known = known.take().or(actor);
        index
    }

    fn promise(&mut self, promise: &Bound<'_, Promise>) -> Result<Handle, NotPortable> {
        let py = promise.py();
        let kept = kept::<PyHost>(py, self.vat, promise.as_unbound());
        if let Some(list) = self.as_is
            && !self.is_made_again(py, &kept)?
        {
            return Ok(self.handed_over(list, promise.as_any()));
        }
        let outcome = match kept {
            Kept::Far(address) => return Ok(Handle::Far(self.far(address, None) as u64)),
            Kept::Settled(outcome) => Some(outcome),
            Kept::Unsettled => None,
        };
        if let Some(number) = self.numbers.get(&(promise.as_ptr() as usize)) {
            return Ok(Handle::Promise(*number));
        }
        let for_the_store = !self.trying && self.as_is.is_none();
        let outcome = match outcome {
            Some(outcome) if for_the_store => Some(sealed::keep(py, promise.as_unbound(), outcome)),
            other => other,
        };
        let outcome = match outcome {
            Some(Outcome::Fulfilled(value)) if for_the_store && promise.get().was_stored_unsettled() => {
                Some(self.storable(promise, value)?)
            }
            other => other,
        };
        let on_its_way =
            outcome.is_some() && matches!(promise.get().cell.state().progress, Progress::Chained { .. });
        if (outcome.is_none() || on_its_way) && !self.trying {
            self.unsettled.push(promise.clone().unbind());
            promise.get().note_stored_unsettled();
        }
        self.promises.push((promise.clone().unbind(), Vec::new()));
        Ok(Handle::NewPromise(self.numbered(promise.as_any(), self.promises.len()), outcome))
    }

    /// What is stored of a promise that was stored before it was fulfilled: its value, or that this can't be stored.
    /// Somebody else may have chosen the value, and whoever holds the promise must be able to go on.
    fn storable(
        &self,
        promise: &Bound<'_, Promise>,
        value: Py<PyAny>,
    ) -> Result<Outcome<PyHost>, NotPortable> {
        let py = promise.py();
        let Err(error) = self.try_out(&sealed::inside(py, &value), self.records, None) else {
            return Ok(Outcome::Fulfilled(value));
        };
        let reason = error.into_reason()?;
        if promise.get().note_lost() {
            // The first time it is an error, which tells the way to the value.
            return Ok(Outcome::Fulfilled(value));
        }
        let lost = format!("what the promise was fulfilled with could not be stored: {reason}");
        Ok(Outcome::Broken(broken_promise(&lost).into()))
    }

    /// Whether a promise is not handed over as it is: its value holds records, whose classes may be others in the
    /// new code.
    fn is_made_again(&self, py: Python<'_>, kept: &Kept<PyHost>) -> Result<bool, NotPortable> {
        let Kept::Settled(Outcome::Fulfilled(value)) = kept else {
            return Ok(false);
        };
        let value = sealed::inside(py, value);
        let can_be_stored = |records| {
            let list = RefCell::new(Vec::new());
            match self.try_out(&value, records, Some(&list)) {
                Ok(()) => Ok(true),
                Err(error) => error.into_reason().map(|_| false),
            }
        };
        Ok(self.trying || (can_be_stored(self.records)? && !can_be_stored(&Records::default())?))
    }

    /// Whether a value can be stored.
    fn try_out(
        &self,
        value: &Bound<'_, PyAny>,
        records: &Records,
        as_is: AsIs<'_>,
    ) -> Result<(), NotPortable> {
        let mut trial = Collected {
            vat: self.vat,
            refs: Vec::new(),
            far: Vec::new(),
            promises: Vec::new(),
            unsettled: Vec::new(),
            numbers: HashMap::new(),
            records,
            as_is,
            trying: true,
        };
        cbor::encode(value, &mut trial, &mut Vec::new())
    }

    /// Notes the number of the last of so many.
    fn numbered(&mut self, value: &Bound<'_, PyAny>, count: usize) -> u64 {
        let number = count as u64 - 1;
        self.numbers.insert(value.as_ptr() as usize, number);
        number
    }
}

impl Refs for Collected<'_> {
    fn handle(&mut self, value: &Bound<'_, PyAny>) -> Result<Option<Handle>, NotPortable> {
        if let Ok(actor) = value.cast_exact::<Ref>() {
            return self.actor(actor).map(Some);
        }
        value.cast_exact::<Promise>().ok().map(|promise| self.promise(promise)).transpose()
    }

    fn promise_written(&mut self, number: u64, entry: Vec<u8>) {
        if let Some((_, written)) = self.promises.get_mut(number as usize) {
            *written = entry;
        }
    }

    fn records(&self) -> Option<&Records> {
        Some(self.records)
    }
}

/// The portrait of an actor's present behavior.
pub(crate) fn take(py: Python<'_>, env: &Environment, actor: &Bound<'_, Ref>) -> PyResult<Taken> {
    describe(py, env, actor, None)
}

/// The likeness of an actor's present behavior.
pub(crate) fn likeness(py: Python<'_>, env: &Environment, actor: &Bound<'_, Ref>) -> PyResult<Likeness> {
    let as_is = RefCell::new(Vec::new());
    let Portrait { shape, name, refs, payload, .. } = describe(py, env, actor, Some(&as_is))?;
    let record = Record { shape: ShapeId(0), name, slots: Vec::new(), far: Vec::new(), payload };
    Ok(Likeness { shape, record, refs, as_is: as_is.into_inner() })
}

fn describe<'a>(
    py: Python<'_>,
    env: &'a Environment,
    actor: &Bound<'_, Ref>,
    as_is: AsIs<'a>,
) -> PyResult<Taken> {
    let this = actor.get();
    let cell = &this.cell;
    let described = || this.describe(py);
    let behavior = match cell.state().life() {
        goblins_core::actor::Life::Live(behavior) => behavior.clone_ref(py),
        _ => return Err(persistence_error(format!("{} is not in memory", described()))),
    };
    let vat = cell.vat().name();
    if let Some(instance) = class_actor::instance(behavior.bind(py)) {
        return take_of_class(py, env, actor, instance, as_is);
    }
    if let Ok(portrayed) = behavior.bind(py).cast_exact::<Portrayed>() {
        return take_by_hand(py, env, actor, portrayed.get(), as_is);
    }
    let Some(source) = behavior::source(behavior.bind(py)) else {
        let reason = "a behavior without a portrait: make it with an @actor constructor";
        return Err(not_portable(&described(), "", cell.slot().0, vat, "its behavior", reason));
    };
    let constructor = source.constructor.get();
    let Some(shape) = env.by_constructor.get(&(source.constructor.as_ptr() as usize)) else {
        let constructor = constructor.name.bind(py).to_string_lossy();
        let reason = format!("made by {constructor}, which is not in the vat's PersistenceEnv: add it there");
        return Err(not_portable(&described(), "", cell.slot().0, vat, "its behavior", &reason));
    };
    if let Some((function, variable)) = &constructor.hidden {
        return Err(hidden_state(&described(), &shape.label, cell.slot().0, vat, function, variable));
    }
    let place = Place { py, env, actor: this, shape, before: "args.", as_is };
    if let Some(portrait) = &constructor.portrait {
        let (shape, values) = by_hand(py, portrait, source, &place)?;
        return place.portrait(shape, values);
    }
    let values = constructor.parameters.iter().enumerate();
    let values = values.map(|(index, parameter)| argument(py, source, index, parameter));
    place.portrait(shape.clone(), values.collect::<PyResult<_>>()?)
}

/// The actor that a portrait is taken of.
struct Place<'a, 'py> {
    py: Python<'py>,
    env: &'a Environment,
    actor: &'a Ref,
    shape: &'a Arc<Shape>,
    /// What stands before a field in a path.
    before: &'a str,
    as_is: AsIs<'a>,
}

impl<'py> Place<'_, 'py> {
    fn portrait(&self, shape: Arc<Shape>, values: Vec<Bound<'py, PyAny>>) -> PyResult<Taken> {
        let (py, cell) = (self.py, &self.actor.cell);
        let mut refs = Collected::new(self.env, cell.vat(), self.as_is);
        let mut payload = Vec::with_capacity(16);
        if Encoder::new(&mut payload).array(values.len() as u64).is_err() {
            return Err(persistence_error(format!("{} could not be encoded", self.actor.describe(py))));
        }
        for (field, value) in shape.fields.iter().zip(&values) {
            let refuse = |reason: &str, path: String| {
                let path = format!("{}{field}{path}", self.before);
                let described = self.actor.describe(py);
                not_portable(&described, &shape.label, cell.slot().0, cell.vat().name(), &path, reason)
            };
            cbor::encode(value, &mut refs, &mut payload).map_err(|error| error.into_error(refuse))?;
        }
        let name = self.actor.name.given(py).map(|name| name.to_string_lossy().into_owned());
        let Collected { refs, far, unsettled, promises, .. } = refs;
        let holds_promises = !promises.is_empty();
        let entries = promises.into_iter().map(|(_, entry)| entry).collect();
        cbor::promises::append(entries, &mut payload)
            .map_err(|error| error.into_error(|reason, _| persistence_error(reason.to_owned())))?;
        Ok(Portrait { shape, name, refs, far, unsettled, holds_promises, payload })
    }
}

/// The portrait that a function gives (POR-12): fields by name, or arguments in their order, perhaps with a
/// version of their own.
fn by_hand<'py>(
    py: Python<'py>,
    portrait: &Py<PyAny>,
    source: &Source,
    place: &Place<'_, 'py>,
) -> PyResult<(Arc<Shape>, Vec<Bound<'py, PyAny>>)> {
    let constructor = source.constructor.get();
    let fields = PyDict::new(py);
    for (index, parameter) in constructor.parameters.iter().enumerate() {
        fields.set_item(parameter.name.bind(py), argument(py, source, index, parameter)?)?;
    }
    let names = fields.keys();
    let given = Args::Packed(&PyTuple::empty(py), Some(&fields)).call(portrait.bind(py))?;
    given_fields(&given, names.as_any(), constructor.version.bind(py), place)
}

/// Shape and values of what a portrait function has returned.
fn given_fields<'py>(
    given: &Bound<'py, PyAny>,
    names: &Bound<'py, PyAny>,
    version: &Bound<'py, PyAny>,
    place: &Place<'_, 'py>,
) -> PyResult<(Arc<Shape>, Vec<Bound<'py, PyAny>>)> {
    let py = given.py();
    let module = py.import("goblins._migrations")?;
    let args = (given, names, version, place.actor.describe(py));
    let read = calls::call_attribute(&module, "read_portrait", args)?;
    let (version, fields) = read.extract::<(Bound<'py, PyAny>, Bound<'py, PyDict>)>()?;
    let mut shape = Shape {
        label: place.shape.label.clone(),
        version: version_bytes(&version)?,
        fields: Vec::with_capacity(fields.len()),
    };
    let mut values = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let what = || format!("the name of a field in the portrait of {}", place.actor.describe(py));
        shape.fields.push(texts::checked(what, &name.cast_into::<PyString>()?)?.to_owned());
        values.push(value);
    }
    Ok((Arc::new(shape), values))
}

/// The portrait of a behavior that has one made by hand (POR-22).
fn take_by_hand(
    py: Python<'_>,
    env: &Environment,
    actor: &Bound<'_, Ref>,
    portrayed: &Portrayed,
    as_is: AsIs<'_>,
) -> PyResult<Taken> {
    let this = actor.get();
    let (cell, vat) = (&this.cell, this.cell.vat().name());
    let refuse =
        |reason: &str| not_portable(&this.describe(py), "", cell.slot().0, vat, "its behavior", reason);
    let Some(origin) = portrayed.origin() else {
        return Err(refuse(
            "one whose constructor is not known: add it as portraitize(..., constructor=...)",
        ));
    };
    let constructor = origin.constructor.bind(py);
    let Some(shape) = env.by_constructor.get(&(constructor.as_ptr() as usize)) else {
        let name = behavior::constructor_name(constructor)?;
        return Err(refuse(&format!(
            "made by {name}, which is not in the vat's PersistenceEnv: add it there"
        )));
    };
    if let Some(Maker::Function(known, ..)) = env.by_label.get(&shape.label)
        && let Some((function, variable)) = &known.get().hidden
    {
        return Err(hidden_state(&this.describe(py), &shape.label, cell.slot().0, vat, function, variable));
    }
    let place = Place { py, env, actor: this, shape, before: "args.", as_is };
    let given = Args::Packed(&PyTuple::empty(py), None).call(portrayed.portrait.bind(py))?;
    let version = cbor::decode_all(py, &shape.version, &cbor::NoActors).map_err(|error| {
        error.into_error(|error| persistence_error(format!("the version of {}: {error}", this.describe(py))))
    })?;
    let names = PyList::new(py, &shape.fields)?;
    let (shape, values) = given_fields(&given, names.as_any(), &version, &place)?;
    place.portrait(shape, values)
}

/// The portrait of an actor that is an instance of a class.
fn take_of_class(
    py: Python<'_>,
    env: &Environment,
    actor: &Bound<'_, Ref>,
    instance: &Bound<'_, ActorBase>,
    as_is: AsIs<'_>,
) -> PyResult<Taken> {
    let this = actor.get();
    let (cell, described) = (&this.cell, || this.describe(py));
    let info = instance.get().info().get();
    let class = instance.as_any().get_type();
    let Some(shape) = env.by_constructor.get(&(class.as_ptr() as usize)) else {
        let reason =
            format!("an instance of {}, which is not in the vat's PersistenceEnv: add it there", info.name);
        return Err(not_portable(
            &described(),
            "",
            cell.slot().0,
            cell.vat().name(),
            "its behavior",
            &reason,
        ));
    };
    let stored = Fields::of(instance)?;
    let values = info.fields.iter().enumerate().map(|(index, field)| {
        stored.get(index, field.bind(py))?.ok_or_else(|| {
            persistence_error(format!("{} has no value for its field {field}: give it one", described()))
        })
    });
    let place = Place { py, env, actor: this, shape, before: "", as_is };
    place.portrait(shape.clone(), values.collect::<PyResult<_>>()?)
}

/// The value that a parameter had in the call which made the behavior.
fn argument<'py>(
    py: Python<'py>,
    source: &Source,
    index: usize,
    parameter: &Parameter,
) -> PyResult<Bound<'py, PyAny>> {
    let args = source.args.bind(py);
    let kwargs = source.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
    // The first argument is bcom.
    let position = index + 1;
    let default = || match &parameter.default {
        Some(default) => Ok(default.bind(py).clone()),
        None => Err(persistence_error(format!("the argument {} has no value", name(py, parameter)))),
    };
    match parameter.kind {
        ParameterKind::Positional if position < args.len() => args.get_item(position),
        ParameterKind::Positional | ParameterKind::KeywordOnly => {
            let given = kwargs.map(|kwargs| kwargs.get_item(parameter.name.bind(py))).transpose()?.flatten();
            given.map_or_else(default, Ok)
        }
        ParameterKind::Rest => Ok(args.get_slice(position.min(args.len()), args.len()).into_any()),
        ParameterKind::RestKeywords => {
            let rest = match kwargs {
                Some(kwargs) => kwargs.copy()?,
                None => PyDict::new(py),
            };
            for named in &source.constructor.get().parameters {
                if named.kind != ParameterKind::RestKeywords && rest.contains(named.name.bind(py))? {
                    rest.del_item(named.name.bind(py))?;
                }
            }
            Ok(rest.into_any())
        }
    }
}
