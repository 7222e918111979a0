//! From behaviors to portraits (POR-09: each constructor argument under its name).

use std::collections::HashMap;
use std::sync::Arc;

use goblins_core::ids::Address;
use goblins_core::record::{FarReference, Portrait, Shape};
use goblins_core::references::{Kept, Reference, kept, reference};
use goblins_core::vat::Vat;
use minicbor::Encoder;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::behavior::{self, Parameter, ParameterKind, Source, version_bytes};
use crate::calls::Args;
use crate::cbor::{self, Handle, NotPortable, Refs};
use crate::class_actor::{self, ActorBase};
use crate::environment::{Environment, name};
use crate::errors::{hidden_state, not_portable, persistence_error};
use crate::host::PyHost;
use crate::promise::Promise;
use crate::records::Records;
use crate::refs::Ref;

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
}

impl<'a> Collected<'a> {
    fn new(env: &'a Environment, vat: &'a Arc<Vat<PyHost>>) -> Self {
        Self {
            vat,
            refs: Vec::new(),
            far: Vec::new(),
            promises: Vec::new(),
            unsettled: Vec::new(),
            numbers: HashMap::new(),
            records: &env.records,
        }
    }

    fn actor(&mut self, actor: &Bound<'_, Ref>) -> Result<Handle, NotPortable> {
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

    fn promise(&mut self, promise: &Bound<'_, Promise>) -> Handle {
        let py = promise.py();
        let outcome = match kept::<PyHost>(py, self.vat, promise.as_unbound()) {
            Kept::Far(address) => return Handle::Far(self.far(address, None) as u64),
            Kept::Settled(outcome) => Some(outcome),
            Kept::Unsettled => None,
        };
        if let Some(number) = self.numbers.get(&(promise.as_ptr() as usize)) {
            return Handle::Promise(*number);
        }
        if outcome.is_none() {
            self.unsettled.push(promise.clone().unbind());
        }
        self.promises.push((promise.clone().unbind(), Vec::new()));
        Handle::NewPromise(self.numbered(promise.as_any(), self.promises.len()), outcome)
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
        Ok(value.cast_exact::<Promise>().ok().map(|promise| self.promise(promise)))
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
    let this = actor.get();
    let cell = &this.cell;
    let described = || this.describe(py);
    let behavior = match &cell.state().life {
        goblins_core::actor::Life::Live(behavior) => behavior.clone_ref(py),
        _ => return Err(persistence_error(format!("{} is not in memory", described()))),
    };
    let vat = cell.vat().name();
    if let Some(instance) = class_actor::instance(behavior.bind(py)) {
        return take_of_class(py, env, actor, instance);
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
    let place = Place { py, env, actor: this, shape, before: "args." };
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
}

impl<'py> Place<'_, 'py> {
    fn portrait(&self, shape: Arc<Shape>, values: Vec<Bound<'py, PyAny>>) -> PyResult<Taken> {
        let (py, cell) = (self.py, &self.actor.cell);
        let mut refs = Collected::new(self.env, cell.vat());
        let mut payload = Vec::with_capacity(16);
        if Encoder::new(&mut payload).array(values.len() as u64).is_err() {
            return Err(persistence_error(format!("{} could not be encoded", self.actor.describe(py))));
        }
        for (field, value) in shape.fields.iter().zip(&values) {
            cbor::encode(value, &mut refs, &mut payload).map_err(|error| {
                let path = format!("{}{field}{}", self.before, error.path());
                let described = self.actor.describe(py);
                not_portable(&described, &shape.label, cell.slot().0, cell.vat().name(), &path, &error.reason)
            })?;
        }
        let given = self.actor.name.get(py).filter(|name| name.given);
        let name = given.map(|name| name.text.bind(py).to_string_lossy().into_owned());
        let Collected { refs, far, unsettled, promises, .. } = refs;
        let entries = promises.into_iter().map(|(_, entry)| entry).collect();
        cbor::promises::append(entries, &mut payload).map_err(|error| persistence_error(error.reason))?;
        Ok(Portrait { shape, name, refs, far, unsettled, payload })
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
    let read = py.import("goblins._migrations")?.call_method1(
        "read_portrait",
        (given, names, constructor.version.bind(py), place.actor.describe(py)),
    )?;
    let (version, fields) = read.extract::<(Bound<'py, PyAny>, Bound<'py, PyDict>)>()?;
    let mut shape = Shape {
        label: place.shape.label.clone(),
        version: version_bytes(&version)?,
        fields: Vec::with_capacity(fields.len()),
    };
    let mut values = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        shape.fields.push(name.cast_into::<PyString>()?.to_str()?.to_owned());
        values.push(value);
    }
    Ok((Arc::new(shape), values))
}

/// The portrait of an actor that is an instance of a class.
fn take_of_class(
    py: Python<'_>,
    env: &Environment,
    actor: &Bound<'_, Ref>,
    instance: &Bound<'_, ActorBase>,
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
    let stored = class_actor::fields(instance)?;
    let values = info.fields.iter().map(|field| {
        stored.get_item(field)?.ok_or_else(|| {
            persistence_error(format!("{} has no value for its field {field}: give it one", described()))
        })
    });
    let place = Place { py, env, actor: this, shape, before: "" };
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
