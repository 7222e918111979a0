//! `Vat`, and the `with vat:` block.

use std::sync::Arc;

use goblins_core::error::KernelError;
use goblins_core::fork::is_forked;
use goblins_core::promise::{Outcome, Reaction, Waiter};
use goblins_core::scheduling::Scheduling;
use goblins_core::vat::Vat as KernelVat;
use goblins_core::{settle_outside, wait_outside};
use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::blocks;
use crate::calls::Args;
use crate::coroutine;
use crate::current::{check_entry, current};
use crate::elsewhere::Elsewhere;
use crate::errors::{aside, deadlock, far_call, kernel_error, no_turn_error};
use crate::event_loop::EventLoop;
use crate::handing_out;
use crate::host::{Handler, PyHost};
use crate::log::{self, Log};
use crate::opening::Opening;
use crate::promise::{Promise, seconds, visit_task};
use crate::refs::Ref;
use crate::runtime::{check, runtime};
use crate::stores;
use crate::wishes::{Seconds, Settings, Wishes, patience, room};

/// An event loop with its actors; it handles one message at a time.
#[pyclass(subclass, frozen, weakref, module = "goblins", name = "Vat")]
pub(crate) struct Vat {
    pub(crate) vat: Arc<KernelVat<PyHost>>,
    /// Kept alive as long as the vat is: what is stored must be reachable from them.
    roots: Mutex<Vec<Py<Ref>>>,
    /// The event loop that runs it, if one does.
    home: Mutex<Option<Py<PyAny>>>,
}

impl Vat {
    pub(crate) fn make(
        py: Python<'_>,
        wishes: Wishes<'_, '_>,
        scheduling: Scheduling<Arc<EventLoop>>,
    ) -> PyResult<Self> {
        check()?;
        let Settings { options, log_capacity, inbox_limit, slow_turn } = wishes.settle()?;
        let vat = match wishes.opening {
            None => KernelVat::new(runtime(), options),
            Some(opening) => opening.get().open(py, options)?,
        };
        vat.log().set_capacity(py, log_capacity);
        let home = match &scheduling {
            Scheduling::Loop(home) => home.object(py).map(Bound::unbind),
            Scheduling::Pool | Scheduling::Manual => None,
        };
        vat.set_scheduling(scheduling);
        vat.set_inbox_limit(inbox_limit);
        vat.set_slow_turn(slow_turn);
        Ok(Self { vat, roots: Mutex::new(Vec::new()), home: Mutex::new(home) })
    }

    /// Keeps the roots in memory as long as the vat.
    pub(crate) fn hold(&self, roots: Vec<Py<Ref>>) {
        let before = std::mem::replace(&mut *self.roots.lock(), roots);
        drop(before);
    }

    /// Whether this thread is in a turn of this vat; an error in that of another.
    fn is_inside(&self, py: Python<'_>, what: &str) -> PyResult<bool> {
        match current() {
            None => check_entry(py, &self.vat).map(|()| false),
            Some(churn) if !churn.in_turn() => {
                Err(no_turn_error(format!("{what} can't be used in a finalizer that runs between two turns")))
            }
            Some(churn) if Arc::ptr_eq(churn.vat(), &self.vat) => Ok(true),
            Some(churn) => Err(far_call(format!(
                "{what} of vat {} can't be used in a turn of vat {}: use send(...) to its actors",
                self.vat.title(),
                churn.vat().title()
            ))),
        }
    }

    /// As `refuse_in_turn`, for what enters the vat on this thread.
    fn check_outside(&self, py: Python<'_>, what: &str) -> PyResult<()> {
        self.refuse_in_turn(what)?;
        check_entry(py, &self.vat)
    }

    fn refuse_in_turn(&self, what: &str) -> PyResult<()> {
        match current() {
            None => check(),
            Some(churn) => Err(deadlock(format!(
                "{what} of vat {} would block vat {}, whose turn this is",
                self.vat.title(),
                churn.vat().title()
            ))),
        }
    }
}

