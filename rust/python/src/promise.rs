//! Promises and resolvers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use goblins_core::error::KernelError;
use goblins_core::ids::Slot;
use goblins_core::promise::{Outcome, Progress, PromiseCell, Reaction, Waiter};
use goblins_core::vat::Vat;
use goblins_core::{settle_outside, wait_outside};
use parking_lot::{Condvar, Mutex};
use pyo3::exceptions::{PyTimeoutError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::calls::Args;
use crate::current::{current, current_turn};
use crate::errors::{as_exception, broken_promise, deadlock, kernel_error, log_unheard, no_turn_error};
use crate::host::{Handler, PyHost, Waker};
use crate::refs::{self, BoundMessage, Ref, Target, invoke, is_hidden, own_attribute};

/// A value that is still to come.
#[pyclass(frozen, weakref, module = "goblins", name = "Promise")]
pub(crate) struct Promise {
    pub(crate) cell: PromiseCell<PyHost>,
    /// It came from a `send` outside all turns: one who waits for it may do the work.
    helped: bool,
    /// The message whose answer it is.
    sent: Option<Sent>,
}

/// A message, for the report of an error that nobody asked for.
pub(crate) struct Sent {
    pub(crate) vat: Arc<Vat<PyHost>>,
    pub(crate) slot: Slot,
    pub(crate) name: Option<Py<PyString>>,
    pub(crate) method: Option<Py<PyString>>,
}

impl Promise {
    pub(crate) fn pending(py: Python<'_>) -> PyResult<Py<Self>> {
        Self::sent_to(py, false, None)
    }

    pub(crate) fn sent_to(py: Python<'_>, helped: bool, sent: Option<Sent>) -> PyResult<Py<Self>> {
        Py::new(py, Self { cell: PromiseCell::new(), helped, sent })
    }

    pub(crate) fn around(py: Python<'_>, cell: PromiseCell<PyHost>) -> PyResult<Py<Self>> {
        Py::new(py, Self { cell, helped: false, sent: None })
    }
}

/// Signals a thread that waits for a promise.
#[derive(Default)]
pub(crate) struct Latch {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Latch {
    pub(crate) fn set(&self) {
        *self.set.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self, patience: Duration) {
        let mut set = self.set.lock();
        if !*set {
            self.changed.wait_for(&mut set, patience);
        }
    }
}

/// How long a wait may last before Ctrl-C is looked for.
const SLICE: Duration = Duration::from_millis(50);

#[pymethods]
impl Promise {
    /// Waits for the outcome: returns the value, or raises the error that broke the promise.
    #[pyo3(signature = (timeout=None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        if let Some(churn) = current() {
            return Err(deadlock(format!(
                "result() would block the vat {} that must go on for the promise to settle: use on(...) or await",
                churn.vat().name()
            )));
        }
        crate::runtime::check()?;
        // One that is too far off for the clock is none.
        let deadline =
            timeout.map(seconds).transpose()?.flatten().and_then(|wait| Instant::now().checked_add(wait));
        let this = slf.get();
        if let Some(outcome) = this.cell.outcome(py, None) {
            return outcome_result(outcome);
        }
        if let (true, Some(sent)) = (this.helped, &this.sent) {
            sent.vat.help(py);
        }
        let latch = Arc::new(Latch::default());
        wait_outside::<PyHost>(py, slf.as_unbound(), Waiter::Outside(Waker::Latch(latch.clone())));
        let result = loop {
            if let Some(outcome) = this.cell.outcome(py, None) {
                return outcome_result(outcome);
            }
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break Err(PyTimeoutError::new_err(format!(
                    "{} has not settled in time",
                    describe(py, this)
                )));
            }
            py.detach(|| latch.wait(left.min(SLICE)));
            if let Err(interrupted) = py.check_signals() {
                break Err(interrupted);
            }
        };
        let gone =
            this.cell.forget(|waker| matches!(waker, Waker::Latch(waiting) if Arc::ptr_eq(waiting, &latch)));
        drop(gone);
        result
    }

    /// Calls `settled(value, None)` or `settled(None, error)` once, from any thread.
    fn _subscribe(slf: &Bound<'_, Self>, settled: Py<PyAny>) {
        wait_outside::<PyHost>(slf.py(), slf.as_unbound(), Waiter::Outside(Waker::Callback(settled)));
    }

    /// Takes a `_subscribe` back: what was given there is not called any more, unless it is being called just now.
    fn _unsubscribe(&self, settled: &Bound<'_, PyAny>) {
        let gone = self.cell.forget(|waker| matches!(waker, Waker::Callback(waiting) if waiting.is(settled)));
        drop(gone);
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let wait = if current().is_some() {
            crate::coroutine::check_await()?;
            "wait_in_turn"
        } else {
            "wait_for"
        };
        py.import("goblins._asyncio")?.call_method1(wait, (slf,))
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call(slf, None, Args::Packed(args, kwargs))
    }

    fn __getattribute__<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if is_hidden(name)? || name.to_str()? == "result" {
            return own_attribute(slf.as_any(), name);
        }
        BoundMessage::make(slf.py(), Target::Promise(slf.clone().unbind()), name)
    }

    fn __getitem__(slf: &Bound<'_, Self>, key: Py<PyAny>) -> PyResult<Py<Self>> {
        part(slf, key)
    }

    fn __repr__(&self) -> String {
        let state = self.cell.state();
        let progress = match &state.progress {
            Progress::Pending => "pending",
            Progress::Chained { .. } => "waiting for another promise",
            Progress::Settled(Outcome::Fulfilled(_), _) => "fulfilled",
            Progress::Settled(Outcome::Broken(_), _) => "broken",
        };
        format!("<Promise {progress}>")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.cell.try_state() else {
            return Ok(());
        };
        match &state.progress {
            Progress::Chained { next, ahead } => {
                visit.call(next)?;
                visit.call(ahead)?;
            }
            Progress::Settled(Outcome::Fulfilled(value), _) => visit.call(value)?,
            Progress::Settled(Outcome::Broken(error), _) => error.traverse(&visit)?,
            Progress::Pending => {}
        }
        state.waiters.iter().try_for_each(|waiter| visit_waiter(waiter, &visit))
    }

    fn __clear__(&self) {
        self.let_go();
    }
}

