//! From records to behaviors (POR-14, POR-15).

use std::borrow::Cow;

use goblins_core::actor::ActorCell;
use goblins_core::record::{Record, Shape};
use minicbor::Decoder;
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::arguments::{Fields, arguments};
use crate::behavior::{self, Behavior, Constructor, not_a_behavior, same_version};
use crate::calls::{self, Args};
use crate::cbor::{self, Actors, DecodeError};
use crate::class_actor::{self, ClassInfo};
use crate::collections;
use crate::current::current_turn;
use crate::environment::{Environment, Maker};
use crate::errors::{
    damaged_actor, migration_error, persistence_error, record_error, store_corrupt, unknown_label,
};
use crate::host::PyHost;
use crate::names::Name;
use crate::portrait::Likeness;
use crate::portrayed::{self, Portrayed};
use crate::promise::Promise;
use crate::records::Records;
use crate::refs::Ref;
use crate::saved;

/// What stands for actors of other vats.
#[derive(Clone, Copy)]
pub(crate) enum Far<'a> {
    /// Promises for them.
    Promises(&'a [Py<Promise>]),
    /// They themselves, and promises: see [`Likeness`].
    AsIs(&'a [Py<PyAny>]),
}

struct Stored<'a> {
    refs: &'a [Py<Ref>],
    far: Far<'a>,
    promises: Vec<Py<Promise>>,
    records: &'a Records,
}

impl Actors for Stored<'_> {
    fn actor<'py>(&self, py: Python<'py>, number: u64) -> Option<Bound<'py, PyAny>> {
        let actor = self.refs.get(usize::try_from(number).ok()?)?;
        Some(actor.bind(py).clone().into_any())
    }

    fn far<'py>(&self, py: Python<'py>, number: u64) -> Option<Bound<'py, PyAny>> {
        let number = usize::try_from(number).ok()?;
        match self.far {
            Far::Promises(promises) => Some(promises.get(number)?.bind(py).clone().into_any()),
            Far::AsIs(values) => Some(values.get(number)?.bind(py).clone()),
        }
    }

    fn promise<'py>(&self, py: Python<'py>, number: u64) -> Option<Bound<'py, PyAny>> {
        let promise = self.promises.get(usize::try_from(number).ok()?)?;
        Some(promise.bind(py).clone().into_any())
    }

    fn records(&self) -> Option<&Records> {
        Some(self.records)
    }
}

/// Names and values of fields, as the constructor of today knows them, and from which version to which an upgrade has
/// brought them, if one did.
type Upgraded<'py, 's> = (Cow<'s, [String]>, Vec<Bound<'py, PyAny>>, Option<String>);

/// The version of a constructor, and how to get there.
struct Today<'a> {
    version: &'a Py<PyAny>,
    bytes: &'a [u8],
    upgrade: Option<&'a Py<PyAny>>,
}

impl<'a> Today<'a> {
    fn of(version: &'a Py<PyAny>, bytes: &'a [u8], upgrade: Option<&'a Py<PyAny>>) -> Self {
        Self { version, bytes, upgrade }
    }

    /// Brings stored fields up to date.
    fn upgraded<'py, 's>(
        &self,
        py: Python<'py>,
        shape: &'s Shape,
        fields: Vec<Bound<'py, PyAny>>,
        cell: &ActorCell<PyHost>,
        place: &dyn Fn() -> String,
    ) -> PyResult<Upgraded<'py, 's>> {
        let Self { version, bytes, upgrade } = *self;
        if same_version(&shape.version, bytes) {
            return Ok((Cow::Borrowed(&shape.fields), fields, None));
        }
        let stored = stored_version(py, cell, shape, place)?;
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
        let steps = format!("from version {stored} to {}", version.bind(py));
        let module = py.import("goblins._migrations")?;
        let args = (upgrade, stored, dict, version, place());
        let made = calls::call_attribute(&module, "upgrade_fields", args)?.cast_into::<PyDict>()?;
        let mut names = Vec::with_capacity(made.len());
        let mut values = Vec::with_capacity(made.len());
        for (name, value) in made {
            let name = name.cast_into::<PyString>()?;
            // One with lone surrogates is the name of nothing.
            let Ok(text) = name.to_str() else {
                return Err(migration_error(format!(
                    "the upgrade of {} gave a field {}, which no constructor can have",
                    place(),
                    name.repr()?.to_string_lossy()
                )));
            };
            names.push(text.to_owned());
            values.push(value);
        }
        Ok((Cow::Owned(names), values, Some(steps)))
    }
}

