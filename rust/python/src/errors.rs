//! One place where the core's errors become Python's. The classes live in `goblins._errors`.

use std::ffi::CString;
#[cfg(not(Py_3_12))]
use std::ptr::null_mut;

use goblins_core::actor::ActorCell;
use goblins_core::error::KernelError;
use goblins_core::recording::Place;
use goblins_core::schema;
use goblins_core::store::StoreError;
use goblins_core::vat::OpenError;
use pyo3::exceptions::{PyBaseException, PyException, PyResourceWarning};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict, PyString, PyTraceback, PyType};

use crate::calls::{self, Args, call_with};
use crate::cbor::Problem;
use crate::host::PyHost;
use crate::interrupts::{again_if_interrupted, is_interrupt, write_unraisable};
use crate::once::once;

macro_rules! error_classes {
    ($($function:ident => $name:literal),* $(,)?) => {
        $(
            pub(crate) fn $function(message: impl Into<String>) -> PyErr {
                raise($name, message.into(), &[])
            }
        )*
    };
}

error_classes! {
    behavior_error => "BehaviorError",
    broken_promise => "BrokenPromiseError",
    far_call => "FarCallError",
    no_turn_error => "NoTurnError",
    no_such_method => "NoSuchMethodError",
    deadlock => "DeadlockError",
    migration_error => "MigrationError",
    goblins_error => "GoblinsError",
    persistence_error => "PersistenceError",
    store_corrupt => "StoreCorruptError",
}

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Hands over `goblins._errors`, before anything can fail: to import it then may be too late. The garbage
/// collector runs in any frame, and in some there is no `__import__`.
#[pyfunction]
pub(crate) fn _use_errors(py: Python<'_>, module: Py<PyModule>) {
    let _ = MODULE.set(py, module);
}

/// The modules of the package's first import, by name; empty until that is done.
#[pyfunction]
pub(crate) fn _first_modules(py: Python<'_>) -> &Bound<'_, PyDict> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    MODULES.get_or_init(py, || PyDict::new(py).unbind()).bind(py)
}

fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    once(py, &MODULE, || Ok(py.import("goblins._errors")?.unbind())).map(|module| module.bind(py))
}

/// The exception that stands for the problem of a broken promise (ASY-17).
pub(crate) fn as_exception(problem: Bound<'_, PyAny>) -> PyResult<PyErr> {
    let module = module(problem.py())?;
    Ok(PyErr::from_value(calls::call_attribute(module, "as_exception", (problem,))?))
}

/// An instance of a class of `goblins._errors`, with attributes.
fn raise(class: &str, message: String, attributes: &[(&str, Attribute)]) -> PyErr {
    Python::attach(|py| {
        let made = module(py).and_then(|module| {
            let class = module.getattr(class)?.cast_into::<PyType>()?;
            let error = class.call1((message,))?;
            for (name, value) in attributes {
                match value {
                    Attribute::Text(text) => error.setattr(*name, text)?,
                    Attribute::Number(number) => error.setattr(*name, number)?,
                }
            }
            Ok(PyErr::from_value(error))
        });
        made.unwrap_or_else(|error| error)
    })
}

enum Attribute {
    Text(String),
    Number(u64),
}

/// An error as the core keeps it: an object that can be shown to the garbage collector, which a `PyErr` can't.
/// Its traceback may well lead back to the promise that was broken with it.
///
/// Whoever raises an exception adds to its traceback. An error is given to any number of those who wait, and each gets
/// it with the traceback that it had in the beginning.
pub(crate) struct Fault(Box<Kept>);

struct Kept {
    error: Py<PyBaseException>,
    traceback: Option<Py<PyTraceback>>,
    /// It belongs to the state of an actor, and can be changed: others get copies.
    sealed: bool,
}