fn visit_waiter(waiter: &Waiter<PyHost>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match waiter {
        Waiter::Chain(promise) => visit.call(promise),
        Waiter::Forward { message, resolver } => {
            message.traverse(visit)?;
            visit.call(resolver)
        }
        Waiter::Outside(Waker::Callback(callback)) => visit.call(callback),
        Waiter::Outside(Waker::Latch(_)) => Ok(()),
        Waiter::Outside(Waker::Part { key, part }) => {
            visit.call(key)?;
            visit.call(part)
        }
        Waiter::Vat(_, reaction) => match reaction {
            Reaction::Forward { message, resolver } => {
                message.traverse(visit)?;
                visit.call(resolver)
            }
            Reaction::Listen { fulfilled, broken, derived } => {
                visit_handler(fulfilled.as_ref(), visit)?;
                visit_handler(broken.as_ref(), visit)?;
                visit.call(derived)
            }
            Reaction::Finally { handler, derived } => {
                visit_handler(Some(handler), visit)?;
                visit.call(derived)
            }
            Reaction::Resume { code, answer, .. } => {
                code.traverse(visit)?;
                visit.call(answer)
            }
            Reaction::Chain(promise) => visit.call(promise),
            Reaction::Describe(actor) => visit.call(actor),
        },
    }
}