/// The version that actors of a shape were stored with.
fn stored_version<'py>(
    py: Python<'py>,
    cell: &ActorCell<PyHost>,
    shape: &Shape,
    place: &dyn Fn() -> String,
) -> PyResult<Bound<'py, PyAny>> {
    cbor::decode_all(py, &shape.version, &cbor::NoActors).map_err(|error| {
        error.into_error(|error| {
            damaged_actor(cell, &format!("the version of {} can't be read: {error}", place()))
        })
    })
}

/// The behavior that a likeness describes, and whether that was upgraded.
pub(crate) fn remake(
    py: Python<'_>,
    env: &Environment,
    actor: &Bound<'_, Ref>,
    likeness: &Likeness,
) -> PyResult<(Py<PyAny>, bool)> {
    let far = Far::AsIs(&likeness.as_is);
    rehydrate(py, env, actor, &likeness.shape, &likeness.record, (&likeness.refs, far))
}

/// The behavior that a record describes, and whether that was upgraded.
pub(crate) fn rehydrate(
    py: Python<'_>,
    env: &Environment,
    actor: &Bound<'_, Ref>,
    shape: &Shape,
    record: &Record,
    (refs, far): (&[Py<Ref>], Far<'_>),
) -> PyResult<(Py<PyAny>, bool)> {
    let cell = &actor.get().cell;
    let place = || {
        let named = record.name.as_ref().map_or_else(String::new, |name| format!(", named {name:?}"));
        format!("slot {} of vat {} (label {:?}{named})", cell.slot(), cell.vat().name(), shape.label)
    };
    let Some(maker) = env.by_label.get(&shape.label) else {
        let message = format!("{} has a label that is not in the environment: add its constructor", place());
        return Err(unknown_label(message, &shape.label, 1, cell.slot().0));
    };
    let stored = Stored { refs, far, promises: Vec::new(), records: &env.records };
    let (fields, holds_promises) = fields(py, shape, record, stored).map_err(|error| match error {
        DecodeError::Python(error) => error,
        DecodeError::Record { steps, problem } => {
            let before = if matches!(maker, Maker::Function(..)) { "args." } else { "" };
            let path = format!("{before}{}", steps.iter().rev().map(String::as_str).collect::<String>());
            record_error(&place(), &path, &problem, cell.slot().0)
        }
        DecodeError::Malformed(reason) => {
            damaged_actor(cell, &format!("{} can't be read: {reason}", place()))
        }
        DecodeError::Missing(reason) => persistence_error(format!("{} can't be read: {reason}", place())),
    })?;
    cell.set_restless(holds_promises);
    let (behavior, called, upgraded) = match maker {
        Maker::Function(constructor, restore, plain) => {
            let constructor = constructor.bind(py);
            let this = constructor.get();
            let (made, upgraded) = match restore {
                // Without an upgrade the rehydrator gets what is stored, and its version.
                Some(restore) if this.upgrade.is_none() => {
                    let version = stored_version(py, cell, shape, &place)?;
                    let made = from_rehydrator(py, actor, restore, version, &shape.fields, fields, &place)?;
                    (made, !same_version(&shape.version, &this.version_bytes))
                }
                _ => {
                    let today = Today::of(&this.version, &this.version_bytes, this.upgrade.as_ref());
                    let (names, fields, steps) = today
                        .upgraded(py, shape, fields, cell, &place)
                        .map_err(|error| damaged(py, &shape.label, error, &place))?;
                    let made = match restore {
                        Some(restore) => {
                            let version = this.version.bind(py).clone();
                            from_rehydrator(py, actor, restore, version, &names, fields, &place)?
                        }
                        None => {
                            let fields = Fields {
                                names: &names,
                                values: fields,
                                place: &place,
                                steps: steps.as_deref(),
                            };
                            match plain {
                                None => from_function(py, actor, constructor, fields)
                                    .map_err(|error| damaged(py, &shape.label, error, &place))?,
                                Some(plain) => from_plain(py, actor, (constructor, plain), fields)?,
                            }
                        }
                    };
                    (made, steps.is_some())
                }
            };
            (made, this.name.clone_ref(py), upgraded)
        }
        Maker::Class(class) => {
            let class = class.bind(py);
            let info = ClassInfo::of(class)?;
            let this = info.get();
            let today = Today::of(&this.version, &this.version_bytes, this.upgrade.as_ref());
            let (names, fields, steps) = today.upgraded(py, shape, fields, cell, &place)?;
            let fields = Fields { names: &names, values: fields, place: &place, steps: steps.as_deref() };
            let made = from_class(actor, class, fields)?;
            (made, this.name.clone_ref(py), steps.is_some())
        }
    };
    let name = match &record.name {
        Some(given) => Name { text: PyString::new(py, given).unbind(), given: true },
        None => Name { text: called, given: false },
    };
    actor.get().name.set(name);
    // Under a label of old it is stored no longer.
    let renamed = env.label_of(maker).is_some_and(|label| label != shape.label);
    Ok((behavior, upgraded || renamed))
}

/// What stands for an error of a constructor. Those of the library refuse nothing but what they never wrote.
fn damaged(py: Python<'_>, label: &str, error: PyErr, place: &dyn Fn() -> String) -> PyErr {
    let refused = error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyAttributeError>(py);
    if !collections::is_of_library(label) || !refused {
        return error;
    }
    let reason = error.value(py);
    store_corrupt(format!("{} is damaged: {reason}; restore the store from a copy", place()))
}

fn from_function<'py>(
    py: Python<'py>,
    actor: &Bound<'py, Ref>,
    constructor: &Bound<'py, Constructor>,
    fields: Fields<'_, 'py>,
) -> PyResult<Py<PyAny>> {
    let (args, kwargs) = arguments(py, actor, constructor.get(), fields)?;
    let args = Args::Packed(&args, kwargs.as_ref());
    let made = args.call(constructor.get().function.bind(py))?;
    let made = Constructor::wrap(constructor, made, args)?;
    if let Some(instance) = class_actor::instance(&made) {
        // Records of such a function know of its arguments only. What is stored next is a record of the class.
        class_actor::check_free(instance, actor.get().cell.slot(), actor.get().cell.vat())?;
        class_actor::bind(instance, actor)?;
        return Ok(made.unbind());
    }
    match made.cast_into_exact::<Behavior>() {
        Ok(behavior) => Ok(behavior.into_any().unbind()),
        Err(error) => {
            let name = constructor.get().name.bind(py).to_string_lossy();
            Err(not_a_behavior(&name, &error.into_inner()))
        }
    }
}