impl Fault {
    fn new(error: Bound<'_, PyBaseException>) -> Self {
        // SAFETY: the error is an exception; this gives an owned reference, or null.
        let traceback = unsafe {
            let traceback = ffi::PyException_GetTraceback(error.as_ptr());
            Bound::from_owned_ptr_or_opt(error.py(), traceback)
        };
        let traceback = traceback.and_then(|traceback| Some(traceback.cast_into().ok()?.unbind()));
        Self(Box::new(Kept { error: error.unbind(), traceback, sealed: false }))
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        let traceback = self.0.traceback.as_ref().map(|traceback| traceback.clone_ref(py));
        Self(Box::new(Kept { error: self.0.error.clone_ref(py), traceback, sealed: self.0.sealed }))
    }

    /// The exception, with its first traceback.
    pub(crate) fn value(&self, py: Python<'_>) -> Py<PyBaseException> {
        let traceback = self
            .0
            .traceback
            .as_ref()
            .map_or_else(|| py.None(), |traceback| traceback.clone_ref(py).into_any());
        let own = if self.0.sealed { copy_if_it_changes(py, &self.0.error) } else { None };
        let error = own.unwrap_or_else(|| self.0.error.clone_ref(py));
        // SAFETY: an exception, and a traceback or None. With these it can't fail.
        unsafe { ffi::PyException_SetTraceback(error.as_ptr(), traceback.as_ptr()) };
        error
    }

    /// The error as that of a promise in the state of an actor: who asks for it can't change what is stored.
    pub(crate) fn sealed(mut self, py: Python<'_>) -> Self {
        if !self.0.sealed
            && let Some(copy) = copy_if_it_changes(py, &self.0.error)
        {
            self.0.error = copy;
            self.0.sealed = true;
        }
        self
    }

    /// Whether both are the same exception.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.error.is(&other.0.error)
    }

    /// The name of its class, which can be had of an exception that the collector has emptied as well.
    pub(crate) fn class_name(&self, py: Python<'_>) -> String {
        let class = self.0.error.bind(py).get_type();
        class.fully_qualified_name().map_or_else(|_| "(without a name)".to_owned(), |name| name.to_string())
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0.error)?;
        visit.call(&self.0.traceback)
    }

    /// The error as that of a promise: one that says that a task is cancelled would cancel whoever waits.
    pub(crate) fn of_a_promise(self, py: Python<'_>) -> Self {
        let error = self.0.error.bind(py).clone();
        if error.is_instance_of::<PyException>() || is_interrupt(py, &error) {
            return self;
        }
        match again_if_interrupted(py, || as_exception(error.clone().into_any())) {
            Ok(error) => error.into(),
            Err(_) => self,
        }
    }
}

/// A copy of an error that is stored with containers in it; `None` for others.
#[cold]
fn copy_if_it_changes(py: Python<'_>, error: &Py<PyBaseException>) -> Option<Py<PyBaseException>> {
    let copy = || {
        let module = py.import("goblins._broken")?;
        let copy = calls::call_attribute(module.as_any(), "copy_if_it_changes", (error,))?;
        PyResult::Ok(copy.cast_into::<PyBaseException>().ok().map(Bound::unbind))
    };
    again_if_interrupted(py, copy).ok().flatten()
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Python::attach(|py| Self::new(error.into_value(py).into_bound(py)))
    }
}

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        Python::attach(|py| Self::from_value(fault.value(py).into_bound(py).into_any()))
    }
}

/// What was asked needs a turn.
pub(crate) fn no_turn(what: &str) -> PyErr {
    no_turn_error(format!(
        "{what} works only in a turn: inside a behavior, or outside in `with vat:` or `vat.run(...)`"
    ))
}

/// A value in a portrait can't be stored.
pub(crate) fn not_portable(
    actor: &str,
    label: &str,
    slot: u64,
    vat: &str,
    path: &str,
    reason: &str,
) -> PyErr {
    let advice = match reason {
        // Some reasons say themselves what to do.
        _ if reason.contains(": add it ") => "",
        _ if reason.starts_with("a value of type coroutine") => {
            ", which nobody has awaited; await it, and keep what it gives"
        }
        _ => "; keep it out of the constructor's arguments, or replace it by plain data or by a Ref",
    };
    let message = format!("{actor} can't be stored: {path} is {reason}{advice}");
    let [label, slot, vat, path] = place(label, slot, vat, path);
    let what = reason.split(", ").next().unwrap_or(reason);
    let what = ("what", Attribute::Text(what.trim_start_matches("a value of type ").to_owned()));
    raise("NotPortableError", message, &[label, slot, vat, path, what])
}