fn visit_handler(handler: Option<&Handler>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match handler {
        Some(Handler::Call(handler) | Handler::Part(handler)) => visit.call(handler),
        None => Ok(()),
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Promise {
    /// Empties it, at the end of its life; an error that nobody asked for is logged then.
    fn let_go(&self) {
        let Some(state) = self.cell.clear() else {
            return;
        };
        if let (Progress::Settled(Outcome::Broken(error), _), false) = (&state.progress, state.heard) {
            Python::try_attach(|py| {
                let what = format!("{} broke, and nobody asked for its outcome", describe(py, self));
                log_unheard(py, &what, error);
            });
        }
    }
}

fn describe(py: Python<'_>, promise: &Promise) -> String {
    match &promise.sent {
        Some(sent) => {
            let actor =
                refs::describe(py, sent.name.as_ref().map(|name| name.bind(py)), &sent.vat, sent.slot);
            match &sent.method {
                Some(method) => format!("the promise of {} to {actor}", method.bind(py).to_string_lossy()),
                None => format!("the promise of a message to {actor}"),
            }
        }
        None => "a promise".to_owned(),
    }
}

/// A timeout; `None` if it is longer than can be counted.
pub(crate) fn seconds(timeout: f64) -> PyResult<Option<Duration>> {
    if timeout.is_nan() {
        return Err(PyValueError::new_err("timeout is a number of seconds, not nan"));
    }
    Ok(Duration::try_from_secs_f64(timeout.max(0.0)).ok())
}

fn outcome_result(outcome: Outcome<PyHost>) -> PyResult<Py<PyAny>> {
    match outcome {
        Outcome::Fulfilled(value) => Ok(value),
        Outcome::Broken(error) => Err(error.into()),
    }
}

/// A synchronous call of a promise (SYN-04 to SYN-06): a settled one stands for its value.
pub(crate) fn call<'py>(
    promise: &Bound<'py, Promise>,
    method: Option<&Bound<'py, PyString>>,
    args: Args<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = promise.py();
    let churn = current_turn("calling a promise")?;
    let value = match churn.outcome(py, promise.as_unbound()) {
        Some(outcome) => outcome_result(outcome)?.into_bound(py),
        None => {
            return Err(no_turn_error(
                "the promise has not settled yet, so it can't be called: use send(...), on(...) or await",
            ));
        }
    };
    match value.cast_exact::<Ref>() {
        Ok(actor) if churn.is_near(actor.as_unbound()) => invoke(&churn, actor, method, args),
        Ok(actor) => crate::refs::call(actor, method, args),
        Err(_) => match method {
            None => Ok(value),
            Some(_) => {
                let value = crate::behavior::describe_value(&value);
                Err(kernel_error(&KernelError::NotAnActor { value }))
            }
        },
    }
}

/// A part of what a promise will be fulfilled with (ASY-37): `promise[key]`.
fn part(promise: &Bound<'_, Promise>, key: Py<PyAny>) -> PyResult<Py<Promise>> {
    let py = promise.py();
    let part = Promise::pending(py)?;
    let derived = part.clone_ref(py);
    match current() {
        Some(churn) if churn.in_turn() => {
            let fulfilled = Some(Handler::Part(key));
            churn.listen(promise.clone().unbind(), Reaction::Listen { fulfilled, broken: None, derived });
        }
        _ => {
            let waker = Waker::Part { key, part: derived };
            wait_outside::<PyHost>(py, promise.as_unbound(), Waiter::Outside(waker));
        }
    }
    Ok(part)
}

/// The part of a value that a promise was fulfilled with.
pub(crate) fn part_of<'py>(value: &Bound<'py, PyAny>, key: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if let Ok(actor) = value.cast_exact::<Ref>() {
        let text = format!(
            "the promise became {}, an actor, which has no parts: send it a message instead",
            actor.get().describe(py)
        );
        return Err(PyTypeError::new_err(text));
    }
    value.get_item(key.bind(py))
}

/// Settles its promise as abandoned when it goes, if nobody has settled it.
pub(crate) struct Right {
    promise: Py<Promise>,
}

impl Drop for Right {
    fn drop(&mut self) {
        {
            let mut state = self.promise.get().cell.state();
            if !matches!(state.progress, Progress::Pending) {
                return;
            }
            // Whoever waits is told. If nobody does, it is no error that was missed.
            state.heard = true;
        }
        Python::try_attach(|py| {
            let error = broken_promise("the promise was abandoned: nothing can settle it any more");
            settle_outside::<PyHost>(py, self.promise.clone_ref(py), Outcome::Broken(error.into()), false);
        });
    }
}