/// The behavior of a function without `@actor`: it has a portrait made by hand.
fn from_plain<'py>(
    py: Python<'py>,
    actor: &Bound<'py, Ref>,
    (constructor, plain): (&Bound<'py, Constructor>, &Py<PyAny>),
    fields: Fields<'_, 'py>,
) -> PyResult<Py<PyAny>> {
    let (args, kwargs) = arguments(py, actor, constructor.get(), fields)?;
    let made = Args::Packed(&args, kwargs.as_ref()).call(plain.bind(py))?;
    let Ok(portrayed) = made.cast_exact::<Portrayed>() else {
        let name = constructor.get().name.bind(py).to_string_lossy();
        return Err(not_a_behavior(&name, &made));
    };
    portrayed.get().made_by(plain.bind(py), Some(&args.get_item(0)?));
    Ok(made.unbind())
}

/// What a rehydrator makes (POR-14): it spawns an actor, and the behavior of that becomes the one of this.
fn from_rehydrator<'py>(
    py: Python<'py>,
    actor: &Bound<'py, Ref>,
    restore: &Py<PyAny>,
    version: Bound<'py, PyAny>,
    names: &[String],
    fields: Vec<Bound<'py, PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<Py<PyAny>> {
    let named = PyDict::new(py);
    for (name, value) in names.iter().zip(fields) {
        named.set_item(name, value)?;
    }
    let made = Args::Packed(&PyTuple::new(py, [version])?, Some(&named)).call(restore.bind(py))?;
    let churn = current_turn("restoring an actor")?;
    let behavior = match made.cast_exact::<Ref>() {
        Ok(made) if churn.is_near(made.as_unbound()) => churn.absorb(py, made.as_unbound()),
        _ => None,
    };
    let Some(behavior) = behavior else {
        return Err(migration_error(format!(
            "the rehydrator of {} gave {}: it must spawn an actor, and return the Ref of that",
            place(),
            behavior::describe_value(&made)
        )));
    };
    if let Some(instance) = class_actor::instance(behavior.bind(py)) {
        class_actor::bind(instance, actor)?;
    }
    if let Some(bcom) = portrayed::bcom_of(behavior.bind(py)) {
        bcom.get().hand_over(actor.get().cell.slot());
    }
    Ok(behavior)
}