/// A value is nested too deeply to be copied.
pub(crate) fn too_deep(most: usize) -> PyErr {
    let message = format!(
        "a value in a field of an actor is nested more than {most} levels deep: make actors of its parts, which refer \
         to each other"
    );
    raise("NotPortableError", message, &[])
}

/// A container stands in so many places that its copies take too much room.
pub(crate) fn too_many_copies() -> PyErr {
    let message = "a container stands in so many places of a field that a copy for each takes too much memory: make \
                   an actor of it, which may be referred to from anywhere";
    raise("NotPortableError", message.to_owned(), &[])
}

/// Something leads to what belongs to an actor alone.
pub(crate) fn not_handed_out(holder: &str) -> PyErr {
    let message = format!(
        "{holder} leads to a container in a field of an actor, so others could change it without the actor: hand out \
         a copy, such as list(...) or dict(...)"
    );
    raise("NotPortableError", message, &[])
}

/// A behavior changes a variable that no portrait shows.
pub(crate) fn hidden_state(
    actor: &str,
    label: &str,
    slot: u64,
    vat: &str,
    function: &str,
    variable: &str,
) -> PyErr {
    let message = format!(
        "{actor} can't be stored: {function} rebinds `{variable}` with nonlocal, which would not be stored: use bcom, \
         or a class of actors"
    );
    raise("NotPortableError", message, &place(label, slot, vat, &format!("{function}.{variable}")))
}

