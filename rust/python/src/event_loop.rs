//! Event loops of asyncio, and what each is to do in its next round: wake those who wait for a promise, run vats.
//!
//! All that comes up until then is one call of the loop, and one wake-up if it sleeps. What comes up on its own thread
//! needs none.
//!
//! It also runs vats whose messages were sent on its thread: in its next round, or when one awaits the answer. Their turns
//! see neither the loop nor the task, nor its context: it is as on a worker.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use goblins_core::calling::CallsLater;
use goblins_core::fork::is_forked;
use goblins_core::pace::Budget;
use goblins_core::scheduling::Scheduling;
use goblins_core::vat::Vat as KernelVat;
use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::asyncio::{Away, running_loop};
use crate::attaching::attached;
use crate::calls;
use crate::contexts::Context;
use crate::current;
use crate::errors::{aside, log_unheard};
use crate::host::PyHost;
use crate::interrupts;

/// Whether any vat ever ran on a loop.
static USED: AtomicBool = AtomicBool::new(false);
/// Those that anybody knows, to find them again.
static KNOWN: Mutex<Vec<Weak<EventLoop>>> = Mutex::new(Vec::new());

/// A loop of asyncio.
pub(crate) struct EventLoop {
    home: Home,
    todo: Mutex<Todo>,
    /// How much it has done for vats since its last round.
    budget: Budget,
    /// In which turns run.
    context: Context,
}

/// Weak where it can be: a loop may refer to what refers to its vat, and the collector does not see what the kernel's part
/// of a vat holds. A loop that runs is held by who runs it.
enum Home {
    Weak(Py<PyWeakrefReference>),
    Strong(Py<PyAny>),
}

/// What is to be done in the next round.
#[derive(Default)]
struct Todo {
    /// The loop has been told of it.
    called: bool,
    /// Futures of those whose promises have settled.
    settled: Vec<Py<PyAny>>,
    vats: Vec<Arc<KernelVat<PyHost>>>,
}

/// What a thread knows of loops.
struct Here {
    /// The one that ran here when somebody last asked.
    last: RefCell<Option<Arc<EventLoop>>>,
    /// That one runs here, but is set aside.
    aside: Cell<bool>,
    /// While many are told of what they wait for: the loops that are still to be called.
    together: RefCell<Option<Vec<Arc<EventLoop>>>>,
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut last = self.last.take();
        if last.is_none() {
            return;
        }
        attached(|_| drop(last.take()));
        // Without the interpreter it can't go.
        std::mem::forget(last);
    }
}

thread_local! {
    static HERE: Here = const {
        Here { last: RefCell::new(None), aside: Cell::new(false), together: RefCell::new(None) }
    };
}

/// Whether any vat ever ran on a loop.
pub(crate) fn are_used() -> bool {
    USED.load(Ordering::Relaxed)
}

impl EventLoop {
    /// The loop that was given, or the one that runs on this thread, for a vat.
    pub(crate) fn wanted(py: Python<'_>, given: Option<Bound<'_, PyAny>>) -> PyResult<Arc<Self>> {
        let chosen = match given {
            Some(given) => given,
            None => py.import("asyncio")?.call_method0("get_running_loop")?,
        };
        // What is no loop is found now, not when the first message comes.
        if chosen.getattr_opt(intern!(py, "call_soon_threadsafe"))?.is_none() {
            let message = format!(
                "loop is an event loop of asyncio, not {}: a name is given as name=...",
                chosen.repr()?
            );
            return Err(PyTypeError::new_err(message));
        }
        USED.store(true, Ordering::Relaxed);
        Self::of(&chosen)
    }

    /// The loop that runs on this thread, if one does.
    pub(crate) fn here(py: Python<'_>) -> PyResult<Option<(Bound<'_, PyAny>, Arc<Self>)>> {
        let last = HERE.with(|here| here.last.borrow().clone());
        if HERE.with(|here| here.aside.get()) {
            return Ok(last.and_then(|last| Some((last.object(py)?, last))));
        }
        let Some(home) = running_loop(py)? else { return Ok(None) };
        let known = match last.filter(|last| last.is(&home)) {
            Some(last) => last,
            None => {
                let known = Self::of(&home)?;
                let before = HERE.with(|here| here.last.replace(Some(known.clone())));
                drop(before);
                known
            }
        };
        Ok(Some((home, known)))
    }

    fn of(home: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let known: Vec<_> = KNOWN.lock().iter().filter_map(Weak::upgrade).collect();
        if let Some(known) = known.into_iter().find(|known| known.is(home)) {
            return Ok(known);
        }
        let home = match PyWeakrefReference::new(home) {
            Ok(weak) => Home::Weak(weak.unbind()),
            Err(error) if error.is_instance_of::<PyTypeError>(home.py()) => {
                Home::Strong(home.clone().unbind())
            }
            Err(error) => return Err(error),
        };
        let todo = Mutex::default();
        let new = Arc::new(Self { home, todo, budget: Budget::default(), context: Context::default() });
        let mut known = KNOWN.lock();
        known.retain(|known| known.strong_count() > 0);
        known.push(Arc::downgrade(&new));
        Ok(new)
    }

