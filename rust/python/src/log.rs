//! The event log, as `goblins._log` sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use goblins_core::ids::{LamportTime, VatId};
use goblins_core::log::{Cause, Event as KernelEvent, EventKind, EventOutcome, Moment};
use goblins_core::promise::Outcome;
use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use crate::calls::Args;
use crate::current::{current, occupied};
use crate::elsewhere::Elsewhere;
use crate::errors::{behavior_error, deadlock, far_call, no_turn_error};
use crate::host::PyHost;
use crate::promise::Promise;
use crate::refs::{Ref, Target, invoke};
use crate::sealed;
use crate::send::resolve;
use crate::vat::Vat;

/// How many events are copied while the log is locked.
const AT_ONCE: u64 = 256;

/// The vats of this process, by number.
static VATS: Mutex<BTreeMap<VatId, Py<PyWeakrefReference>>> = Mutex::new(BTreeMap::new());

/// Enters a vat into the list of all (VAT-03).
pub(crate) fn register(vat: &Bound<'_, Vat>) -> PyResult<()> {
    let weak = PyWeakrefReference::new(vat)?.unbind();
    let before = VATS.lock().insert(vat.get().vat.id(), weak);
    drop(before);
    Ok(())
}

/// Takes a vat out of the list.
pub(crate) fn forget(id: VatId) {
    let weak = VATS.lock().remove(&id);
    drop(weak);
}

/// The vats of this process that are in memory, the oldest first.
#[pyfunction]
pub(crate) fn vats(py: Python<'_>) -> Vec<Bound<'_, PyAny>> {
    let all: Vec<_> = VATS.lock().values().map(|weak| weak.clone_ref(py)).collect();
    all.iter().filter_map(|weak| weak.bind(py).upgrade()).collect()
}

/// The vat with this number, if it is in memory.
#[pyfunction]
pub(crate) fn _vat(py: Python<'_>, id: u64) -> Option<Bound<'_, PyAny>> {
    let weak = VATS.lock().get(&VatId(id)).map(|weak| weak.clone_ref(py));
    weak?.bind(py).upgrade()
}

/// The log of a vat.
#[pyclass(frozen, module = "goblins", name = "_Log")]
pub(crate) struct Log {
    pub(crate) vat: Py<Vat>,
}

/// An event of a log.
#[pyclass(frozen, module = "goblins", name = "_Event")]
pub(crate) struct Event {
    event: KernelEvent<PyHost>,
}

fn kernel_cause((vat, time): (Option<u64>, u64)) -> Cause {
    Cause { vat: vat.map(VatId), time: LamportTime(time) }
}

impl Log {
    fn kernel(&self) -> &goblins_core::log::Log<PyHost> {
        let vat = &self.vat.get().vat;
        if let Some(churn) = current()
            && Arc::ptr_eq(churn.vat(), vat)
        {
            churn.enter_events();
        }
        vat.log()
    }
}

#[pymethods]
impl Log {
    #[getter]
    fn vat(&self, py: Python<'_>) -> Py<Vat> {
        self.vat.clone_ref(py)
    }

    #[getter]
    fn capacity(&self) -> usize {
        self.kernel().capacity()
    }

    #[setter]
    fn set_capacity(&self, py: Python<'_>, capacity: usize) {
        self.kernel().set_capacity(py, capacity);
    }

    #[getter]
    fn enabled(&self) -> bool {
        self.kernel().is_on()
    }

    #[setter]
    fn set_enabled(&self, enabled: bool) {
        self.kernel().set_on(enabled);
    }

    fn clear(&self, py: Python<'_>) {
        self.kernel().clear(py);
    }

    /// The number of the oldest event, and of the next one.
    fn span(&self) -> (u64, u64) {
        let span = self.kernel().span();
        (span.start, span.end)
    }

    /// Those of these events that are there, in order.
    fn events(&self, py: Python<'_>, start: u64, stop: u64) -> Vec<Event> {
        let mut found = Vec::new();
        let mut from = start.max(self.kernel().span().start);
        while from < stop {
            let until = stop.min(from.saturating_add(AT_ONCE));
            let part = self.kernel().events(py, from..until);
            if part.is_empty() && until > self.kernel().span().end {
                break;
            }
            found.extend(part.into_iter().map(|event| Event { event }));
            from = until;
        }
        found
    }

    /// The event at a logical time.
    fn find(&self, py: Python<'_>, time: u64) -> Option<Event> {
        self.kernel().find(py, LamportTime(time)).map(|event| Event { event })
    }

    /// The events caused by what a vat did at a logical time.
    fn effects(&self, py: Python<'_>, vat: Option<u64>, time: u64) -> Vec<Event> {
        let found = self.kernel().effects(py, kernel_cause((vat, time)));
        found.into_iter().map(|event| Event { event }).collect()
    }

    /// Calls an actor as it was at an event, and undoes all that this does.
    fn peek<'py>(
        slf: &Bound<'py, Self>,
        sequence: u64,
        before: bool,
        target: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let vat = &slf.get().vat.get().vat;
        let (Target::Actor(actor), method) = resolve(target)? else {
            return Err(behavior_error("peek looks at an actor: give it a Ref or ref.method, not a promise"));
        };
        if !Arc::ptr_eq(actor.get().cell.vat(), vat) {
            return Err(far_call(format!(
                "{} is in another vat than the event: an event of vat {} shows the actors of that vat only",
                actor.get().describe(py),
                vat.title()
            )));
        }
        if let Some(churn) = occupied() {
            return Err(deadlock(format!(
                "peek(...) needs vat {} at rest, and this is a turn of vat {}: look back outside of turns",
                vat.title(),
                churn.vat().title()
            )));
        }
        crate::runtime::check()?;
        if let Some(elsewhere) = Elsewhere::of(py, vat)? {
            let all = (sequence, before, target, args, kwargs).into_pyobject(py)?;
            return elsewhere.call(&slf.getattr("peek")?, Args::Packed(&all, None));
        }
        let answer = vat.peek(py, Moment { sequence, before }, |churn| {
            let method = method.as_ref().map(|method| method.bind(py));
            let answer = invoke(churn, actor.bind(py), method, Args::Packed(args, kwargs))?;
            let Ok(promise) = answer.cast_exact::<Promise>() else {
                return Ok(answer);
            };
            if !churn.awaits(promise.as_unbound()) {
                return Ok(answer);
            }
            match churn.outcome(py, promise.as_unbound()) {
                Some(Outcome::Fulfilled(value)) => Ok(sealed::opened(py, value)?),
                Some(Outcome::Broken(error)) => Err(error),
                None => Err(no_turn_error(format!(
                    "{} answered with a promise of something it sent or waits for; in a look back nothing is sent, \
                     so it would never settle",
                    actor.get().describe(py)
                ))
                .into()),
            }
        })?;
        Ok(answer)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.vat)
    }
}