fn place(label: &str, slot: u64, vat: &str, path: &str) -> [(&'static str, Attribute); 4] {
    [
        ("label", Attribute::Text(label.to_owned())),
        ("slot", Attribute::Number(slot)),
        ("vat", Attribute::Text(vat.to_owned())),
        ("path", Attribute::Text(path.to_owned())),
    ]
}

/// A label that a record has is not in the environment.
pub(crate) fn unknown_label(message: String, label: &str, count: u64, slot: u64) -> PyErr {
    let attributes = [
        ("label", Attribute::Text(label.to_owned())),
        ("count", Attribute::Number(count)),
        ("slot", Attribute::Number(slot)),
    ];
    raise("UnknownLabelError", message, &attributes)
}

/// A stored record does not fit the classes that the environment has.
pub(crate) fn record_error(place: &str, path: &str, problem: &Problem, slot: u64) -> PyErr {
    let path_of = ("path", Attribute::Text(path.to_owned()));
    match problem {
        Problem::UnknownRecord(name) => {
            let message = format!(
                "{place} can't be read: {path} is a record named {name:?}, which is not in the environment: add its \
                 class to records="
            );
            let (name, slot) = (Attribute::Text(name.clone()), Attribute::Number(slot));
            raise("UnknownLabelError", message, &[("label", name), ("slot", slot), path_of])
        }
        Problem::Changed(how) => {
            raise("MigrationError", format!("{place} can't be read: {path} {how}"), &[path_of])
        }
    }
}

/// What is stored of an actor is not what was written.
pub(crate) fn damaged_actor(cell: &ActorCell<PyHost>, reason: &str) -> PyErr {
    match cell.vat().persistence() {
        Some(persistence) => {
            let key = schema::actor_key(persistence.claim().part(), cell.slot());
            store_error(&schema::corrupt(&persistence.claim().storage().name(), &key, reason))
        }
        None => persistence_error(reason),
    }
}

/// Warns of what was collected without having been closed.
pub(crate) fn warn_unclosed(py: Python<'_>, what: &str) {
    let message = format!("unclosed {what}: close it, or open it in a `with` block");
    aside(py, |py| {
        let warned = CString::new(message.replace('\0', " "))
            .map_err(PyErr::from)
            .and_then(|message| PyErr::warn(py, &py.get_type::<PyResourceWarning>(), &message, 1));
        if let Err(error) = warned {
            write_unraisable(py, error, None);
        }
    });
}

pub(crate) fn store_error(error: &StoreError) -> PyErr {
    raise_store_error(error, error.to_string())
}

fn raise_store_error(error: &StoreError, message: String) -> PyErr {
    match error {
        StoreError::Locked { path, pid, host, command, .. } => {
            let attributes = [
                ("path", Attribute::Text(path.display().to_string())),
                ("pid", Attribute::Number(u64::from(*pid))),
                ("host", Attribute::Text(host.clone())),
                ("command", Attribute::Text(command.clone())),
            ];
            raise("StoreLockedError", message, &attributes)
        }
        StoreError::PartInUse { .. } => raise("StoreLockedError", message, &[]),
        StoreError::Corrupt { .. } => raise("StoreCorruptError", message, &[]),
        StoreError::Full { .. } => raise("StoreFullError", message, &[]),
        StoreError::BeingCollected { .. } => raise("DeadlockError", message, &[]),
        _ => raise("StoreError", message, &[]),
    }
}

pub(crate) fn open_error(error: &OpenError) -> PyErr {
    match error {
        OpenError::Store(error) => store_error(error),
        OpenError::UnknownLabel { unfit, .. } => {
            unknown_label(error.to_string(), &unfit.label, unfit.count, unfit.slot.0)
        }
        OpenError::Misfit { .. } => migration_error(error.to_string()),
        other => persistence_error(other.to_string()),
    }
}

pub(crate) fn kernel_error(error: &KernelError) -> PyErr {
    let class = match error {
        KernelError::Store(store) => return store_error(store),
        KernelError::VatClosed { .. } | KernelError::NoSteps { .. } => "VatClosedError",
        // Whoever comes later is told the same as who came first.
        KernelError::Poisoned { cause, .. } => return raise_store_error(cause, error.to_string()),
        KernelError::NotPersistent { .. }
        | KernelError::WithoutId { .. }
        | KernelError::NotReopened { .. }
        | KernelError::Unsaved { .. } => "PersistenceError",
        KernelError::MissingRecord { .. } => "StoreCorruptError",
        KernelError::StaleBecome { .. }
        | KernelError::LateBecome { .. }
        | KernelError::ForeignBecome { .. } => "BehaviorError",
        KernelError::NotAnActor { .. } | KernelError::PromiseCycle => "BrokenPromiseError",
        KernelError::FarRoot { .. } | KernelError::WithoutStore { .. } | KernelError::OfView { .. } => {
            "NotPortableError"
        }
        KernelError::NotStored { .. }
        | KernelError::NoSuchActor { .. }
        | KernelError::NotYetSpawned { .. } => "NoSuchActorError",
        KernelError::NotInLog { .. } => "EventLogError",
        KernelError::WrongMoment { .. } => "NoTurnError",
        KernelError::TimedOut { .. } => "VatTimeoutError",
        KernelError::Deadlock { .. } | KernelError::BeingMade { .. } => "DeadlockError",
        KernelError::InboxFull { .. } => "InboxFullError",
        _ => "GoblinsError",
    };
    raise(class, error.to_string(), &[])
}

/// Logs an error that nobody will get to see, on the logger `goblins`.
pub(crate) fn log_unheard(py: Python<'_>, message: &str, error: &Fault) {
    let log = || -> PyResult<()> {
        let logger = module(py)?.getattr("logger")?;
        let error = error.value(py);
        let keywords: Bound<'_, PyDict> = [("exc_info", error)].into_py_dict(py)?;
        Args::Packed(&("%s", message).into_pyobject(py)?, Some(&keywords)).call(&logger.getattr("error")?)?;
        Ok(())
    };
    if let Err(failure) = again_if_interrupted(py, log) {
        write_unraisable(py, failure, None);
    }
}

/// Logs that an error went unheard which can't be looked into any more.
pub(crate) fn log_without_error(py: Python<'_>, message: &str) {
    let logged = module(py)
        .and_then(|module| calls::call_attribute(&module.getattr("logger")?, "error", ("%s", message)));
    if let Err(failure) = logged {
        write_unraisable(py, failure, None);
    }
}

/// Logs that a turn takes long, and where its thread is.
pub(crate) fn log_slow_turn(py: Python<'_>, vat: &str, thread: u64, lasting: std::time::Duration) {
    let logged = module(py)
        .and_then(|module| module.getattr("log_slow_turn"))
        .and_then(|log| call_with(&log, (vat, thread, lasting.as_secs_f64())));
    if let Err(failure) = logged {
        write_unraisable(py, failure, None);
    }
}

/// Logs what is no error, on the logger `goblins`.
pub(crate) fn log_warning(py: Python<'_>, message: &str) {
    aside(py, |py| {
        let logged = module(py)
            .and_then(|module| module.getattr("logger")?.getattr("warning"))
            .and_then(|log| call_with(&log, ("%s", message)));
        if let Err(failure) = logged {
            write_unraisable(py, failure, None);
        }
    });
}

/// Logs that turns copy much to be able to undo changes of a field.
pub(crate) fn log_large_field(class: &str, field: &Bound<'_, PyString>, entries: usize) {
    let py = field.py();
    let logged =
        module(py).and_then(|module| module.call_method1("log_large_field", (class, field, entries)));
    if let Err(failure) = logged {
        write_unraisable(py, failure, None);
    }
}

/// Says in the error of a portrait how its actor is reached.
pub(crate) fn add_trail(py: Python<'_>, error: &Fault, way: &str, actor: &str) {
    let told =
        again_if_interrupted(py, || module(py)?.call_method1("add_trail", (error.value(py), way, actor)));
    // An error that can't be changed goes on as it is.
    drop(told);
}

/// Runs code of the end of an object's life. That may come while an error is on its way, which goes on afterwards.
#[cfg(Py_3_12)]
pub(crate) fn aside(py: Python<'_>, code: impl FnOnce(Python<'_>)) {
    // SAFETY: the thread is attached. Takes the error that is set, if any, to set the same again.
    let error = unsafe { ffi::PyErr_GetRaisedException() };
    code(py);
    // SAFETY: as above.
    unsafe { ffi::PyErr_SetRaisedException(error) };
}

