//! From behaviors to portraits and back (POR-09: each constructor argument under its name).

use std::collections::HashMap;
use std::sync::Arc;

use goblins_core::record::{Portrait, Record, Shape};
use goblins_core::storage::Fit;
use minicbor::{Decoder, Encoder};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::behavior::{
    self, Bcom, Behavior, Constructor, Parameter, ParameterKind, Source, not_a_behavior, version_bytes,
};
use crate::calls::{self, Args};
use crate::cbor::{self, Actors, DecodeError, NotPortable, Refs};
use crate::class_actor::{self, ActorBase, ClassInfo};
use crate::errors::{migration_error, not_portable, persistence_error, unknown_label};
use crate::promise::Promise;
use crate::refs::{Name, Ref};

/// What makes actors from records.
enum Maker {
    Function(Py<Constructor>),
    Class(Py<PyType>),
}

/// What a constructor can make actors of.
struct Known {
    version: Vec<u8>,
    version_text: String,
    /// Without an upgrade, fields that it needs, and all that it takes; none for any.
    needs: Vec<String>,
    takes: Option<Vec<String>>,
    upgrade: Upgrade,
}

enum Upgrade {
    No,
    /// From these versions on, as they are stored.
    From(Vec<Vec<u8>>),
    /// A function that knows itself what it can do.
    Any,
}

/// Says which stored shapes an environment can make actors of.
pub(crate) struct Judge {
    by_label: HashMap<String, Known>,
}

impl Judge {
    pub(crate) fn fits(&self, shape: &Shape) -> Fit {
        let Some(known) = self.by_label.get(&shape.label) else {
            return Fit::Unknown;
        };
        if shape.version == known.version {
            return known.fits_fields(shape);
        }
        match &known.upgrade {
            Upgrade::Any => Fit::Fits,
            Upgrade::From(versions) if versions.contains(&shape.version) => Fit::Fits,
            Upgrade::From(_) => Fit::Misfit(format!(
                "they have version {}, and the migrations to version {} don't begin there",
                version_text(&shape.version),
                known.version_text
            )),
            Upgrade::No => Fit::Misfit(format!(
                "they have version {}, the constructor has version {}, and there is no upgrade=",
                version_text(&shape.version),
                known.version_text
            )),
        }
    }
}

impl Known {
    fn fits_fields(&self, shape: &Shape) -> Fit {
        if let Some(missing) = self.needs.iter().find(|need| !shape.fields.contains(need)) {
            return Fit::Misfit(format!(
                "they have no field {missing:?}: give that a default, or give a new version= and an upgrade="
            ));
        }
        let takes = |field: &&String| self.takes.as_ref().is_some_and(|takes| !takes.contains(field));
        match shape.fields.iter().find(takes) {
            Some(lost) => Fit::Misfit(format!(
                "they have a field {lost:?}, which would be lost: give a new version= and an upgrade= that drops it"
            )),
            None => Fit::Fits,
        }
    }
}

/// A version that is stored, in words.
fn version_text(bytes: &[u8]) -> String {
    Python::attach(|py| {
        cbor::decode_all(py, bytes, &cbor::NoActors)
            .ok()
            .and_then(|version| version.repr().ok())
            .map_or_else(|| "that can't be read".to_owned(), |text| text.to_string_lossy().into_owned())
    })
}

