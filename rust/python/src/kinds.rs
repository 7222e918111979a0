//! What kind of message one is: which code will handle it.

use std::time::Duration;

use goblins_core::actor::Life;
use goblins_core::pace::{Kind, Usage};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyString};

use crate::behavior;
use crate::class_actor;
use crate::methods::Methods;
use crate::refs::Ref;

/// The kind of a message to an actor. Nothing here runs Python code. An actor that is not in memory has none, since to
/// make it may take long.
pub(crate) fn kind(actor: &Bound<'_, Ref>, method: Option<&Bound<'_, PyString>>) -> Option<Kind> {
    let py = actor.py();
    let cell = &actor.get().cell;
    let behavior = match cell.state().life() {
        Life::Live(behavior) => behavior.clone_ref(py),
        Life::Ghost | Life::Gone => return None,
    };
    let code = behavior::code(behavior.bind(py));
    let name = match method {
        Some(method) => method.hash().ok()? as u64,
        None => 0,
    };
    if let Some(instance) = class_actor::instance(code) {
        return Some(mixed(instance.get_type().as_ptr(), name));
    }
    if let (Ok(methods), Some(method)) = (code.cast_exact::<Methods>(), method) {
        let function = methods.get().own(method).ok()??;
        return Some(mixed(code_of(&function)?, name));
    }
    match code_of(code) {
        Some(function) => Some(mixed(function, name)),
        // An object that can be called: of this actor only.
        None => Some(mixed(actor.as_ptr(), name)),
    }
}

/// The code of a function that is written in Python.
fn code_of(function: &Bound<'_, PyAny>) -> Option<*mut ffi::PyObject> {
    let function = function.cast_exact::<PyFunction>().ok()?;
    // SAFETY: it is a function; what it gives is borrowed from that.
    let code = unsafe { ffi::PyFunction_GetCode(function.as_ptr()) };
    (!code.is_null()).then_some(code)
}

/// How often this thread has given up its processor by itself, and how long it has had one.
#[cfg(target_os = "linux")]
pub(crate) fn usage() -> Option<Usage> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: it writes the whole of it, unless it fails.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        let (seconds, micros) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_usec).ok()?);
        Some(Duration::from_secs(seconds) + Duration::from_micros(micros))
    };
    let processor = time(usage.ru_utime)? + time(usage.ru_stime)?;
    Some(Usage { waits: u64::try_from(usage.ru_nvcsw).ok()?, processor })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn usage() -> Option<Usage> {
    None
}

fn mixed(code: *mut ffi::PyObject, name: u64) -> Kind {
    Kind((code.addr() as u64 >> 4) ^ name.rotate_left(24))
}