/// The right to settle a promise.
#[pyclass(frozen, module = "goblins", name = "Resolver")]
pub(crate) struct Resolver {
    right: Arc<Right>,
}

#[pymethods]
impl Resolver {
    /// Settles the promise with a value; with another promise, it will settle as that one does. Only the
    /// first settlement counts (ASY-10). In a turn it happens if the turn succeeds.
    fn fulfil(&self, value: Bound<'_, PyAny>) -> PyResult<()> {
        let py = value.py();
        self.settle(py, Outcome::Fulfilled(crate::containers::handed_out(value)?.unbind()));
        Ok(())
    }

    /// Breaks the promise with an exception, or with any other value as the problem (ASY-17).
    fn break_(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        self.settle(py, Outcome::Broken(as_exception(error)?.into()));
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<Resolver of {}>", self.right.promise.get().__repr__())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.right.promise)
    }
}

impl Resolver {
    fn settle(&self, py: Python<'_>, outcome: Outcome<PyHost>) {
        let promise = self.right.promise.clone_ref(py);
        match current() {
            Some(churn) if churn.in_turn() => churn.settle(promise, outcome, Some(self.right.clone())),
            _ => settle_outside::<PyHost>(py, promise, outcome, false),
        }
    }
}

/// Makes a promise and the right to settle it.
#[pyfunction]
pub(crate) fn promise_and_resolver(py: Python<'_>) -> PyResult<(Py<Promise>, Resolver)> {
    let promise = Promise::pending(py)?;
    let resolver = Resolver { right: Arc::new(Right { promise: promise.clone_ref(py) }) };
    Ok((promise, resolver))
}

/// Calls a handler in a later turn of this vat, once a promise has settled (ASY-19 to ASY-26).
#[pyfunction]
#[pyo3(signature = (promise, fulfilled=None, *, catch=None, finally_=None))]
pub(crate) fn on(
    py: Python<'_>,
    promise: Bound<'_, PyAny>,
    fulfilled: Option<Bound<'_, PyAny>>,
    catch: Option<Bound<'_, PyAny>>,
    finally_: Option<Bound<'_, PyAny>>,
) -> PyResult<Py<Promise>> {
    let churn = current_turn("on(...)")?;
    let fulfilled = handler(fulfilled, "fulfilled")?;
    let broken = handler(catch, "catch")?;
    let finally_ = handler(finally_, "finally_")?;
    let promise = match promise.cast_into_exact::<Promise>() {
        Ok(promise) => promise.unbind(),
        Err(error) => {
            let settled = Promise::pending(py)?;
            churn.settle(settled.clone_ref(py), Outcome::Fulfilled(error.into_inner().unbind()), None);
            settled
        }
    };
    let derived = Promise::pending(py)?;
    let Some(handler) = finally_ else {
        churn.listen(promise, Reaction::Listen { fulfilled, broken, derived: derived.clone_ref(py) });
        return Ok(derived);
    };
    let handled = if fulfilled.is_none() && broken.is_none() {
        // At once: in between, younger listeners would be told.
        promise
    } else {
        let handled = Promise::pending(py)?;
        churn.listen(promise, Reaction::Listen { fulfilled, broken, derived: handled.clone_ref(py) });
        handled
    };
    churn.listen(handled, Reaction::Finally { handler, derived: derived.clone_ref(py) });
    Ok(derived)
}

fn handler(function: Option<Bound<'_, PyAny>>, name: &str) -> PyResult<Option<Handler>> {
    match function {
        Some(function) if !function.is_callable() => Err(PyTypeError::new_err(format!(
            "{name} must be a callable or None, not {}",
            crate::behavior::type_name(&function)
        ))),
        function => Ok(function.map(|function| Handler::Call(function.unbind()))),
    }
}