impl Maker {
    fn known(&self, py: Python<'_>) -> PyResult<Known> {
        let texts = |names: &mut dyn Iterator<Item = &Py<PyString>>| -> Vec<String> {
            names.map(|name| name.bind(py).to_string_lossy().into_owned()).collect()
        };
        let (version, bytes, upgrade, needs, takes) = match self {
            Self::Function(constructor) => {
                let constructor = constructor.get();
                let parameters = &constructor.parameters;
                let rest = |kind| matches!(kind, ParameterKind::Rest | ParameterKind::RestKeywords);
                let needed = parameters.iter().filter(|one| one.default.is_none() && !rest(one.kind));
                let needs = texts(&mut needed.map(|one| &one.name));
                let takes = texts(&mut parameters.iter().map(|one| &one.name));
                (&constructor.version, &constructor.version_bytes, &constructor.upgrade, needs, takes)
            }
            Self::Class(class) => {
                let info = ClassInfo::of(class.bind(py))?.unbind();
                let info = info.get();
                let mut needs = Vec::new();
                for field in &info.fields {
                    if !info.has_default(py, field)? {
                        needs.push(field.bind(py).to_string_lossy().into_owned());
                    }
                }
                let takes = texts(&mut info.fields.iter());
                let upgrade = info.upgrade.as_ref().map(|upgrade| upgrade.clone_ref(py));
                return Ok(Known {
                    version: info.version_bytes.clone(),
                    version_text: info.version.bind(py).repr()?.to_string_lossy().into_owned(),
                    needs,
                    takes: Some(takes),
                    upgrade: Upgrade::of(py, upgrade.as_ref())?,
                });
            }
        };
        Ok(Known {
            version: bytes.clone(),
            version_text: version.bind(py).repr()?.to_string_lossy().into_owned(),
            needs,
            takes: Some(takes),
            upgrade: Upgrade::of(py, upgrade.as_ref())?,
        })
    }
}

impl Upgrade {
    fn of(py: Python<'_>, upgrade: Option<&Py<PyAny>>) -> PyResult<Self> {
        let Some(upgrade) = upgrade else {
            return Ok(Self::No);
        };
        // Migrations say where they can begin.
        let Some(begins) = upgrade.bind(py).getattr_opt(intern!(py, "_begins"))? else {
            return Ok(Self::Any);
        };
        let versions = begins.call0()?.try_iter()?.map(|version| version_bytes(&version?));
        Ok(Self::From(versions.collect::<PyResult<_>>()?))
    }
}

/// The map between labels and constructors.
pub(crate) struct Environment {
    by_label: HashMap<String, Maker>,
    /// By the constructor's address, which is kept alive by the map above.
    by_constructor: HashMap<usize, Arc<Shape>>,
}

impl Environment {
    pub(crate) fn new(py: Python<'_>, labels: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut by_label = HashMap::new();
        let mut by_constructor = HashMap::new();
        for (label, constructor) in labels {
            let label: String = label.extract()?;
            let address = constructor.as_ptr() as usize;
            let (maker, version, fields) = match constructor.cast_into_exact::<Constructor>() {
                Ok(function) => {
                    let fields =
                        function.get().parameters.iter().map(|parameter| name(py, parameter)).collect();
                    let version = function.get().version_bytes.clone();
                    (Maker::Function(function.unbind()), version, fields)
                }
                Err(error) => {
                    let class = error.into_inner().cast_into::<PyType>()?;
                    let info = ClassInfo::of(&class)?;
                    let fields = info.get().fields.iter();
                    let fields = fields.map(|field| field.bind(py).to_string_lossy().into_owned()).collect();
                    let version = info.get().version_bytes.clone();
                    (Maker::Class(class.unbind()), version, fields)
                }
            };
            let shape = Shape { label: label.clone(), version, fields };
            by_constructor.insert(address, Arc::new(shape));
            by_label.insert(label, maker);
        }
        Ok(Self { by_label, by_constructor })
    }

    /// What the environment knows of stored shapes, to be asked without Python.
    pub(crate) fn judge(&self, py: Python<'_>) -> PyResult<Judge> {
        let by_label = self.by_label.iter().map(|(label, maker)| {
            let info = maker.known(py)?;
            Ok((label.clone(), info))
        });
        Ok(Judge { by_label: by_label.collect::<PyResult<_>>()? })
    }
}

fn name(py: Python<'_>, parameter: &Parameter) -> String {
    parameter.name.bind(py).to_string_lossy().into_owned()
}