#[pymethods]
impl Vat {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "they have names")]
    #[pyo3(
        signature = (name=None, *, log=false, log_capacity=None, inbox_limit=None, slow_turn=Some(Seconds::Number(1.0)), workers=false, _opening=None),
        text_signature = "(name=None, *, log=False, log_capacity=256, inbox_limit=None, slow_turn=1.0, workers=False, _opening=None)"
    )]
    fn new(
        py: Python<'_>,
        name: Option<Bound<'_, PyAny>>,
        log: bool,
        log_capacity: Option<Bound<'_, PyAny>>,
        inbox_limit: Option<Bound<'_, PyAny>>,
        slow_turn: Option<Seconds>,
        workers: bool,
        _opening: Option<&Bound<'_, Opening>>,
    ) -> PyResult<Self> {
        let wishes = Wishes { name, log, log_capacity, inbox_limit, slow_turn, opening: _opening };
        let vat = Self::make(py, wishes, Scheduling::Pool)?;
        if workers {
            vat.vat.set_only_workers();
        }
        Ok(vat)
    }

    /// How many messages may wait; None for any number.
    #[getter]
    fn inbox_limit(&self) -> Option<usize> {
        self.vat.inbox_limit()
    }

    #[setter]
    fn set_inbox_limit(&self, limit: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        self.vat.set_inbox_limit(room(limit.as_ref())?);
        Ok(())
    }

    /// Whether only workers run its messages, and no event loop.
    #[getter]
    fn workers(&self) -> bool {
        self.vat.has_only_workers()
    }

    /// How many messages wait.
    #[getter]
    fn backlog(&self) -> PyResult<usize> {
        check()?;
        Ok(self.vat.backlog())
    }

    /// How many stored actors were awake after the last churn; None without a store.
    #[getter]
    fn awake(&self) -> PyResult<Option<usize>> {
        check()?;
        Ok(self.vat.awake())
    }

    /// How many seconds a turn may take before it is reported; None for any time.
    #[getter]
    fn slow_turn(&self) -> Option<f64> {
        self.vat.slow_turn().map(|limit| limit.as_secs_f64())
    }

    #[setter]
    fn set_slow_turn(&self, limit: Option<Seconds>) -> PyResult<()> {
        self.vat.set_slow_turn(patience(limit.as_ref())?);
        Ok(())
    }

    /// Opens a closed vat again; its actors are as they were.
    fn open(&self) -> PyResult<()> {
        check()?;
        self.vat.reopen().map_err(|error| kernel_error(&error))
    }

    /// Enters it into the list of all vats, whatever its class takes for arguments.
    #[pyo3(signature = (*_args, **_kwargs))]
    fn __init__(
        slf: &Bound<'_, Self>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        log::register(slf)
    }

    /// Its number among the vats of this process.
    #[getter]
    fn id(&self) -> u64 {
        self.vat.id().0
    }

    /// Its event log.
    #[getter]
    fn log<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        check()?;
        let raw = Log { vat: slf.clone().unbind() };
        slf.py().import("goblins._log")?.getattr("EventLog")?.call1((raw,))
    }

    #[getter]
    fn name(&self) -> &str {
        self.vat.name()
    }

    /// Calls a function as one turn of this vat, with all that comes of it; returns what it returned.
    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn run<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        if this.is_inside(slf.py(), "run(...)")? {
            return Args::Packed(args, kwargs).call(function);
        }
        if let Some(elsewhere) = Elsewhere::of(slf.py(), &this.vat)? {
            return elsewhere.call_method(slf, "run", function, args, kwargs);
        }
        Ok(this.vat.run(function.py(), |churn| {
            let answer = coroutine::started(churn, None, Args::Packed(args, kwargs).call(function)?)?;
            Ok(handing_out::handed_out(answer)?)
        })?)
    }

    /// As `run`, for coroutines: waits without blocking the loop.
    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn run_async<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.get().refuse_in_turn("run_async(...)")?;
        let kwargs = kwargs.cloned().unwrap_or_else(|| PyDict::new(py));
        py.import("goblins._asyncio")?.call_method1("run_async", (slf, function, args, kwargs))
    }

    /// As `drain`, for coroutines: waits without blocking the loop.
    #[pyo3(signature = (timeout=None))]
    fn drain_async<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().refuse_in_turn("drain_async()")?;
        timeout.map(seconds).transpose()?;
        slf.py().import("goblins._asyncio")?.call_method1("drain_async", (slf, timeout))
    }

    /// As `close`, for coroutines: waits without blocking the loop.
    fn close_async<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().refuse_in_turn("close_async()")?;
        slf.py().import("goblins._asyncio")?.call_method1("close_async", (slf,))
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("goblins._asyncio")?.call_method1("enter_life", (slf,))
    }

    #[pyo3(signature = (*error))]
    fn __aexit__<'py>(slf: &Bound<'py, Self>, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("goblins._asyncio")?.call_method1("exit_life", (slf, stores::raised(error)))
    }

    /// Calls a function with None in a turn of its own, which whoever runs the messages of this vat runs; gives the
    /// promise of what it returns.
    fn _run_later(&self, py: Python<'_>, function: Py<PyAny>) -> PyResult<Py<Promise>> {
        self.refuse_in_turn("run_async(...)")?;
        let (begun, answer) = (Promise::pending(py)?, Promise::pending(py)?);
        let fulfilled = Some(Handler::Call(function));
        let reaction = Reaction::Listen { fulfilled, broken: None, derived: answer.clone_ref(py) };
        wait_outside::<PyHost>(py, &begun, Waiter::Vat(self.vat.clone(), reaction));
        settle_outside::<PyHost>(py, begun, Outcome::Fulfilled(py.None()), false);
        Ok(answer)
    }

    /// The event loop that runs this vat, if one does.
    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.home.lock().as_ref().map(|home| home.clone_ref(py))
    }

    /// As `run`, but nothing of the turn is kept.
    #[pyo3(signature = (function, /, *args, **kwargs))]
    fn _try_out<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        if let Some(elsewhere) = Elsewhere::of(slf.py(), &this.vat)? {
            return elsewhere.call_method(slf, "_try_out", function, args, kwargs);
        }
        Ok(this.vat.rehearse(function.py(), |_| Ok(Args::Packed(args, kwargs).call(function)?))?)
    }

    /// The environment; None without a store.
    #[getter]
    fn _env(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        crate::replacing::env_of(py, &self.vat)
    }

    /// Gives the actors the code of another environment behind the same Refs (HOT-01 to HOT-13).
    #[pyo3(signature = (env=None, *, only=None, dry_run=false))]
    fn replace_behavior<'py>(
        slf: &Bound<'py, Self>,
        env: Option<&Bound<'py, PyAny>>,
        only: Option<&Bound<'py, PyAny>>,
        dry_run: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().refuse_in_turn("replace_behavior()")?;
        let module = slf.py().import("goblins._replacing")?;
        module.call_method1("replace_behavior", (slf, env, only, dry_run))
    }

    /// Upgrades all stored actors that have not been used since their code has changed.
    #[pyo3(signature = (progress=None, batch=1000))]
    fn upgrade_all<'py>(
        slf: &Bound<'py, Self>,
        progress: Option<&Bound<'py, PyAny>>,
        batch: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().refuse_in_turn("upgrade_all()")?;
        let module = slf.py().import("goblins._upgrading")?;
        module.call_method1("upgrade_all", (slf, progress, batch))
    }

    /// Makes an actor in this vat, in a turn of its own.
    #[pyo3(signature = (constructor, /, *args, **kwargs))]
    fn spawn<'py>(
        slf: &Bound<'py, Self>,
        constructor: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, Ref>> {
        let this = slf.get();
        if this.is_inside(slf.py(), "spawn(...)")? {
            return crate::send::spawn(constructor, args, kwargs);
        }
        if let Some(elsewhere) = Elsewhere::of(slf.py(), &this.vat)? {
            let made = elsewhere.call_method(slf, "spawn", constructor, args, kwargs)?;
            return Ok(made.cast_into::<Ref>()?);
        }
        Ok(this.vat.run(constructor.py(), |_| Ok(crate::send::spawn(constructor, args, kwargs)?))?)
    }

    /// Waits until the vat has nothing left to do.
    #[pyo3(signature = (timeout=None))]
    fn drain(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        this.check_outside(py, "drain()")?;
        if let Some(elsewhere) = Elsewhere::of(py, &this.vat)? {
            let args = (timeout,).into_pyobject(py)?;
            return elsewhere.call(&slf.getattr("drain")?, Args::Packed(&args, None)).map(|_| ());
        }
        Ok(this.vat.drain(py, timeout.map(seconds).transpose()?.flatten())?)
    }

    /// Writes what has changed since the last save, and returns when all that this vat did is in its store.
    fn save(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        this.check_outside(py, "save()")?;
        if let Some(elsewhere) = Elsewhere::of(py, &this.vat)? {
            let args = PyTuple::empty(py);
            return elsewhere.call(&slf.getattr("save")?, Args::Packed(&args, None)).map(|_| ());
        }
        Ok(this.vat.save(py)?)
    }

    /// As `save`, for coroutines: waits without blocking the loop.
    fn save_async<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().refuse_in_turn("save_async()")?;
        slf.py().import("goblins._asyncio")?.call_method1("save_async", (slf,))
    }

    /// The churn that runs is saved at its end: for `save_async`.
    fn _save_soon(&self, py: Python<'_>) -> PyResult<()> {
        if self.vat.persistence().is_none() {
            return Err(kernel_error(&KernelError::NotPersistent { vat: self.vat.name().to_owned() }));
        }
        if self.is_inside(py, "save_async()")?
            && let Some(churn) = current()
        {
            churn.ask_for_save();
        }
        Ok(())
    }

    /// Closes the vat: the running turn ends, waiting messages are broken. Closing twice does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.check_outside(py, "close()")?;
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
        let (this, py) = (slf.get(), slf.py());
        if this.is_inside(py, "with vat:")? {
            blocks::enter_inner();
        } else if Elsewhere::of(py, &this.vat)?.is_some() {
            return Err(no_turn_error(format!(
                "`with vat:` of vat {} works on the thread of its event loop only: use vat.run(...)",
                this.vat.name()
            )));
        } else {
            blocks::enter(py, &this.vat)?;
        }
        Ok(slf.clone())
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        blocks::leave(py, &self.vat, error)
    }

    fn __repr__(&self) -> String {
        format!("<Vat {}{}>", self.vat.title(), if self.vat.is_closed() { " (closed)" } else { "" })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(roots) = self.roots.try_lock() {
            roots.iter().try_for_each(|root| visit.call(root))?;
        }
        if let Some(home) = self.home.try_lock() {
            visit.call(&*home)?;
        }
        self.vat.visit_steps(|task| visit_task(task, &visit))?;
        self.vat.log().try_visit(
            |actor| visit.call(actor),
            |behavior| visit.call(behavior),
            |saved| saved.traverse(&visit),
            |error| visit.call(error),
        )
    }

    fn __clear__(&self) {
        let roots = self.roots.try_lock().map(|mut roots| std::mem::take(&mut *roots));
        drop(roots);
        let home = self.home.try_lock().and_then(|mut home| home.take());
        drop(home);
        self.give_up_steps();
        self.vat.log().try_clear();
    }
}

