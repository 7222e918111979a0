//! From behaviors to portraits and back (POR-09: each constructor argument under its name).

use std::collections::HashMap;
use std::sync::Arc;

use goblins_core::record::{Portrait, Record, Shape};
use minicbor::{Decoder, Encoder};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::behavior::{self, Bcom, Behavior, Constructor, Parameter, ParameterKind, Source, not_a_behavior};
use crate::calls::{self, Args};
use crate::cbor::{self, Actors, DecodeError, NotPortable, Refs};
use crate::class_actor::{self, ActorBase, ClassInfo};
use crate::collections::page_labels;
use crate::errors::{migration_error, not_portable, persistence_error, unknown_label};
use crate::promise::Promise;
use crate::refs::{Name, Ref};

/// What makes actors from records.
enum Maker {
    Function(Py<Constructor>),
    Class(Py<PyType>),
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
        let pages = page_labels(py).into_iter().flatten();
        for (label, constructor) in labels.iter().chain(pages) {
            let label: String = label.extract()?;
            let address = constructor.as_ptr() as usize;
            let (maker, fields) = match constructor.cast_into_exact::<Constructor>() {
                Ok(function) => {
                    let fields =
                        function.get().parameters.iter().map(|parameter| name(py, parameter)).collect();
                    (Maker::Function(function.unbind()), fields)
                }
                Err(error) => {
                    let class = error.into_inner().cast_into::<PyType>()?;
                    let info = ClassInfo::of(&class)?;
                    let fields = info.get().fields.iter();
                    let fields = fields.map(|field| field.bind(py).to_string_lossy().into_owned()).collect();
                    (Maker::Class(class.unbind()), fields)
                }
            };
            let shape = Shape { label: label.clone(), fields };
            by_constructor.insert(address, Arc::new(shape));
            by_label.insert(label, maker);
        }
        Ok(Self { by_label, by_constructor })
    }

    pub(crate) fn labels(&self) -> Vec<String> {
        self.by_label.keys().cloned().collect()
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
        version: constructor.version_bytes.clone(),
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
        version: info.version_bytes.clone(),
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

/// The behavior that a record describes.
pub(crate) fn rehydrate(
    py: Python<'_>,
    env: &Environment,
    actor: &Bound<'_, Ref>,
    shape: &Shape,
    record: &Record,
    refs: &[Py<Ref>],
) -> PyResult<Py<PyAny>> {
    let cell = &actor.get().cell;
    let place = || format!("slot {} of vat {} (label {:?})", cell.slot(), cell.vat().name(), shape.label);
    let Some(maker) = env.by_label.get(&shape.label) else {
        let message = format!("{} has a label that is not in the environment: add its constructor", place());
        return Err(unknown_label(message, &shape.label, 1, cell.slot().0));
    };
    let same_version = |bytes: &[u8], version: &Py<PyAny>| {
        if record.version == bytes {
            return Ok(());
        }
        Err(migration_error(format!(
            "{} was stored by another version of its constructor ({}), and there is no upgrade for it",
            place(),
            version.bind(py)
        )))
    };
    let fields = || {
        fields(py, shape, record, refs).map_err(|error| match error {
            DecodeError::Python(error) => error,
            DecodeError::Malformed(reason) => {
                persistence_error(format!("{} can't be read: {reason}", place()))
            }
        })
    };
    let (behavior, called) = match maker {
        Maker::Function(constructor) => {
            let constructor = constructor.bind(py);
            same_version(&constructor.get().version_bytes, &constructor.get().version)?;
            let made = from_function(py, actor, constructor, shape, fields()?, &place)?;
            (made, constructor.get().name.clone_ref(py))
        }
        Maker::Class(class) => {
            let class = class.bind(py);
            let info = ClassInfo::of(class)?;
            same_version(&info.get().version_bytes, &info.get().version)?;
            let made = from_class(actor, class, shape, fields()?, &place)?;
            (made, info.get().name.clone_ref(py))
        }
    };
    let name = match &record.name {
        Some(given) => Name { text: PyString::new(py, given).unbind(), given: true },
        None => Name { text: called, given: false },
    };
    let _ = actor.get().name.set(py, name);
    Ok(behavior)
}

fn from_function<'py>(
    py: Python<'py>,
    actor: &Bound<'py, Ref>,
    constructor: &Bound<'py, Constructor>,
    shape: &Shape,
    fields: Vec<Bound<'py, PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<Py<PyAny>> {
    let (args, kwargs) = arguments(py, actor, constructor.get(), shape, fields, place)?;
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
    shape: &Shape,
    fields: Vec<Bound<'py, PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<Py<PyAny>> {
    let instance = class_actor::blank(class)?;
    let mut stored: HashMap<&str, Bound<'py, PyAny>> =
        shape.fields.iter().map(String::as_str).zip(fields).collect();
    let grown = class_actor::fill(
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
    if grown {
        class_actor::note_grown(&instance, actor)?;
    }
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
    shape: &Shape,
    fields: Vec<Bound<'py, PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    let cell = &actor.get().cell;
    let mut stored: HashMap<&str, Bound<'py, PyAny>> =
        shape.fields.iter().map(String::as_str).zip(fields).collect();
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
