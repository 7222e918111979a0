//! `ref.method`: a message to an actor. It stands for a call and for no value, so that a field which is read by mistake
//! is an error that tells so.

use std::sync::Once;

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::behavior::describe_value;
use crate::calls::{self, Args, Callable, Entry};
use crate::faces::Face;
use crate::promise::Promise;
use crate::refs::{Ref, Target, call};

/// `ref.method`: call it, or give it to `send` or `tell`.
#[pyclass(frozen, module = "goblins", name = "BoundMessage")]
pub(crate) struct BoundMessage {
    pub(crate) target: Target,
    pub(crate) method: Py<PyString>,
    entry: Entry,
}

impl BoundMessage {
    fn is_same(&self, py: Python<'_>, other: &Self) -> PyResult<bool> {
        let same = match (&self.target, &other.target) {
            (Target::Actor(a), Target::Actor(b)) => a.is(b),
            (Target::Promise(a), Target::Promise(b)) => a.is(b),
            _ => false,
        };
        Ok(same && self.method.bind(py).as_any().eq(other.method.bind(py))?)
    }

    pub(crate) fn make<'py>(
        py: Python<'py>,
        target: Target,
        method: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let message = Self { target, method: method.clone().unbind(), entry: Entry::of::<Self>() };
        Ok(calls::make(py, message)?.into_any())
    }
}

impl Callable for BoundMessage {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn once() -> &'static Once {
        static ONCE: Once = Once::new();
        &ONCE
    }

    fn call<'py>(slf: &Bound<'py, Self>, args: Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let method = Some(this.method.bind(py));
        match &this.target {
            Target::Actor(actor) => call(actor.bind(py), method, args),
            Target::Promise(promise) => crate::promise::call(promise.bind(py), method, args),
        }
    }
}

#[pymethods]
impl BoundMessage {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        <Self as Callable>::call(slf, Args::Packed(args, kwargs))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let target = match &self.target {
            Target::Actor(actor) => actor.get().describe(py),
            Target::Promise(promise) => promise.bind(py).repr()?.to_string(),
        };
        Ok(format!("<message {} to {target}>", self.method.bind(py).to_string_lossy()))
    }

    /// Messages are equal if they do the same. Code that keeps functions in lists compares these with each other.
    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, how: CompareOp) -> PyResult<bool> {
        let is_function = || {
            other.is_callable()
                && !other.is_exact_instance_of::<Ref>()
                && !other.is_exact_instance_of::<Promise>()
        };
        let equal = match other.cast_exact::<Self>() {
            Ok(other) => slf.get().is_same(slf.py(), other.get())?,
            Err(_) if is_function() => false,
            Err(_) => return Err(refused(slf, &format!("compared with {}", describe_value(other)))),
        };
        match how {
            CompareOp::Eq => Ok(equal),
            CompareOp::Ne => Ok(!equal),
            _ => Err(refused(slf, "ordered")),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        let target = match &self.target {
            Target::Actor(actor) => actor.as_ptr() as isize,
            Target::Promise(promise) => promise.as_ptr() as isize,
        };
        Ok(self.method.bind(py).hash()? ^ target.rotate_right(4))
    }

    fn __getattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        Err(no_attribute(slf, name))
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        _value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Err(no_attribute(slf, name))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        Err(no_attribute(slf, name))
    }

    #[pyo3(signature = (_spec, /))]
    fn __format__(slf: &Bound<'_, Self>, _spec: &Bound<'_, PyAny>) -> PyResult<String> {
        Err(refused(slf, "formatted"))
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(refused(slf, "used in `with`"))
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(slf: &Bound<'_, Self>, _error: &Bound<'_, PyTuple>) -> PyResult<bool> {
        Err(refused(slf, "used in `with`"))
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Err(refused(slf, "used in `async with`"))
    }

    #[pyo3(signature = (*_error))]
    fn __aexit__(slf: &Bound<'_, Self>, _error: &Bound<'_, PyTuple>) -> PyResult<bool> {
        Err(refused(slf, "used in `async with`"))
    }

    fn __copy__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __deepcopy__(slf: &Bound<'_, Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __reduce_ex__(slf: &Bound<'_, Self>, _protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(no_pickle(slf.as_any()))
    }

    /// The name of the method.
    #[getter(__name__)]
    fn name(&self, py: Python<'_>) -> Py<PyString> {
        self.method.clone_ref(py)
    }

    /// That of the method, as far as the class of the actor is known.
    #[getter(__signature__)]
    fn signature<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        match &this.target {
            Target::Actor(actor) => signature(actor.bind(py), Some(this.method.bind(py))),
            Target::Promise(_) => any_signature(py),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.target {
            Target::Actor(actor) => visit.call(actor),
            Target::Promise(promise) => visit.call(promise),
        }
    }
}

/// The error for what is no message, but a value.
pub(crate) fn refused(message: &Bound<'_, BoundMessage>, deed: &str) -> PyErr {
    PyTypeError::new_err(format!("a message can't be {deed}: {}", hint(message)))
}

