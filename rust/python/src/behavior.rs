//! Constructors, and the behaviors that they make.

use std::sync::Once;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFunction, PyInt, PyString, PyTuple};

use crate::bcom::Become;
use crate::calls::{self, Args, Callable, Entry};
use crate::cbor;
use crate::class_actor;
use crate::errors::{behavior_error, no_such_method};
use crate::interrupts::again_if_interrupted;
use crate::leaf;
use crate::methods::Methods;
use crate::portrayed::Portrayed;
use crate::promise::Promise;
use crate::refs::Ref;

/// How a constructor takes a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    Positional,
    KeywordOnly,
    Rest,
    RestKeywords,
}

/// A parameter of a constructor after `bcom`: a field of the portrait.
pub(crate) struct Parameter {
    pub(crate) name: Py<PyString>,
    pub(crate) kind: ParameterKind,
    pub(crate) default: Option<Py<PyAny>>,
}

/// What `@actor` makes of a function: a constructor whose behaviors know their portrait.
#[pyclass(frozen, module = "goblins", name = "Constructor", dict, weakref)]
pub(crate) struct Constructor {
    pub(crate) function: Py<PyAny>,
    pub(crate) name: Py<PyString>,
    pub(crate) label: Option<String>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) version: Py<PyAny>,
    /// The version as it is stored.
    pub(crate) version_bytes: Vec<u8>,
    /// `Migrations`, or a function, that makes today's fields of older ones.
    pub(crate) upgrade: Option<Py<PyAny>>,
    /// Gives the portrait, in place of the arguments.
    pub(crate) portrait: Option<Py<PyAny>>,
    /// Makes the actor of what is stored, in place of a call.
    pub(crate) restore: Option<Py<PyAny>>,
    /// What its behaviors keep where no portrait shows it: a function and the variable that it rebinds.
    pub(crate) hidden: Option<(String, String)>,
    entry: Entry,
}

impl Callable for Constructor {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn once() -> &'static Once {
        static ONCE: Once = Once::new();
        &ONCE
    }

    fn call<'py>(slf: &Bound<'py, Self>, args: Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let made = args.call(slf.get().function.bind(slf.py()))?;
        Self::wrap(slf, made, args)
    }
}

/// A version of an actor's portrait as it is stored.
pub(crate) fn version_bytes(version: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    cbor::encode(version, &mut cbor::NoRefs, &mut bytes).map_err(|error| {
        error.into_error(|reason, _| {
            PyTypeError::new_err(format!("the version of an actor must be a plain value: {reason}"))
        })
    })?;
    Ok(bytes)
}

/// Whether a version that is stored is that of today. They are compared as values: 1, 1.0 and True are one version,
/// and so are dicts whose entries come in another order.
pub(crate) fn same_version(stored: &[u8], today: &[u8]) -> bool {
    stored == today
        || Python::attach(|py| {
            let value = |bytes| {
                let unread = |_: &_| PyTypeError::new_err(());
                cbor::decode_all(py, bytes, &cbor::NoActors).map_err(|error| error.into_error(unread))
            };
            again_if_interrupted(py, || value(stored)?.eq(value(today)?)).unwrap_or(false)
        })
}

/// Makes a constructor of a function, its name, label and version, and its parameters after `bcom`: name, kind,
/// whether there is a default, default. `hidden`: a function, and the variable of the constructor that it rebinds.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "called with keywords, by one function")]
pub(crate) fn _constructor(
    py: Python<'_>,
    function: Py<PyAny>,
    name: Py<PyString>,
    label: Option<String>,
    parameters: Vec<(Py<PyString>, String, bool, Py<PyAny>)>,
    version: Py<PyAny>,
    upgrade: Option<Py<PyAny>>,
    portrait: Option<Py<PyAny>>,
    restore: Option<Py<PyAny>>,
    hidden: Option<(String, String)>,
) -> PyResult<Bound<'_, Constructor>> {
    let parameters = parameters.into_iter().map(|(name, kind, has_default, default)| {
        let kind = match kind.as_str() {
            "positional" => ParameterKind::Positional,
            "keyword" => ParameterKind::KeywordOnly,
            "rest" => ParameterKind::Rest,
            "keywords" => ParameterKind::RestKeywords,
            other => return Err(PyTypeError::new_err(format!("unknown kind of parameter: {other}"))),
        };
        Ok(Parameter { name, kind, default: has_default.then_some(default) })
    });
    let parameters = parameters.collect::<PyResult<_>>()?;
    let version_bytes = version_bytes(version.bind(py))?;
    let entry = Entry::of::<Constructor>();
    calls::make(
        py,
        Constructor {
            function,
            name,
            label,
            parameters,
            version,
            version_bytes,
            upgrade,
            portrait,
            restore,
            hidden,
            entry,
        },
    )
}

