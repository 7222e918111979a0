//! Calls into a vat that runs on the event loop of another thread, and the waits for it.

use std::sync::LazyLock;

use goblins_core::error::KernelError;
use goblins_core::scheduling::Scheduling;
use goblins_core::vat::Vat as KernelVat;
use goblins_core::waits::{LoopId, Waiting, Waits};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::asyncio::running_loop;
use crate::calls::Args;
use crate::errors::kernel_error;
use crate::host::PyHost;

/// The threads of this process that run a loop and wait.
static WAITS: LazyLock<Waits> = LazyLock::new(Waits::new);

/// Notes that this thread waits for a vat; an error if it would never end. `forever`: there is no time after which
/// it gives up. Only a thread that runs a loop can be waited for in turn.
pub(crate) fn wait_for(
    py: Python<'_>,
    vat: &KernelVat<PyHost>,
    forever: bool,
) -> PyResult<Option<Waiting<'static>>> {
    let Scheduling::Loop(home) = vat.scheduling() else {
        return Ok(None);
    };
    let Some(home) = home.object(py) else {
        return Ok(None);
    };
    let Some(here) = running_loop(py)? else { return Ok(None) };
    if !forever && !here.is(&home) {
        return Ok(None);
    }
    let thread = py.import(intern!(py, "threading"))?.call_method0(intern!(py, "current_thread"))?;
    let name = thread.getattr(intern!(py, "name"))?.str()?;
    let id = |home: *mut pyo3::ffi::PyObject| LoopId(home as u64);
    let waiting = WAITS.begin(
        id(here.as_ptr()),
        &format!("thread {}", name.to_string_lossy()),
        id(home.as_ptr()),
        &vat.title(),
    );
    waiting.map(Some).map_err(|error| kernel_error(&error))
}

/// The loop of a vat that this thread does not run.
pub(crate) struct Elsewhere<'a, 'py> {
    home: Bound<'py, PyAny>,
    vat: &'a KernelVat<PyHost>,
}

impl<'a, 'py> Elsewhere<'a, 'py> {
    /// `None` if this thread may run the vat.
    pub(crate) fn of(py: Python<'py>, vat: &'a KernelVat<PyHost>) -> PyResult<Option<Self>> {
        let Scheduling::Loop(home) = vat.scheduling() else {
            return Ok(None);
        };
        let Some(home) = home.object(py) else {
            return Err(kernel_error(&KernelError::VatClosed { vat: vat.title().into_owned() }));
        };
        let here = running_loop(py)?.is_some_and(|here| here.is(&home));
        Ok((!here).then_some(Self { home, vat }))
    }

    /// Calls a function on the loop's thread, and waits for what it gives.
    pub(crate) fn call(
        &self,
        function: &Bound<'py, PyAny>,
        args: Args<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = function.py();
        let kwargs = args.dict(py)?.unwrap_or_else(|| PyDict::new(py));
        let waiting = wait_for(py, self.vat, true)?;
        let answer = py
            .import("goblins._asyncio")?
            .call_method1("call_on", (&self.home, self.vat.name(), function, args.tuple(py)?, kwargs));
        drop(waiting);
        answer
    }

    /// As above, for a method that takes a function and its arguments.
    pub(crate) fn call_method(
        &self,
        object: &Bound<'py, impl pyo3::PyClass>,
        method: &str,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut all = vec![function.clone()];
        all.extend(args.iter());
        let all = PyTuple::new(object.py(), all)?;
        self.call(&object.as_any().getattr(method)?, Args::Packed(&all, kwargs))
    }
}
