//! Vats whose turns run on an event loop of asyncio, and waits for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use goblins_core::error::KernelError;
use goblins_core::fork::is_forked;
use goblins_core::scheduling::Scheduling;
use goblins_core::vat::Vat as KernelVat;
use goblins_core::waits::{LoopId, Waiting, Waits};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::calls::{self, Args};
use crate::errors::{aside, kernel_error, log_unheard};
use crate::host::PyHost;
use crate::interrupts;

/// The threads of this process that run a loop and wait.
static WAITS: LazyLock<Waits> = LazyLock::new(Waits::new);
/// Whether any vat ever ran on a loop.
static USED: AtomicBool = AtomicBool::new(false);

/// A loop of asyncio. Weak where it can be: a loop may refer to what refers to its vat, and the collector does not see
/// what the kernel's part of a vat holds. One that runs is held by who runs it.
pub(crate) enum EventLoop {
    Weak(Py<PyWeakrefReference>),
    Strong(Py<PyAny>),
}

impl EventLoop {
    /// The loop that was given, or the one that runs on this thread.
    pub(crate) fn new(py: Python<'_>, given: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let chosen = match given {
            Some(given) => given,
            None => py.import("asyncio")?.call_method0("get_running_loop")?,
        };
        // What is no loop is found now, not when the first message comes.
        chosen.getattr(intern!(py, "call_soon_threadsafe"))?;
        USED.store(true, Ordering::Relaxed);
        match PyWeakrefReference::new(&chosen) {
            Ok(weak) => Ok(Self::Weak(weak.unbind())),
            Err(error) if error.is_instance_of::<PyTypeError>(py) => Ok(Self::Strong(chosen.unbind())),
            Err(error) => Err(error),
        }
    }

    /// The loop itself; `None` if it is gone.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Weak(weak) => weak.bind(py).upgrade(),
            Self::Strong(home) => Some(home.bind(py).clone()),
        }
    }

    /// Tells the loop to run the vat.
    pub(crate) fn call_soon(&self, py: Python<'_>, vat: &Arc<KernelVat<PyHost>>) {
        let tell = || {
            let Some(home) = self.object(py) else {
                // What a loop that is gone has not called tells the vat, as with one that is closed.
                return Bound::new(py, Work { vat: vat.clone(), called: AtomicBool::new(false) }).map(drop);
            };
            let work = Bound::new(py, Work { vat: vat.clone(), called: AtomicBool::new(false) })?;
            let call_soon = home.getattr(intern!(py, "call_soon_threadsafe"))?;
            interrupts::again_if_interrupted(py, || calls::call_with(&call_soon, (&work,))).map(drop)
        };
        // If it is closed, the vat has been told: by what was not called.
        if let (Err(error), false) = (tell(), self.is_closed(py)) {
            log_unheard(
                py,
                &format!("vat {}: its event loop takes no more messages", vat.name()),
                &error.into(),
            );
        }
    }

    fn is_closed(&self, py: Python<'_>) -> bool {
        let Some(home) = self.object(py) else {
            return true;
        };
        let closed = home.call_method0(intern!(py, "is_closed"));
        closed.and_then(|closed| closed.is_truthy()).unwrap_or(false)
    }
}

/// What the loop calls. A loop that is closed drops what it has not called yet: then nobody will run the vat.
#[pyclass(frozen, module = "goblins", name = "_Work")]
struct Work {
    vat: Arc<KernelVat<PyHost>>,
    called: AtomicBool,
}

#[pymethods]
impl Work {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.called.store(true, Ordering::Relaxed);
        Ok(self.vat.work(py)?)
    }

    fn __repr__(&self) -> String {
        format!("<messages of vat {}>", self.vat.name())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.called.load(Ordering::Relaxed) || is_forked() {
            return;
        }
        // At exit nobody waits any more.
        Python::try_attach(|py| {
            aside(py, |py| {
                if let Scheduling::Loop(home) = self.vat.scheduling()
                    && home.is_closed(py)
                {
                    self.vat.forsake(py);
                }
            });
        });
    }
}

/// The loop that runs on this thread, or None.
fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "asyncio"))?.call_method0(intern!(py, "_get_running_loop"))
}

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
    let here = running_loop(py)?;
    if here.is_none() || !(forever || here.is(&home)) {
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

/// Whether any vat ever ran on a loop.
pub(crate) fn are_used() -> bool {
    USED.load(Ordering::Relaxed)
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
        let here = running_loop(py)?;
        Ok((!here.is(&home)).then_some(Self { home, vat }))
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