    /// The loop itself; `None` if it is gone.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match &self.home {
            Home::Weak(weak) => weak.bind(py).upgrade(),
            Home::Strong(home) => Some(home.bind(py).clone()),
        }
    }

    fn is(&self, home: &Bound<'_, PyAny>) -> bool {
        self.object(home.py()).is_some_and(|object| object.is(home))
    }

    /// Whether it runs on this thread.
    fn is_here(&self, py: Python<'_>) -> bool {
        let aside = HERE.with(|here| {
            here.aside.get()
                && here.last.borrow().as_ref().is_some_and(|last| std::ptr::eq(Arc::as_ptr(last), self))
        });
        if aside {
            return true;
        }
        running_loop(py).is_ok_and(|home| home.is_some_and(|home| self.is(&home)))
    }

    fn is_closed(&self, py: Python<'_>) -> bool {
        let Some(home) = self.object(py) else {
            return true;
        };
        let closed = home.call_method0(intern!(py, "is_closed"));
        interrupts::found(py, closed.and_then(|closed| closed.is_truthy())).unwrap_or(false)
    }

    /// Has the loop run the vat.
    pub(crate) fn call_soon(self: &Arc<Self>, py: Python<'_>, vat: &Arc<KernelVat<PyHost>>) {
        self.add(py, |todo| todo.vats.push(vat.clone()));
    }

    /// Wakes who waits for a future.
    pub(crate) fn wake(self: &Arc<Self>, py: Python<'_>, future: Py<PyAny>) {
        if !self.is_here(py) {
            return self.add(py, |todo| todo.settled.push(future));
        }
        if let Err(error) = interrupts::again_if_interrupted(py, || settle(py, &future)) {
            log_unheard(py, "one who waited for a promise could not be woken", &error.into());
        }
    }

    /// Adds to what it is to do in its next round.
    fn add(self: &Arc<Self>, py: Python<'_>, add: impl FnOnce(&mut Todo)) {
        let called = {
            let mut todo = self.todo.lock();
            add(&mut todo);
            std::mem::replace(&mut todo.called, true)
        };
        if called {
            return;
        }
        let is_here = self.is_here(py);
        let later = !is_here
            && HERE.with(|here| match &mut *here.together.borrow_mut() {
                Some(loops) => {
                    loops.push(self.clone());
                    true
                }
                None => false,
            });
        if !later {
            self.call(py, is_here);
        }
    }

    /// Tells the loop that there is something to do.
    fn call(self: &Arc<Self>, py: Python<'_>, is_here: bool) {
        let tell = || {
            // What a loop that is gone has not called gives up, as with one that is closed.
            let round = Bound::new(py, Round { home: self.clone(), called: AtomicBool::new(false) })?;
            let Some(home) = self.object(py) else { return Ok(()) };
            let how = if is_here { intern!(py, "call_soon") } else { intern!(py, "call_soon_threadsafe") };
            let call_soon = home.getattr(how)?;
            interrupts::again_if_interrupted(py, || calls::call_with(&call_soon, (&round,))).map(drop)
        };
        if let (Err(error), false) = (tell(), self.is_closed(py)) {
            log_unheard(py, "an event loop takes no more messages", &error.into());
        }
    }

    /// Does what is to be done. The error is an interrupt: the rest is done in another round.
    fn round(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let Todo { settled, vats, .. } = std::mem::take(&mut *self.todo.lock());
        let mut interrupt = Ok(());
        for future in settled {
            interrupt = interrupt.and(settle(py, &future));
        }
        self.budget.renew();
        // One sync is to serve all vats whose messages are known to be quick.
        let mut calls_later = None;
        let mut vats = vats.into_iter();
        while interrupt.is_ok()
            && !self.budget.is_spent()
            && let Some(vat) = vats.next()
        {
            let own = matches!(vat.scheduling(), Scheduling::Loop(_));
            if own {
                calls_later = None;
            } else {
                calls_later.get_or_insert_with(CallsLater::begin);
            }
            interrupt = if own && current::is_occupied() {
                // It is another one that this thread is in.
                vat.work(py).map_err(PyErr::from)
            } else if current::is_occupied() {
                vat.hand_over();
                Ok(())
            } else {
                self.run_as_on_a_worker(py, self.object(py).as_ref(), &vat, || {
                    Ok(vat.work_for_loop(py, &self.budget)?)
                })
            };
        }
        drop(calls_later);
        if vats.len() > 0 {
            self.add(py, |todo| todo.vats.splice(0..0, vats).for_each(drop));
        }
        interrupt
    }

    /// Runs messages of a vat for one who awaits an answer in this loop, if nothing speaks against it.
    pub(crate) fn assist(
        self: &Arc<Self>,
        home: &Bound<'_, PyAny>,
        vat: &Arc<KernelVat<PyHost>>,
    ) -> PyResult<()> {
        let py = home.py();
        let own = match vat.scheduling() {
            Scheduling::Pool => true,
            Scheduling::Loop(home) => Arc::ptr_eq(home, self),
            Scheduling::Manual => false,
        };
        if !own || vat.backlog() == 0 || self.budget.is_spent() || current::is_occupied() {
            return Ok(());
        }
        self.run_as_on_a_worker(py, Some(home), vat, || Ok(vat.assist(py, &self.budget)?))
    }

    /// Runs a vat on this thread, which is that of the loop: its turns see no task, and the loop only if it is theirs.
    fn run_as_on_a_worker(
        self: &Arc<Self>,
        py: Python<'_>,
        home: Option<&Bound<'_, PyAny>>,
        vat: &Arc<KernelVat<PyHost>>,
        run: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let from_loop = !matches!(vat.scheduling(), Scheduling::Loop(_));
        let away = match home {
            Some(home) => Away::from(home, from_loop)?,
            None => None,
        };
        let Some(away) = away else {
            // Then it waits for its turn as it would otherwise.
            if from_loop {
                vat.hand_over();
                return Ok(());
            }
            return run();
        };
        let aside = from_loop.then(|| Aside::begin(self));
        let ran = self.context.run(py, run);
        drop(aside);
        let back = away.back();
        ran.and(back)
    }

    /// It is gone, or closed: nobody will run its vats.
    fn give_up(&self, py: Python<'_>) {
        let closed = self.is_closed(py);
        let todo = {
            let mut todo = self.todo.lock();
            // One that is only stopped may go on.
            todo.called = false;
            if closed { std::mem::take(&mut *todo) } else { Todo::default() }
        };
        for vat in &todo.vats {
            match vat.scheduling() {
                Scheduling::Loop(_) => vat.forsake(py),
                Scheduling::Pool | Scheduling::Manual => vat.hand_over(),
            }
        }
    }
}

