//! Event loops of asyncio, and what each is to do in its next round: wake those who wait for a promise, run vats.
//!
//! All that comes up until then is one call of the loop, and one wake-up if it sleeps. What comes up on its own thread
//! needs none.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use goblins_core::fork::is_forked;
use goblins_core::scheduling::Scheduling;
use goblins_core::vat::Vat as KernelVat;
use parking_lot::Mutex;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::asyncio::running_loop;
use crate::calls;
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
    /// While many are told of what they wait for: the loops that are still to be called.
    together: RefCell<Option<Vec<Arc<EventLoop>>>>,
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut last = self.last.take();
        Python::try_attach(|_| drop(last.take()));
        // Without the interpreter it can't go.
        std::mem::forget(last);
    }
}

thread_local! {
    static HERE: Here = const { Here { last: RefCell::new(None), together: RefCell::new(None) } };
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
        chosen.getattr(intern!(py, "call_soon_threadsafe"))?;
        USED.store(true, Ordering::Relaxed);
        Self::of(&chosen)
    }

    /// The loop that runs on this thread, if one does.
    pub(crate) fn here(py: Python<'_>) -> PyResult<Option<(Bound<'_, PyAny>, Arc<Self>)>> {
        let Some(home) = running_loop(py)? else { return Ok(None) };
        let last = HERE.with(|here| here.last.borrow().clone());
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
        let new = Arc::new(Self { home, todo: Mutex::default() });
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
        let mut vats = vats.into_iter();
        while interrupt.is_ok()
            && let Some(vat) = vats.next()
        {
            interrupt = vat.work(py).map_err(PyErr::from);
        }
        if vats.len() > 0 {
            self.add(py, |todo| todo.vats.splice(0..0, vats).for_each(drop));
        }
        interrupt
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
            if matches!(vat.scheduling(), Scheduling::Loop(_)) {
                vat.forsake(py);
            }
        }
    }
}

/// Wakes who waits for a future.
fn settle(py: Python<'_>, future: &Py<PyAny>) -> PyResult<()> {
    let future = future.bind(py);
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        // Cancelled.
        return Ok(());
    }
    calls::call_attribute(future, "set_result", (py.None(),)).map(drop)
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