fn no_attribute(message: &Bound<'_, BoundMessage>, name: &Bound<'_, PyString>) -> PyErr {
    let name = name.to_string_lossy();
    PyAttributeError::new_err(format!("a message has no attribute {name:?}: {}", hint(message)))
}

/// What a message is, and how to get at the value that was meant.
fn hint(message: &Bound<'_, BoundMessage>) -> String {
    let (this, py) = (message.get(), message.py());
    let method = this.method.bind(py);
    let name = method.to_string_lossy();
    let actor = match &this.target {
        Target::Promise(_) => {
            return format!(
                "promise.{name} is a message to what the promise will stand for. Send it, as in \
                 send(promise.{name}, ...), or wait for the promise first"
            );
        }
        Target::Actor(actor) => actor.bind(py),
    };
    let title = actor.get().describe(py);
    let face = Face::of(actor);
    match &face {
        Some(Face::Class(info)) if info.get().has(py, method).unwrap_or(false) => {
            let class = info.get().name.bind(py);
            format!(
                "ref.{name} is a message to {title}, and not its field {name}, which the actor alone can read. Give \
                 {class} a method that returns self.{name}, and call that"
            )
        }
        Some(face) if face.find(Some(method)).is_ok_and(|found| found.is_some()) => {
            format!(
                "ref.{name} is a message to {title}, and not yet its answer. Call it, as in ref.{name}(...)"
            )
        }
        _ => format!(
            "ref.{name} is a message to {title}. Call it, as in ref.{name}(...), for a value that a method of the \
             actor returns"
        ),
    }
}

/// The error for an assignment to a field of an actor from outside.
pub(crate) fn no_fields(actor: &Bound<'_, Ref>, name: &Bound<'_, PyString>) -> PyErr {
    let (py, title, name) = (actor.py(), actor.get().describe(actor.py()), name.to_string_lossy());
    let class = match Face::of(actor) {
        Some(Face::Class(info)) => info.get().name.bind(py).to_string_lossy().into_owned(),
        _ => "the actor".to_owned(),
    };
    PyAttributeError::new_err(format!(
        "a Ref has no fields, so {name:?} of {title} can't be set or deleted here: give {class} a method that does it, \
         and call that"
    ))
}

/// As [`no_fields`], for a promise.
pub(crate) fn no_fields_of_promise(name: &Bound<'_, PyString>) -> PyErr {
    PyAttributeError::new_err(format!(
        "a promise has no fields, so {:?} can't be set or deleted: send a message to what it will stand for",
        name.to_string_lossy()
    ))
}

/// The error for `pickle`.
pub(crate) fn no_pickle(value: &Bound<'_, PyAny>) -> PyErr {
    let kind = value.get_type().name().map_or_else(|_| "value".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!(
        "a {kind} can't be pickled, since it is a right to something in this process: put it in the state of an actor \
         to store it, or pass on persistable_id(ref), which names an actor and gives no access"
    ))
}

/// The signature of a message, as far as the class of the actor is known; that of the call of the actor without a name.
pub(crate) fn signature<'py>(
    actor: &Bound<'py, Ref>,
    method: Option<&Bound<'py, PyString>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = actor.py();
    let Some(face) = Face::of(actor) else {
        return any_signature(py);
    };
    match face.find(method)? {
        Some(function) => inspect(py)?.call_method1("signature", (function,)),
        None => Err(PyAttributeError::new_err(format!("{} has no such method", actor.get().describe(py)))),
    }
}

fn any_signature(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let any = py.eval(c"lambda *args, **kwargs: None", None, None)?;
    inspect(py)?.call_method1("signature", (any,))
}

fn inspect(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("inspect")
}

/// The docstring of instances, where that is another one than that of the class.
#[pyclass(frozen)]
struct Doc {
    of_class: Py<PyString>,
}

#[pymethods]
impl Doc {
    fn __get__<'py>(
        &self,
        message: &Bound<'py, PyAny>,
        _class: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let Ok(message) = message.cast_exact::<BoundMessage>() else {
            return Ok(self.of_class.bind(py).clone().into_any());
        };
        let this = message.get();
        let function = match &this.target {
            Target::Actor(actor) => Face::of(actor.bind(py)),
            Target::Promise(_) => None,
        };
        let function = function.map(|face| face.find(Some(this.method.bind(py)))).transpose()?.flatten();
        match function {
            Some(function) => function.getattr(intern!(py, "__doc__")),
            None => Ok(py.None().into_bound(py)),
        }
    }
}

/// Makes messages show the docstrings of their methods, and refuse what values do.
pub(crate) fn complete(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<BoundMessage>();
    let of_class = class.getattr(intern!(py, "__doc__"))?.cast_into::<PyString>()?.unbind();
    class.setattr(intern!(py, "__doc__"), Bound::new(py, Doc { of_class })?)?;
    crate::refusals::fill(&class);
    Ok(())
}