/// Whether this thread runs a loop that somebody has awaited a promise in.
pub(crate) fn runs_here(py: Python<'_>) -> bool {
    let (known, aside) = HERE.with(|here| (here.last.borrow().is_some(), here.aside.get()));
    known && (aside || running_loop(py).is_ok_and(|home| home.is_some()))
}

/// Has the loop of this thread run the vat.
pub(crate) fn run_soon(py: Python<'_>, vat: &Arc<KernelVat<PyHost>>) {
    match EventLoop::here(py) {
        Ok(Some((_, home))) => home.call_soon(py, vat),
        Ok(None) | Err(_) => vat.hand_over(),
    }
}

/// Gives what was left to the loop of this thread to the workers: the thread is about to wait.
pub(crate) fn hand_over_all() {
    let last = HERE.with(|here| here.last.borrow().clone());
    let Some(last) = last else { return };
    let vats: Vec<_> =
        last.todo.lock().vats.extract_if(.., |vat| matches!(vat.scheduling(), Scheduling::Pool)).collect();
    vats.iter().for_each(KernelVat::hand_over);
}

/// The loop of this thread is set aside, for as long as this lives.
struct Aside;

impl Aside {
    fn begin(home: &Arc<EventLoop>) -> Self {
        let before = HERE.with(|here| here.last.replace(Some(home.clone())));
        drop(before);
        HERE.with(|here| here.aside.set(true));
        Self
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        HERE.with(|here| here.aside.set(false));
    }
}

/// Wakes who waits for a future.
fn settle(py: Python<'_>, future: &Py<PyAny>) -> PyResult<()> {
    let future = future.bind(py);
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        // Cancelled.
        return Ok(());
    }
    calls::call_with(&future.getattr(intern!(py, "set_result"))?, (py.None(),)).map(drop)
}

/// Runs `f`, in which many may be told of what they wait for; then calls each loop in which some of them wait.
pub(crate) fn together<R>(py: Python<'_>, f: impl FnOnce() -> R) -> R {
    /// Also after a panic.
    struct Calls<'py>(Python<'py>);
    impl Drop for Calls<'_> {
        fn drop(&mut self) {
            let loops = HERE.with(|here| here.together.take());
            loops.into_iter().flatten().for_each(|home| home.call(self.0, false));
        }
    }
    let nested = HERE.with(|here| here.together.borrow().is_some());
    if nested {
        return f();
    }
    HERE.with(|here| here.together.replace(Some(Vec::new())));
    let _calls = Calls(py);
    f()
}

/// What a loop calls. One that is closed drops what it has not called yet.
#[pyclass(frozen, module = "goblins", name = "_Round")]
struct Round {
    home: Arc<EventLoop>,
    called: AtomicBool,
}

#[pymethods]
impl Round {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.called.store(true, Ordering::Relaxed);
        if is_forked() { Ok(()) } else { self.home.round(py) }
    }

    fn __repr__(&self) -> String {
        let todo = self.home.todo.lock();
        format!("<{} that waited, {} vats with messages>", todo.settled.len(), todo.vats.len())
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if self.called.load(Ordering::Relaxed) || is_forked() {
            return;
        }
        // At exit nobody waits any more.
        Python::try_attach(|py| aside(py, |py| self.home.give_up(py)));
    }
}