impl Vat {
    fn give_up_steps(&self) {
        Python::try_attach(|py| aside(py, |py| self.vat.give_up_steps(py)));
    }
}

impl Drop for Vat {
    fn drop(&mut self) {
        if is_forked() {
            std::mem::forget(self.vat.clone());
            return;
        }
        log::forget(self.vat.id());
        self.give_up_steps();
        // Nobody can look at the log any more. What it holds holds the kernel's vat, so it would stay for ever.
        self.vat.log().set_on(false);
        Python::try_attach(|py| aside(py, |py| self.vat.log().clear(py)));
    }
}

/// A vat whose messages wait until somebody calls for them: `step()` handles one, `drain()` all. For tests that
/// want to see each step.
#[pyclass(extends = Vat, subclass, frozen, module = "goblins", name = "ManualVat")]
pub(crate) struct ManualVat;

#[pymethods]
impl ManualVat {
    #[new]
    #[pyo3(
        signature = (name=None, *, log=false, log_capacity=None, inbox_limit=None, slow_turn=Some(Seconds::Number(1.0)), _opening=None),
        text_signature = "(name=None, *, log=False, log_capacity=256, inbox_limit=None, slow_turn=1.0, _opening=None)"
    )]
    fn new(
        py: Python<'_>,
        name: Option<Bound<'_, PyAny>>,
        log: bool,
        log_capacity: Option<Bound<'_, PyAny>>,
        inbox_limit: Option<Bound<'_, PyAny>>,
        slow_turn: Option<Seconds>,
        _opening: Option<&Bound<'_, Opening>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let wishes = Wishes { name, log, log_capacity, inbox_limit, slow_turn, opening: _opening };
        let vat = Vat::make(py, wishes, Scheduling::Manual)?;
        Ok(PyClassInitializer::from(vat).add_subclass(Self))
    }

    /// Handles the message that has waited longest, and the near ones that come of it; False if there was none.
    fn step(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let vat = slf.as_super().get();
        vat.check_outside(slf.py(), "step()")?;
        Ok(vat.vat.step(slf.py())?)
    }
}