#[pymethods]
impl Constructor {
    #[getter(__name__)]
    fn dunder_name(&self, py: Python<'_>) -> Py<PyString> {
        self.name.clone_ref(py)
    }

    #[getter(__wrapped__)]
    fn wrapped(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    /// The label given with `@actor(label=...)`, or None.
    #[getter]
    fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The version given with `@actor(version=...)`.
    #[getter]
    fn version(&self, py: Python<'_>) -> Py<PyAny> {
        self.version.clone_ref(py)
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        <Self as Callable>::call(slf, Args::Packed(args, kwargs))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<constructor {}>", self.name.bind(py).to_string_lossy())
    }

    /// What was given with `@actor(upgrade=...)`.
    #[getter]
    fn upgrade(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.upgrade.as_ref().map(|upgrade| upgrade.clone_ref(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.upgrade)?;
        visit.call(&self.portrait)?;
        visit.call(&self.restore)?;
        visit.call(&self.function)?;
        visit.call(&self.version)?;
        self.parameters.iter().try_for_each(|parameter| visit.call(&parameter.default))
    }
}

impl Constructor {
    /// The behavior with its portrait, from what the function returned: a Ref, the behavior of another constructor, or an
    /// instance of a class of actors is passed on.
    pub(crate) fn wrap<'py>(
        slf: &Bound<'py, Self>,
        made: Bound<'py, PyAny>,
        args: Args<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if made.is_exact_instance_of::<Ref>() || made.is_exact_instance_of::<Behavior>() {
            return Ok(made);
        }
        if !made.is_exact_instance_of::<PyFunction>() && class_actor::instance(&made).is_some() {
            return Ok(made);
        }
        let py = slf.py();
        if let Ok(portrayed) = made.cast_exact::<Portrayed>() {
            if portrayed.get().origin().is_some() {
                return Ok(made);
            }
            let name = slf.get().name.bind(py).to_string_lossy();
            return Err(behavior_error(format!(
                "the constructor {name} has a portrait by @actor, and its behavior has one by portraitize: give \
                 the function to @actor(portrait=...)"
            )));
        }
        if !is_behavior(&made) {
            return Err(not_a_behavior(&slf.get().name.bind(py).to_string_lossy(), &made));
        }
        let source = Source {
            constructor: slf.clone().unbind(),
            args: args.tuple(py)?.unbind(),
            kwargs: args.dict(py)?.map(Bound::unbind),
        };
        Ok(Bound::new(py, Behavior::new(made.unbind(), source))?.into_any())
    }
}

/// The call that a behavior came from: its portrait.
pub(crate) struct Source {
    pub(crate) constructor: Py<Constructor>,
    /// As they were given: the first is `bcom`.
    pub(crate) args: Py<PyTuple>,
    pub(crate) kwargs: Option<Py<PyDict>>,
}

/// What an actor does with a message, and where that came from.
#[pyclass(frozen, module = "goblins", name = "Behavior")]
pub(crate) struct Behavior {
    pub(crate) code: Py<PyAny>,
    pub(crate) source: Source,
}

impl Behavior {
    pub(crate) fn new(code: Py<PyAny>, source: Source) -> Self {
        Self { code, source }
    }
}

impl Drop for Behavior {
    fn drop(&mut self) {
        // SAFETY: the interpreter frees an object on a thread that is attached.
        let py = unsafe { Python::assume_attached() };
        leaf::show_code(self.code.bind(py));
    }
}

#[pymethods]
impl Behavior {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Args::Packed(args, kwargs).call(slf.get().code.bind(slf.py()))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let name = self.source.constructor.get().name.bind(py);
        format!("<behavior of {}>", name.to_string_lossy())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.code)?;
        visit.call(&self.source.constructor)?;
        visit.call(&self.source.args)?;
        visit.call(&self.source.kwargs)
    }
}