#[pymethods]
impl Event {
    #[getter]
    fn sequence(&self) -> u64 {
        self.event.sequence
    }

    #[getter]
    fn kind(&self) -> &'static str {
        match self.event.kind {
            EventKind::Deliver => "deliver",
            EventKind::React => "react",
            EventKind::Run => "run",
            EventKind::Send => "send",
        }
    }

    #[getter]
    fn outcome(&self) -> &'static str {
        match self.event.outcome {
            EventOutcome::Kept => "kept",
            EventOutcome::Undone => "undone",
        }
    }

    #[getter]
    fn churn(&self) -> u64 {
        self.event.churn.0
    }

    #[getter]
    fn turn(&self) -> u64 {
        self.event.turn.0
    }

    #[getter]
    fn time(&self) -> u64 {
        self.event.time.0
    }

    /// Vat and logical time of the cause, or None.
    #[getter]
    fn cause(&self) -> Option<(u64, u64)> {
        let Cause { vat, time } = self.event.cause;
        Some((vat?.0, time.0))
    }

    #[getter]
    fn actor(&self, py: Python<'_>) -> Option<Py<Ref>> {
        self.event.actor.as_ref().map(|actor| actor.clone_ref(py))
    }

    /// Name and slot of the actor.
    #[getter]
    fn title(&self, py: Python<'_>) -> Option<String> {
        self.event.actor.as_ref().map(|actor| actor.get().title(py))
    }

    /// The name of the actor's vat.
    #[getter]
    fn actor_vat(&self) -> Option<&str> {
        self.event.actor.as_ref().map(|actor| actor.get().cell.vat().name())
    }

    #[getter]
    fn method(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.event.method.as_ref().map(|method| method.clone_ref(py))
    }

    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.event.error.as_ref().map(|error| error.clone_ref(py))
    }

    /// In nanoseconds since 1970.
    #[getter]
    fn wall(&self) -> u128 {
        self.event.wall.as_nanos()
    }

    /// In nanoseconds since a moment that is the same for all vats.
    #[getter]
    fn began(&self) -> u128 {
        self.event.began.as_nanos()
    }

    /// In nanoseconds.
    #[getter]
    fn duration(&self) -> Option<u128> {
        self.event.duration.map(|duration| duration.as_nanos())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event.actor)?;
        visit.call(&self.event.error)
    }
}