/// As above.
#[cfg(not(Py_3_12))]
pub(crate) fn aside(py: Python<'_>, code: impl FnOnce(Python<'_>)) {
    let (mut kind, mut value, mut trace) = (null_mut(), null_mut(), null_mut());
    // SAFETY: the thread is attached. Takes the error that is set, if any, to set the same again.
    unsafe { ffi::PyErr_Fetch(&raw mut kind, &raw mut value, &raw mut trace) };
    code(py);
    // SAFETY: as above.
    unsafe { ffi::PyErr_Restore(kind, value, trace) };
}

/// Adds a note to an error.
pub(crate) fn add_note(py: Python<'_>, error: &Fault, text: &str) {
    // An error that takes no notes goes on without.
    drop(again_if_interrupted(py, || error.value(py).bind(py).call_method1("add_note", (text,))));
}

/// Notes in an error where it left a turn, unless an earlier turn has done so.
pub(crate) fn note(py: Python<'_>, error: &Fault, place: &Place<'_, PyHost>) {
    let mut text = "in ".to_owned();
    if let Some(actor) = place.actor {
        text += &actor.get().title(py);
        if let Some(method) = place.method {
            text += ".";
            text += &method.bind(py).to_string_lossy();
        }
        text += ", ";
    }
    text += &format!("turn {} of vat {}", place.turn, place.vat.title());
    if let Some(event) = place.event {
        text += &format!(", event {event} of its log");
    }
    let noted = again_if_interrupted(py, || module(py)?.call_method1("add_place", (error.value(py), &text)));
    // An error that takes no notes goes on without.
    drop(noted);
}