/// A vat whose turns run on an event loop of asyncio.
#[pyclass(extends = Vat, subclass, frozen, module = "goblins", name = "AsyncioVat")]
pub(crate) struct AsyncioVat;

#[pymethods]
impl AsyncioVat {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "they have names")]
    #[pyo3(
        signature = (
            r#loop=None, name=None, *, log=false, log_capacity=None, inbox_limit=None, slow_turn=Some(Seconds::Number(1.0)),
            _opening=None
        ),
        text_signature = "(loop=None, name=None, *, log=False, log_capacity=256, inbox_limit=None, slow_turn=1.0, \
                          _opening=None)"
    )]
    fn new(
        py: Python<'_>,
        r#loop: Option<Bound<'_, PyAny>>,
        name: Option<Bound<'_, PyAny>>,
        log: bool,
        log_capacity: Option<Bound<'_, PyAny>>,
        inbox_limit: Option<Bound<'_, PyAny>>,
        slow_turn: Option<Seconds>,
        _opening: Option<&Bound<'_, Opening>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let wishes = Wishes { name, log, log_capacity, inbox_limit, slow_turn, opening: _opening };
        let vat = Vat::make(py, wishes, Scheduling::Loop(EventLoop::wanted(py, r#loop)?))?;
        Ok(PyClassInitializer::from(vat).add_subclass(Self))
    }
}
