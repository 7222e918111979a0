//! `Vat`, and the `with vat:` block.

use std::cell::RefCell;
use std::sync::Arc;

use goblins_core::error::KernelError;
use goblins_core::vat::{Session, Vat as KernelVat, VatOptions};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::calls::Args;
use crate::coroutine;
use crate::current::current;
use crate::errors::{deadlock, far_call, kernel_error, no_turn_error};
use crate::host::PyHost;
use crate::promise::seconds;
use crate::refs::Ref;
use crate::runtime::{check, runtime};

/// An event loop with its actors; it handles one message at a time.
#[pyclass(frozen, weakref, module = "goblins", name = "Vat")]
pub(crate) struct Vat {
    pub(crate) vat: Arc<KernelVat<PyHost>>,
    /// Kept alive as long as the vat is: what is stored must be reachable from them.
    roots: Mutex<Vec<Py<Ref>>>,
}

/// A `with vat:` block of this thread.
enum Block {
    /// It opened a turn.
    Outer(Session<PyHost>),
    /// It stands in a turn of the same vat, and is part of it.
    Inner,
}

thread_local! {
    static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// How many `with vat:` blocks are open on this thread.
pub(crate) fn open_blocks() -> usize {
    BLOCKS.with(|blocks| blocks.borrow().len())
}

impl Vat {
    pub(crate) fn new_with_roots(vat: Arc<KernelVat<PyHost>>, roots: Vec<Py<Ref>>) -> Self {
        Self { vat, roots: Mutex::new(roots) }
    }

    /// Whether this thread is in a turn of this vat; an error in that of another.
    fn is_inside(&self, what: &str) -> PyResult<bool> {
        match current() {
            None => check().map(|()| false),
            Some(churn) if !churn.in_turn() => {
                Err(no_turn_error(format!("{what} can't be used in a finalizer that runs between two turns")))
            }
            Some(churn) if Arc::ptr_eq(churn.vat(), &self.vat) => Ok(true),
            Some(churn) => Err(far_call(format!(
                "{what} of vat {} can't be used in a turn of vat {}: use send(...) to its actors",
                self.vat.name(),
                churn.vat().name()
            ))),
        }
    }

    fn refuse_in_turn(&self, what: &str) -> PyResult<()> {
        match current() {
            None => check(),
            Some(churn) => Err(deadlock(format!(
                "{what} of vat {} would block vat {}, whose turn this is",
                self.vat.name(),
                churn.vat().name()
            ))),
        }
    }
}

#[pymethods]
impl Vat {
    #[new]
    #[pyo3(signature = (name=None, *, log=false, log_capacity=256))]
    fn new(name: Option<String>, log: bool, log_capacity: usize) -> PyResult<Self> {
        check()?;
        if log_capacity == 0 {
            return Err(PyValueError::new_err("log_capacity is a number of events, at least 1, not 0"));
        }
        let options = VatOptions { name, log_capacity: log.then_some(log_capacity) };
        Ok(Self::new_with_roots(KernelVat::new(runtime(), options), Vec::new()))
    }

    #[getter]
    fn name(&self) -> &str {
        self.vat.name()
    }

    /// Calls a function as one turn of this vat, with all that comes of it; returns what it returned.
    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn run<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.is_inside("run(...)")? {
            return Args::Packed(args, kwargs).call(function);
        }
        self.vat.run(function.py(), |churn| {
            coroutine::started(churn, None, Args::Packed(args, kwargs).call(function)?)
        })
    }

    /// Makes an actor in this vat, in a turn of its own.
    #[pyo3(signature = (constructor, /, *args, **kwargs))]
    fn spawn<'py>(
        &self,
        constructor: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Ref>> {
        if self.is_inside("spawn(...)")? {
            return crate::send::spawn(constructor, args, kwargs);
        }
        self.vat.run(constructor.py(), |_| crate::send::spawn(constructor, args, kwargs))
    }

    /// Waits until the vat has nothing left to do.
    #[pyo3(signature = (timeout=None))]
    fn drain(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.refuse_in_turn("drain()")?;
        self.vat.drain(py, timeout.map(seconds).transpose()?.flatten())
    }

    /// Returns when all that this vat did is in its store. It saves by itself after each churn.
    fn save(&self, py: Python<'_>) -> PyResult<()> {
        self.refuse_in_turn("save()")?;
        if self.vat.persistence().is_none() {
            return Err(kernel_error(&KernelError::NotPersistent { vat: self.vat.name().to_owned() }));
        }
        self.vat.run(py, |_| Ok(()))
    }

    /// Closes the vat: the running turn ends, waiting messages are broken. Closing twice does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.refuse_in_turn("close()")?;
        self.vat.close(py)?;
        let roots = std::mem::take(&mut *self.roots.lock());
        drop(roots);
        Ok(())
    }

    #[getter]
    fn closed(&self) -> bool {
        self.vat.is_closed()
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let this = slf.get();
        let block = if this.is_inside("with vat:")? {
            Block::Inner
        } else {
            let session = this.vat.enter(slf.py())?;
            session.churn().begin_turn();
            Block::Outer(session)
        };
        BLOCKS.with(|blocks| blocks.borrow_mut().push(block));
        Ok(slf.clone())
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let block = BLOCKS.with(|blocks| blocks.borrow_mut().pop());
        let session = match block {
            None => {
                return Err(no_turn_error(
                    "`with vat:` ends where it did not begin: it must be left once, on the thread that entered it",
                ));
            }
            Some(Block::Inner) => return Ok(false),
            Some(Block::Outer(session)) => session,
        };
        let failed = !error.is_none();
        let result = if failed { Err(PyErr::from_value(error.clone())) } else { Ok(()) };
        let ended = session.churn().clone().end_turn(py, result);
        let finished = session.finish(py);
        // The block's own error goes on by itself.
        if !failed {
            ended?;
        }
        finished.map(|()| false)
    }

    fn __repr__(&self) -> String {
        format!("<Vat {}{}>", self.vat.name(), if self.vat.is_closed() { " (closed)" } else { "" })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.roots.try_lock() {
            Some(roots) => roots.iter().try_for_each(|root| visit.call(root)),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let roots = self.roots.try_lock().map(|mut roots| std::mem::take(&mut *roots));
        drop(roots);
    }
}
