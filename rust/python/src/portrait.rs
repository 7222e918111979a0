//! From behaviors to portraits and back (POR-09: each constructor argument under its name).

use std::collections::HashMap;
use std::sync::Arc;

use goblins_core::record::{Portrait, Record, Shape};
use minicbor::{Decoder, Encoder};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::behavior::{self, Bcom, Behavior, Constructor, Parameter, ParameterKind, Source, not_a_behavior};
use crate::calls::{self, Args};
use crate::cbor::{self, Actors, DecodeError, NotPortable, Refs};
use crate::errors::{migration_error, not_portable, persistence_error, unknown_label};
use crate::promise::Promise;
use crate::refs::{Name, Ref};

/// The map between labels and constructors.
pub(crate) struct Environment {
    by_label: HashMap<String, Py<Constructor>>,
    /// By the constructor's address, which is kept alive by the map above.
    by_constructor: HashMap<usize, Arc<Shape>>,
}

impl Environment {
    pub(crate) fn new(py: Python<'_>, labels: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut by_label = HashMap::new();
        let mut by_constructor = HashMap::new();
        for (label, constructor) in labels {
            let label: String = label.extract()?;
            let constructor = constructor.cast_into::<Constructor>()?;
            let fields = constructor.get().parameters.iter().map(|parameter| name(py, parameter)).collect();
            let shape = Shape { label: label.clone(), fields };
            by_constructor.insert(constructor.as_ptr() as usize, Arc::new(shape));
            by_label.insert(label, constructor.unbind());
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
    let Some(constructor) = env.by_label.get(&shape.label) else {
        let message = format!("{} has a label that is not in the environment: add its constructor", place());
        return Err(unknown_label(message, &shape.label, 1, cell.slot().0));
    };
    let constructor = constructor.bind(py);
    if record.version != constructor.get().version_bytes {
        return Err(migration_error(format!(
            "{} was stored by another version of its constructor ({}), and there is no upgrade for it",
            place(),
            constructor.get().version.bind(py)
        )));
    }
    let fields = fields(py, shape, record, refs).map_err(|error| match error {
        DecodeError::Python(error) => error,
        DecodeError::Malformed(reason) => persistence_error(format!("{} can't be read: {reason}", place())),
    })?;
    let (args, kwargs) = arguments(py, actor, constructor.get(), shape, fields, &place)?;
    let args = Args::Packed(&args, kwargs.as_ref());
    let made = args.call(constructor.get().function.bind(py))?;
    let made = Constructor::wrap(constructor, made, args)?;
    let label = constructor.get().name.bind(py);
    let behavior = match made.cast_into_exact::<Behavior>() {
        Ok(behavior) => behavior.into_any().unbind(),
        Err(error) => return Err(not_a_behavior(&label.to_string_lossy(), &error.into_inner())),
    };
    let name = match &record.name {
        Some(given) => Name { text: pyo3::types::PyString::new(py, given).unbind(), given: true },
        None => Name { text: constructor.get().name.clone_ref(py), given: false },
    };
    let _ = actor.get().name.set(py, name);
    Ok(behavior)
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