/// Collects the actors that a portrait refers to.
#[derive(Default)]
struct Collected {
    refs: Vec<Py<Ref>>,
    numbers: HashMap<usize, u64>,
}

impl Refs for Collected {
    fn number(&mut self, value: &Bound<'_, PyAny>) -> Result<Option<u64>, NotPortable> {
        if let Ok(actor) = value.cast_exact::<Ref>() {
            let next = self.refs.len() as u64;
            let number = *self.numbers.entry(actor.as_ptr() as usize).or_insert(next);
            if number == next {
                self.refs.push(actor.clone().unbind());
            }
            return Ok(Some(number));
        }
        if value.is_exact_instance_of::<Promise>() {
            return Err(NotPortable::new("a promise, and promises can't be stored yet"));
        }
        Ok(None)
    }
}

/// The portrait of an actor's present behavior.
pub(crate) fn take(py: Python<'_>, env: &Environment, actor: &Bound<'_, Ref>) -> PyResult<Portrait<Py<Ref>>> {
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
    let mut refs = Collected::default();
    let mut payload = Vec::with_capacity(16);
    if Encoder::new(&mut payload).array(constructor.parameters.len() as u64).is_err() {
        return Err(persistence_error(format!("{} could not be encoded", described())));
    }
    for (index, parameter) in constructor.parameters.iter().enumerate() {
        let value = argument(py, source, index, parameter)?;
        cbor::encode(&value, &mut refs, &mut payload).map_err(|error| {
            let path = format!("args.{}{}", name(py, parameter), error.path());
            not_portable(&described(), &shape.label, cell.slot().0, vat, &path, &error.reason)
        })?;
    }
    let given = this.name.get(py).filter(|name| name.given);
    Ok(Portrait {
        shape: shape.clone(),
        name: given.map(|name| name.text.bind(py).to_string_lossy().into_owned()),
        refs: refs.refs,
        payload,
    })
}

/// The portrait of an actor that is an instance of a class.
fn take_of_class(
    py: Python<'_>,
    env: &Environment,
    actor: &Bound<'_, Ref>,
    instance: &Bound<'_, ActorBase>,
) -> PyResult<Portrait<Py<Ref>>> {
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
    let mut refs = Collected::default();
    let mut payload = Vec::with_capacity(16);
    if Encoder::new(&mut payload).array(info.fields.len() as u64).is_err() {
        return Err(persistence_error(format!("{} could not be encoded", described())));
    }
    let values = class_actor::fields(instance)?;
    for field in &info.fields {
        let value = values.get_item(field)?.ok_or_else(|| {
            persistence_error(format!("{} has no value for its field {field}: give it one", described()))
        })?;
        cbor::encode(&value, &mut refs, &mut payload).map_err(|error| {
            let path = format!("{field}{}", error.path());
            not_portable(&described(), &shape.label, cell.slot().0, cell.vat().name(), &path, &error.reason)
        })?;
    }
    let given = this.name.get(py).filter(|name| name.given);
    Ok(Portrait {
        shape: shape.clone(),
        name: given.map(|name| name.text.bind(py).to_string_lossy().into_owned()),
        refs: refs.refs,
        payload,
    })
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

struct Stored<'a>(&'a [Py<Ref>]);

impl Actors for Stored<'_> {
    fn actor<'py>(&self, py: Python<'py>, number: u64) -> Option<Bound<'py, PyAny>> {
        let actor = self.0.get(usize::try_from(number).ok()?)?;
        Some(actor.bind(py).clone().into_any())
    }
}

