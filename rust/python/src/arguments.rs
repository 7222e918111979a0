//! From stored fields to the call that makes a behavior again (POR-09).

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::bcom::Bcom;
use crate::behavior::{Constructor, Parameter, ParameterKind, type_name};
use crate::collector;
use crate::errors::migration_error;
use crate::refs::Ref;

/// The fields that an actor is made of.
pub(crate) struct Fields<'a, 'py> {
    pub(crate) names: &'a [String],
    pub(crate) values: Vec<Bound<'py, PyAny>>,
    pub(crate) place: &'a dyn Fn() -> String,
    /// From which version to which, if an upgrade made them.
    pub(crate) steps: Option<&'a str>,
}

/// What is to be told of fields that don't fit.
pub(crate) struct Misfit<'a> {
    place: &'a dyn Fn() -> String,
    steps: Option<&'a str>,
}

impl<'a, 'py> Fields<'a, 'py> {
    pub(crate) fn split(self) -> (Named<'a, 'py>, Misfit<'a>) {
        (Named::new(self.names, self.values), Misfit { place: self.place, steps: self.steps })
    }
}

impl Misfit<'_> {
    /// The beginning of a message: who has a field, or gave it.
    fn subject(&self) -> String {
        match self.steps {
            Some(steps) => format!("the upgrade of {} {steps} gave", (self.place)()),
            None => format!("{} has", (self.place)()),
        }
    }

    /// `maker`: the constructor or the class, which needs the field.
    pub(crate) fn missing(&self, name: &str, maker: &str) -> PyErr {
        let (subject, default) = (self.subject(), if maker == "class" { "field" } else { "parameter" });
        migration_error(match self.steps {
            Some(_) => format!(
                "{subject} no field {name:?}, which its {maker} needs: let it return that too, or give the {default} a \
                 default"
            ),
            None => format!(
                "{subject} no field {name:?}, which its {maker} needs: give the {default} a default, or an upgrade"
            ),
        })
    }

    /// `maker`: the constructor or the class, which knows these fields, but not that one.
    pub(crate) fn unknown(&self, name: &str, maker: &str, known: &[String]) -> PyErr {
        let subject = self.subject();
        let known = match known {
            [] => "none".to_owned(),
            known => known.join(", "),
        };
        migration_error(match self.steps {
            Some(_) => format!(
                "{subject} a field {name:?} that its {maker} does not know: let it return only those that it knows \
                 ({known})"
            ),
            None => format!(
                "{subject} a field {name:?} that its {maker} does not know any more (it knows {known}), and there is no \
                 upgrade for it"
            ),
        })
    }

    fn unlike(&self, name: &str, kind: &str, taken_as: &str, rule: &str) -> PyErr {
        let subject = self.subject();
        migration_error(format!(
            "{subject} {kind} as the field {name:?}, and its constructor takes {taken_as}{name}: that must be {rule}"
        ))
    }
}

/// The call that makes the behavior again. A parameter that is new takes its default; a field that no
/// parameter takes is an error, since it would be lost.
pub(crate) fn arguments<'py>(
    py: Python<'py>,
    actor: &Bound<'py, Ref>,
    constructor: &Constructor,
    fields: Fields<'_, 'py>,
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    let cell = &actor.get().cell;
    let bcom = Bcom::make(py, cell.vat().id(), cell.slot())?;
    if takes_as_they_stand(py, constructor, fields.names) {
        let mut args = fields.values;
        args.insert(0, bcom);
        return Ok((packed(py, args)?, None));
    }
    let (mut stored, misfit) = fields.split();
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
                return Err(misfit.missing(name, "constructor"));
            }
        };
        match parameter.kind {
            ParameterKind::Positional => args.push(value),
            ParameterKind::KeywordOnly => named().set_item(name, value)?,
            ParameterKind::Rest => match value.cast_into::<PyTuple>() {
                Ok(rest) => args.extend(rest.iter()),
                Err(error) => {
                    let kind = type_name(&error.into_inner());
                    return Err(misfit.unlike(name, &kind, "*", "a tuple"));
                }
            },
            ParameterKind::RestKeywords => {
                let kind = type_name(&value);
                let rest = value.cast_into::<PyDict>().ok();
                let Some(rest) =
                    rest.filter(|rest| rest.keys().iter().all(|key| key.is_instance_of::<PyString>()))
                else {
                    return Err(misfit.unlike(name, &kind, "**", "a dict whose keys are text"));
                };
                named().update(rest.as_mapping())?;
            }
        }
    }
    if let Some(lost) = stored.left() {
        let known = constructor.parameters.iter().map(|known| known.name.bind(py).to_string());
        return Err(misfit.unknown(lost, "constructor", &known.collect::<Vec<_>>()));
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