/// An instance with the stored fields. A field that is new takes its default; one that the class does not have is
/// an error, since it would be lost.
fn from_class<'py>(
    actor: &Bound<'py, Ref>,
    class: &Bound<'py, PyType>,
    fields: Fields<'_, 'py>,
) -> PyResult<Py<PyAny>> {
    let instance = class_actor::blank(class)?;
    class_actor::check_free(&instance, actor.get().cell.slot(), actor.get().cell.vat())?;
    let (mut stored, misfit) = fields.split();
    let grown =
        crate::fields::fill(&instance, |field| stored.take(field), |field| misfit.missing(field, "class"))?;
    if let Some(lost) = stored.left() {
        let known = instance.get().info().get().fields.iter().map(|known| known.bind(class.py()).to_string());
        return Err(misfit.unknown(lost, "class", &known.collect::<Vec<_>>()));
    }
    class_actor::bind(&instance, actor)?;
    if grown {
        saved::note_grown(&instance, actor)?;
    }
    class_actor::tell_restored(&instance)?;
    Ok(instance.into_any().unbind())
}

fn fields<'py>(
    py: Python<'py>,
    shape: &Shape,
    record: &Record,
    mut stored: Stored<'_>,
) -> Result<(Vec<Bound<'py, PyAny>>, bool), DecodeError> {
    let mut decoder = Decoder::new(&record.payload);
    stored.promises = cbor::promises::begin(py, &decoder)?;
    if decoder.array()? != Some(shape.fields.len() as u64) {
        return Err(DecodeError::Malformed("it has another number of fields than its shape".to_owned()));
    }
    let mut field =
        |name: &String| cbor::decode(py, &mut decoder, &stored).map_err(|error| error.below(|| name.clone()));
    // `bcom` may come before them.
    let mut fields = Vec::with_capacity(1 + shape.fields.len());
    for name in &shape.fields {
        fields.push(field(name)?);
    }
    cbor::promises::finish(py, &mut decoder, &stored, &stored.promises)?;
    if decoder.position() != record.payload.len() {
        return Err(DecodeError::Malformed("something stands after its fields".to_owned()));
    }
    Ok((fields, !stored.promises.is_empty()))
}
