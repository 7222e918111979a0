//! From stored fields to the call that makes a behavior again (POR-09).

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::bcom::Bcom;
use crate::behavior::{Constructor, Parameter, ParameterKind, type_name};
use crate::collector;
use crate::errors::migration_error;
use crate::refs::Ref;

/// The call that makes the behavior again. A parameter that is new takes its default; a field that no
/// parameter takes is an error, since it would be lost.
pub(crate) fn arguments<'py>(
    py: Python<'py>,
    actor: &Bound<'py, Ref>,
    constructor: &Constructor,
    names: &[String],
    fields: Vec<Bound<'py, PyAny>>,
    place: &dyn Fn() -> String,
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    let cell = &actor.get().cell;
    let bcom = Bcom::make(py, cell.vat().id(), cell.slot())?;
    if takes_as_they_stand(py, constructor, names) {
        let mut args = fields;
        args.insert(0, bcom);
        return Ok((packed(py, args)?, None));
    }
    let mut stored = Named::new(names, fields);
    let mut args = vec![bcom];
    let mut kwargs = None;
    let mut named = || kwargs.get_or_insert_with(|| PyDict::new(py)).clone();
    for parameter in &constructor.parameters {
        let name = parameter.name.bind(py).to_str()?;
        let value = match (stored.take(name), &parameter.default, parameter.kind) {
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
            ParameterKind::KeywordOnly => named().set_item(name, value)?,
            ParameterKind::Rest => match value.cast_into::<PyTuple>() {
                Ok(rest) => args.extend(rest.iter()),
                Err(error) => {
                    let kind = type_name(&error.into_inner());
                    return Err(migration_error(format!(
                        "{} has {kind} as its field {name:?}, and its constructor takes *{name}: that must be a tuple",
                        place()
                    )));
                }
            },
            ParameterKind::RestKeywords => {
                let kind = type_name(&value);
                let rest = value.cast_into::<PyDict>().ok();
                let Some(rest) =
                    rest.filter(|rest| rest.keys().iter().all(|key| key.is_instance_of::<PyString>()))
                else {
                    return Err(migration_error(format!(
                        "{} has {kind} as its field {name:?}, and its constructor takes **{name}: that must be a dict \
                         whose keys are text",
                        place()
                    )));
                };
                named().update(rest.as_mapping())?;
            }
        }
    }
    if let Some(lost) = stored.left() {
        return Err(migration_error(format!(
            "{} has a field {lost:?} that its constructor does not take any more, and there is no upgrade for it",
            place()
        )));
    }
    Ok((packed(py, args)?, kwargs.filter(|kwargs| !kwargs.is_empty())))
}

/// Whether a constructor has just these parameters, in this order, to be given by position.
fn takes_as_they_stand(py: Python<'_>, constructor: &Constructor, names: &[String]) -> bool {
    let same = |(parameter, name): (&Parameter, &String)| {
        parameter.kind == ParameterKind::Positional
            && parameter.name.bind(py).to_str().is_ok_and(|known| known == name)
    };
    constructor.parameters.len() == names.len() && constructor.parameters.iter().zip(names).all(same)
}

/// `bcom` and the arguments after it. The collector does not look at them if they lead nowhere.
fn packed<'py>(py: Python<'py>, args: Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyTuple>> {
    let plain = args.iter().skip(1).all(|value| !collector::may_visit(value));
    let args = PyTuple::new(py, args)?;
    if plain {
        collector::leave(args.as_any());
    }
    Ok(args)
}

/// The values of a record, each taken once by its name. They mostly stand in the order in which they are asked for.
pub(crate) struct Named<'a, 'py> {
    names: &'a [String],
    values: Vec<Option<Bound<'py, PyAny>>>,
    next: usize,
}

impl<'a, 'py> Named<'a, 'py> {
    pub(crate) fn new(names: &'a [String], values: Vec<Bound<'py, PyAny>>) -> Self {
        Self { names, values: values.into_iter().map(Some).collect(), next: 0 }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Bound<'py, PyAny>> {
        let expected = self.names.get(self.next).is_some_and(|next| next == name);
        let index = if expected { self.next } else { self.names.iter().position(|stored| stored == name)? };
        self.next = index + 1;
        self.values.get_mut(index)?.take()
    }

    /// One that nobody has taken.
    pub(crate) fn left(&self) -> Option<&'a str> {
        let index = self.values.iter().position(Option::is_some)?;
        self.names.get(index).map(String::as_str)
    }
}