/// The call that a behavior came from, if that is known.
pub(crate) fn source<'a>(behavior: &'a Bound<'_, PyAny>) -> Option<&'a Source> {
    Some(&behavior.cast_exact::<Behavior>().ok()?.get().source)
}

/// The code of a behavior, without the call that it came from.
pub(crate) fn code<'a, 'py>(behavior: &'a Bound<'py, PyAny>) -> &'a Bound<'py, PyAny> {
    if let Ok(behavior) = behavior.cast_exact::<Behavior>() {
        return behavior.get().code.bind(behavior.py());
    }
    match behavior.cast_exact::<Portrayed>() {
        Ok(behavior) => behavior.get().code.bind(behavior.py()),
        Err(_) => behavior,
    }
}

/// Gives a message to a behavior: to its code, or to one of its methods.
pub(crate) fn invoke<'py>(
    behavior: &Bound<'py, PyAny>,
    actor: &Bound<'py, Ref>,
    method: Option<&Bound<'py, PyString>>,
    args: Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let is_function = |code: &Bound<'_, PyAny>| method.is_none() && code.is_exact_instance_of::<PyFunction>();
    // The most frequent case by far: nothing else is asked before.
    if is_function(behavior) {
        return args.call(behavior);
    }
    let code = code(behavior);
    if is_function(code) {
        return args.call(code);
    }
    if let Some(instance) = class_actor::instance(code) {
        return class_actor::invoke(instance, actor, method, args);
    }
    let methods = code.cast_exact::<Methods>();
    match (method, methods) {
        (None, Err(_)) => args.call(code),
        (Some(name), Ok(methods)) => args.call(&methods.get().find(name, actor)?),
        (None, Ok(methods)) => Err(no_call(actor, methods.get())),
        (Some(name), Err(_)) => Err(no_methods(actor, name)),
    }
}

// The errors stand apart, so that calls take little of the stack.
#[cold]
#[inline(never)]
fn no_call(actor: &Bound<'_, Ref>, methods: &Methods) -> PyErr {
    let (actor, names) = (actor.get().describe(actor.py()), methods.names(actor.py()));
    no_such_method(format!("{actor} answers to methods only ({names}); call one of them"))
}

#[cold]
#[inline(never)]
fn no_methods(actor: &Bound<'_, Ref>, name: &Bound<'_, PyString>) -> PyErr {
    no_such_method(format!(
        "{} has no method {:?}: its behavior is a function, to be called as ref(...)",
        actor.get().describe(actor.py()),
        name.to_string_lossy()
    ))
}

/// Whether a constructor may return this, or `bcom` be given it.
pub(crate) fn is_behavior(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyFunction>()
        || value.is_exact_instance_of::<Methods>()
        || class_actor::instance(value).is_some()
        || (value.is_callable()
            && !value.is_exact_instance_of::<Become>()
            && !value.is_exact_instance_of::<Ref>()
            && !value.is_exact_instance_of::<Promise>())
}

/// The error for a constructor that returned neither behavior nor Ref (ACT-05).
pub(crate) fn not_a_behavior(constructor: &str, made: &Bound<'_, PyAny>) -> PyErr {
    behavior_error(format!(
        "the constructor {constructor} returned {}, which is neither a behavior (a callable or `methods(...)`) nor a Ref",
        type_name(made)
    ))
}

pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    if value.is_none() {
        return "None".to_owned();
    }
    let name = value.get_type().name().map(|name| name.to_string_lossy().into_owned());
    name.map_or_else(|_| "a value".to_owned(), |name| format!("a value of type {name}"))
}

/// A value in a few words: plain ones as they are written, others by their type.
pub(crate) fn describe_value(value: &Bound<'_, PyAny>) -> String {
    let plain = value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyString>();
    let text = plain.then(|| value.repr().ok()).flatten().map(|text| text.to_string_lossy().into_owned());
    match text {
        Some(text) if text.len() <= 60 => text,
        _ => type_name(value),
    }
}

/// The name of a constructor, as written.
pub(crate) fn constructor_name<'py>(constructor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyString>> {
    let py = constructor.py();
    let name = match constructor.getattr_opt(intern!(py, "__name__"))? {
        Some(name) => name,
        None => constructor.get_type().name()?.into_any(),
    };
    Ok(name.cast_into::<PyString>()?)
}