/// The fields as the constructor of today knows them, and whether an upgrade made them so.
fn upgraded<'py>(
    py: Python<'py>,
    shape: &Shape,
    fields: Vec<Bound<'py, PyAny>>,
    version: &Py<PyAny>,
    bytes: &[u8],
    upgrade: Option<&Py<PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<(Vec<String>, Vec<Bound<'py, PyAny>>, bool)> {
    if shape.version == bytes {
        return Ok((shape.fields.clone(), fields, false));
    }
    let stored = cbor::decode_all(py, &shape.version, &cbor::NoActors)
        .map_err(|error| persistence_error(format!("the version of {} can't be read: {error}", place())))?;
    let Some(upgrade) = upgrade else {
        return Err(migration_error(format!(
            "{} was stored by version {stored} of its constructor, which has version {} now, and there is no upgrade= \
             for it",
            place(),
            version.bind(py)
        )));
    };
    let dict = PyDict::new(py);
    for (name, value) in shape.fields.iter().zip(fields) {
        dict.set_item(name, value)?;
    }
    let made = py
        .import("goblins._migrations")?
        .call_method1("upgrade_fields", (upgrade, stored, dict, version, place()))?
        .cast_into::<PyDict>()?;
    let mut names = Vec::with_capacity(made.len());
    let mut values = Vec::with_capacity(made.len());
    for (name, value) in made {
        names.push(name.cast_into::<PyString>()?.to_str()?.to_owned());
        values.push(value);
    }
    Ok((names, values, true))
}

/// The behavior that a record describes, and whether that was upgraded.
pub(crate) fn rehydrate(
    py: Python<'_>,
    env: &Environment,
    actor: &Bound<'_, Ref>,
    shape: &Shape,
    record: &Record,
    refs: &[Py<Ref>],
) -> PyResult<(Py<PyAny>, bool)> {
    let cell = &actor.get().cell;
    let place = || format!("slot {} of vat {} (label {:?})", cell.slot(), cell.vat().name(), shape.label);
    let Some(maker) = env.by_label.get(&shape.label) else {
        let message = format!("{} has a label that is not in the environment: add its constructor", place());
        return Err(unknown_label(message, &shape.label, 1, cell.slot().0));
    };
    let fields = fields(py, shape, record, refs).map_err(|error| match error {
        DecodeError::Python(error) => error,
        DecodeError::Malformed(reason) => persistence_error(format!("{} can't be read: {reason}", place())),
    })?;
    let (behavior, called, upgraded) = match maker {
        Maker::Function(constructor) => {
            let constructor = constructor.bind(py);
            let this = constructor.get();
            let (names, fields, upgraded) = upgraded(
                py,
                shape,
                fields,
                &this.version,
                &this.version_bytes,
                this.upgrade.as_ref(),
                &place,
            )?;
            let made = from_function(py, actor, constructor, &names, fields, &place)?;
            (made, this.name.clone_ref(py), upgraded)
        }
        Maker::Class(class) => {
            let class = class.bind(py);
            let info = ClassInfo::of(class)?;
            let this = info.get();
            let (names, fields, upgraded) = upgraded(
                py,
                shape,
                fields,
                &this.version,
                &this.version_bytes,
                this.upgrade.as_ref(),
                &place,
            )?;
            let made = from_class(actor, class, &names, fields, &place)?;
            (made, this.name.clone_ref(py), upgraded)
        }
    };
    let name = match &record.name {
        Some(given) => Name { text: PyString::new(py, given).unbind(), given: true },
        None => Name { text: called, given: false },
    };
    let _ = actor.get().name.set(py, name);
    Ok((behavior, upgraded))
}

fn from_function<'py>(
    py: Python<'py>,
    actor: &Bound<'py, Ref>,
    constructor: &Bound<'py, Constructor>,
    names: &[String],
    fields: Vec<Bound<'py, PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<Py<PyAny>> {
    let (args, kwargs) = arguments(py, actor, constructor.get(), names, fields, place)?;
    let args = Args::Packed(&args, kwargs.as_ref());
    let made = args.call(constructor.get().function.bind(py))?;
    let made = Constructor::wrap(constructor, made, args)?;
    match made.cast_into_exact::<Behavior>() {
        Ok(behavior) => Ok(behavior.into_any().unbind()),
        Err(error) => {
            let name = constructor.get().name.bind(py).to_string_lossy();
            Err(not_a_behavior(&name, &error.into_inner()))
        }
    }
}

