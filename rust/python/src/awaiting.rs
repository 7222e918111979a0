//! `await promise` outside of turns, in an event loop of asyncio.

use std::sync::Once;

use goblins_core::promise::{Outcome, Waiter};
use goblins_core::wait_outside;
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use crate::asyncio;
use crate::calls::{self, Sent};
use crate::errors::Fault;
use crate::event_loop::EventLoop;
use crate::host::{PyHost, Waker};
use crate::promise::Promise;
use crate::sealed;

/// One who waits for a promise in an event loop, as `await` has it.
#[pyclass(frozen, module = "goblins", name = "_Waiting")]
pub(crate) struct Waiting {
    promise: Py<Promise>,
    stage: Mutex<Stage>,
}

enum Stage {
    New,
    /// The task is woken by this future.
    Waits(Py<PyAny>),
    Over,
}

/// Waits in whatever runs here.
pub(crate) fn wait<'py>(promise: &Bound<'py, Promise>) -> PyResult<Bound<'py, PyAny>> {
    let py = promise.py();
    if asyncio::modules(py)?.contains(intern!(py, "trio"))? {
        let module = py.import("goblins._asyncio")?;
        if module.call_method0("runs_in_trio")?.is_truthy()? {
            return module.call_method1("wait_in_trio", (promise,));
        }
    }
    let waiting = Waiting { promise: promise.clone().unbind(), stage: Mutex::new(Stage::New) };
    let waiting = Bound::new(py, waiting)?;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let class = waiting.get_type().as_type_ptr();
        // SAFETY: the class is ours, and one that was made at run time has room for these functions. It is attached.
        if let Some(methods) = unsafe { (*class).tp_as_async.as_mut() } {
            methods.am_send = Some(send);
        }
    });
    Ok(waiting.into_any())
}

/// How `await` goes on without an exception for the value.
unsafe extern "C" fn send(
    waiting: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let sent = Python::try_attach(|py| {
        // SAFETY: the interpreter calls this with an object of the class.
        let waiting = unsafe { Borrowed::from_ptr(py, waiting).cast_unchecked::<Waiting>() };
        match calls::guarded(|| waiting.get().go_on(py)) {
            Ok(Sent::Yielded(future)) => (ffi::PySendResult::PYGEN_NEXT, future.into_ptr()),
            Ok(Sent::Returned(value)) => (ffi::PySendResult::PYGEN_RETURN, value.into_ptr()),
            Err(error) => {
                error.restore(py);
                (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
            }
        }
    });
    let (state, found) = sent.unwrap_or_else(|| {
        // SAFETY: the interpreter itself calls this, though it is about to end.
        let py = unsafe { Python::assume_attached() };
        PyRuntimeError::new_err("the interpreter is shutting down: nothing is awaited any more").restore(py);
        (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
    });
    // SAFETY: the interpreter gives a place for the result.
    unsafe { *result = found };
    state
}

#[pymethods]
impl Waiting {
    fn __iter__(slf: &Bound<'_, Self>) -> Py<Self> {
        slf.clone().unbind()
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.go_on(py)? {
            Sent::Yielded(future) => Ok(future),
            Sent::Returned(value) => Err(PyStopIteration::new_err((value.unbind(),))),
        }
    }

    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)
    }

    /// The task is cancelled, say.
    #[pyo3(signature = (error, value=None, _traceback=None))]
    fn throw(
        &self,
        error: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.give_up();
        match value.filter(|value| !value.is_none()) {
            Some(value) => Err(PyErr::from_value(value.clone())),
            None => Err(PyErr::from_value(error.clone())),
        }
    }

    fn close(&self) {
        self.give_up();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.promise)?;
        match self.stage.try_lock().as_deref() {
            Some(Stage::Waits(future)) => visit.call(future),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        self.give_up();
    }
}

impl Waiting {
    fn go_on<'py>(&self, py: Python<'py>) -> PyResult<Sent<'py>> {
        let promise = self.promise.get();
        if let Some(outcome) = promise.cell.outcome(py, None) {
            drop(self.change(Stage::Over));
            return returned(py, outcome);
        }
        match self.change(Stage::Over) {
            Stage::New => {}
            Stage::Over => return Ok(Sent::Returned(py.None().into_bound(py))),
            Stage::Waits(future) => return Err(self.woken_too_early(py, future)),
        }
        let Some((home, known)) = EventLoop::here(py)? else {
            return Err(PyRuntimeError::new_err(
                "a promise can be awaited where an event loop of asyncio or trio runs: no running event loop",
            ));
        };
        if let Some(vat) = promise.helper() {
            known.assist(&home, vat)?;
            // What that ran may have forked.
            crate::runtime::check()?;
            if let Some(outcome) = promise.cell.outcome(py, None) {
                return returned(py, outcome);
            }
        }
        let future = home.call_method0(intern!(py, "create_future"))?;
        let waker = Waker::Future { future: future.clone().unbind(), home: known };
        wait_outside::<PyHost>(py, &self.promise, Waiter::Outside(waker));
        drop(self.change(Stage::Waits(future.clone().unbind())));
        // So a task knows that it is awaited, and not returned by mistake.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        Ok(Sent::Yielded(future))
    }

    fn change(&self, stage: Stage) -> Stage {
        std::mem::replace(&mut *self.stage.lock(), stage)
    }

    /// The promise need not keep one who waits no longer.
    fn give_up(&self) {
        if let Stage::Waits(future) = self.change(Stage::Over) {
            let gone = self.promise.get().cell.forget(future.as_ptr() as usize);
            drop((gone, future));
        }
    }

    /// Somebody goes on though the promise has not settled: the future was cancelled, or is not what is waited for.
    fn woken_too_early(&self, py: Python<'_>, future: Py<PyAny>) -> PyErr {
        let cancelled = future.bind(py).call_method0(intern!(py, "cancelled"));
        let cancelled = cancelled.and_then(|cancelled| cancelled.is_truthy());
        let error = match cancelled {
            Ok(true) => future.bind(py).call_method0(intern!(py, "result")).err(),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        drop(self.change(Stage::Waits(future)));
        self.give_up();
        error.unwrap_or_else(|| PyRuntimeError::new_err("await wasn't used with a future of the loop"))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// What ends an `await`.
fn returned(py: Python<'_>, outcome: Outcome<PyHost>) -> PyResult<Sent<'_>> {
    match outcome {
        Outcome::Fulfilled(value) => sealed::opened(py, value).map(Sent::Returned),
        Outcome::Broken(error) => Err(as_error(py, error)),
    }
}

fn as_error(py: Python<'_>, error: Fault) -> PyErr {
    let error = PyErr::from(error);
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    // It would be taken for the value.
    let text = error.value(py).repr().map_or_else(|_| "StopIteration".to_owned(), |text| text.to_string());
    PyRuntimeError::new_err(format!("the promise was broken with {text}"))
}