/// An instance with the stored fields. A field that is new takes its default; one that the class does not have is
/// an error, since it would be lost.
fn from_class<'py>(
    actor: &Bound<'py, Ref>,
    class: &Bound<'py, PyType>,
    names: &[String],
    fields: Vec<Bound<'py, PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<Py<PyAny>> {
    let instance = class_actor::blank(class)?;
    let mut stored: HashMap<&str, Bound<'py, PyAny>> = names.iter().map(String::as_str).zip(fields).collect();
    class_actor::fill(
        &instance,
        |field| stored.remove(field),
        |field| {
            migration_error(format!(
                "{} has no field {field:?}, which its class needs: give the field a default, or an upgrade",
                place()
            ))
        },
    )?;
    if let Some(lost) = stored.keys().next() {
        return Err(migration_error(format!(
            "{} has a field {lost:?} that its class does not have any more, and there is no upgrade for it",
            place()
        )));
    }
    class_actor::bind(&instance, actor)?;
    class_actor::tell_restored(&instance)?;
    Ok(instance.into_any().unbind())
}

fn fields<'py>(
    py: Python<'py>,
    shape: &Shape,
    record: &Record,
    refs: &[Py<Ref>],
) -> Result<Vec<Bound<'py, PyAny>>, DecodeError> {
    let mut decoder = Decoder::new(&record.payload);
    if decoder.array()? != Some(shape.fields.len() as u64) {
        return Err(DecodeError::Malformed("it has another number of fields than its shape".to_owned()));
    }
    let stored = Stored(refs);
    let fields =
        shape.fields.iter().map(|_| cbor::decode(py, &mut decoder, &stored)).collect::<Result<_, _>>()?;
    if decoder.position() != record.payload.len() {
        return Err(DecodeError::Malformed("something stands after its fields".to_owned()));
    }
    Ok(fields)
}

/// The call that makes the behavior again. A parameter that is new takes its default; a field that no
/// parameter takes is an error, since it would be lost.
fn arguments<'py>(
    py: Python<'py>,
    actor: &Bound<'py, Ref>,
    constructor: &Constructor,
    names: &[String],
    fields: Vec<Bound<'py, PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    let cell = &actor.get().cell;
    let mut stored: HashMap<&str, Bound<'py, PyAny>> = names.iter().map(String::as_str).zip(fields).collect();
    let mut args = vec![calls::make(py, Bcom::new(cell.vat().id(), cell.slot()))?.into_any()];
    let kwargs = PyDict::new(py);
    for parameter in &constructor.parameters {
        let name = name(py, parameter);
        let value = match (stored.remove(name.as_str()), &parameter.default, parameter.kind) {
            (Some(value), ..) => value,
            (None, Some(default), _) => default.bind(py).clone(),
            (None, None, ParameterKind::Rest | ParameterKind::RestKeywords) => continue,
            (None, None, _) => {
                return Err(migration_error(format!(
                    "{} has no field {name:?}, which its constructor needs: give the parameter a default, or an upgrade",
                    place()
                )));
            }
        };
        match parameter.kind {
            ParameterKind::Positional => args.push(value),
            ParameterKind::KeywordOnly => kwargs.set_item(name, value)?,
            ParameterKind::Rest => args.extend(value.cast_into::<PyTuple>()?.iter()),
            ParameterKind::RestKeywords => kwargs.update(value.cast::<PyDict>()?.as_mapping())?,
        }
    }
    if let Some(lost) = stored.keys().next() {
        return Err(migration_error(format!(
            "{} has a field {lost:?} that its constructor does not take any more, and there is no upgrade for it",
            place()
        )));
    }
    let kwargs = (!kwargs.is_empty()).then_some(kwargs);
    Ok((PyTuple::new(py, args)?, kwargs))
}
