//! What asyncio tells of this thread: which event loop runs here, and which task.

#[cfg(all(unix, not(Py_3_12)))]
mod holder;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::once::once;

/// Functions of asyncio, as they were when they were first needed.
pub(crate) struct Asyncio {
    running_loop: Py<PyAny>,
    current_task: Py<PyAny>,
    /// What tells it that another loop and another task run here.
    leaving: Option<Leaving>,
}

struct Leaving {
    set_running_loop: Py<PyAny>,
    tasks: Tasks,
}

/// Which task runs in which loop.
enum Tasks {
    /// As a dict has it.
    #[cfg(not(Py_3_14))]
    Dict(Py<PyDict>),
    /// Only these functions know.
    Functions { current: Py<PyAny>, enter: Py<PyAny>, leave: Py<PyAny> },
}

/// What ran here is set aside until [`Away::back`], or a panic.
pub(crate) struct Away<'py> {
    leaving: &'static Leaving,
    home: Bound<'py, PyAny>,
    /// It was left.
    task: Option<Bound<'py, PyAny>>,
    from_loop: Option<Left<'py>>,
}

/// How the loop was left.
enum Left<'py> {
    /// It was taken out of what the thread holds it in.
    #[cfg(all(unix, not(Py_3_12)))]
    Taken(holder::Taken<'py>),
    /// Asyncio was told.
    Told(std::marker::PhantomData<Python<'py>>),
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        // After a panic, which says enough.
        let _ = self.restore();
    }
}

/// The modules that have been imported.
pub(crate) fn modules(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules =
        once(py, &MODULES, || Ok(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind()))?;
    Ok(modules.bind(py))
}

/// None before it has been imported as a whole, since no loop runs then. It is not imported for this: that takes longer
/// than importing all else.
pub(crate) fn asyncio(py: Python<'_>) -> PyResult<Option<&'static Asyncio>> {
    static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();
    if let Some(asyncio) = ASYNCIO.get(py) {
        return Ok(Some(asyncio));
    }
    let Some(module) = modules(py)?.get_item(intern!(py, "asyncio"))? else { return Ok(None) };
    let running_loop = module.getattr_opt(intern!(py, "_get_running_loop"))?;
    let current_task = module.getattr_opt(intern!(py, "current_task"))?;
    let found = running_loop.zip(current_task).map(|(running_loop, current_task)| Asyncio {
        running_loop: running_loop.unbind(),
        current_task: current_task.unbind(),
        leaving: Leaving::find(module).ok(),
    });
    Ok(found.map(|found| ASYNCIO.get_or_init(py, || found)))
}

impl Leaving {
    fn find(asyncio: Bound<'_, PyAny>) -> PyResult<Self> {
        let tasks = Tasks::find(&asyncio.getattr("tasks")?)?;
        Ok(Self { set_running_loop: asyncio.getattr("_set_running_loop")?.unbind(), tasks })
    }
}

impl Tasks {
    fn find(tasks: &Bound<'_, PyAny>) -> PyResult<Self> {
        #[cfg(not(Py_3_14))]
        if let Ok(dict) = tasks.getattr("_current_tasks")?.cast_into_exact::<PyDict>() {
            return Ok(Self::Dict(dict.unbind()));
        }
        Ok(Self::Functions {
            current: tasks.getattr("current_task")?.unbind(),
            enter: tasks.getattr("_enter_task")?.unbind(),
            leave: tasks.getattr("_leave_task")?.unbind(),
        })
    }

    /// From now on no task runs in the loop. Gives the one that did.
    fn leave<'py>(&self, home: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = home.py();
        match self {
            #[cfg(not(Py_3_14))]
            Self::Dict(dict) => {
                let task = dict.bind(py).get_item(home)?;
                if task.is_some() {
                    dict.bind(py).del_item(home)?;
                }
                Ok(task.filter(|task| !task.is_none()))
            }
            Self::Functions { current, leave, .. } => {
                let task = current.bind(py).call1((home,))?;
                if task.is_none() {
                    return Ok(None);
                }
                leave.bind(py).call1((home, &task))?;
                Ok(Some(task))
            }
        }
    }

    fn enter(&self, home: &Bound<'_, PyAny>, task: Bound<'_, PyAny>) -> PyResult<()> {
        let py = home.py();
        match self {
            #[cfg(not(Py_3_14))]
            Self::Dict(dict) => dict.bind(py).set_item(home, task),
            Self::Functions { enter, .. } => enter.bind(py).call1((home, task)).map(drop),
        }
    }
}

impl<'py> Away<'py> {
    /// Sets the task that runs in this loop aside, and the loop too if so wanted. `None`: this asyncio can't do that.
    pub(crate) fn from(home: &Bound<'py, PyAny>, from_loop: bool) -> PyResult<Option<Self>> {
        let py = home.py();
        let Some(asyncio) = asyncio(py)? else { return Ok(None) };
        let Some(leaving) = &asyncio.leaving else { return Ok(None) };
        let task = leaving.tasks.leave(home)?;
        let mut away = Self { leaving, home: home.clone(), task, from_loop: None };
        if from_loop {
            away.from_loop = Some(away.leave_loop()?);
        }
        Ok(Some(away))
    }

    fn leave_loop(&self) -> PyResult<Left<'py>> {
        let py = self.home.py();
        #[cfg(all(unix, not(Py_3_12)))]
        if let Some(taken) = holder::take(&self.home) {
            return Ok(Left::Taken(taken));
        }
        self.leaving.set_running_loop.bind(py).call1((py.None(),))?;
        Ok(Left::Told(std::marker::PhantomData))
    }

    /// All is as it was.
    pub(crate) fn back(mut self) -> PyResult<()> {
        self.restore()
    }

    fn restore(&mut self) -> PyResult<()> {
        let py = self.home.py();
        let mut result = Ok(());
        let is_back = match self.from_loop.take() {
            None => true,
            #[cfg(all(unix, not(Py_3_12)))]
            Some(Left::Taken(taken)) => taken.put_back(),
            Some(Left::Told(_)) => false,
        };
        if !is_back {
            result = self.leaving.set_running_loop.bind(py).call1((&self.home,)).map(drop);
        }
        if let Some(task) = self.task.take() {
            result = result.and(self.leaving.tasks.enter(&self.home, task));
        }
        result
    }
}

impl Asyncio {
    fn running_loop<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        #[cfg(all(unix, not(Py_3_12)))]
        if let Some(found) = holder::running_loop(py) {
            return Ok(found);
        }
        let home = self.running_loop.bind(py).call0()?;
        let home = (!home.is_none()).then_some(home);
        #[cfg(all(unix, not(Py_3_12)))]
        if let Some(home) = &home {
            holder::learn(home);
        }
        Ok(home)
    }
}

/// In a forked child: no loop runs there.
#[cfg(unix)]
pub(crate) fn leave_to_parent() {
    #[cfg(not(Py_3_12))]
    holder::leave_to_parent();
}

/// The loop that runs on this thread, if one does.
pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    match asyncio(py)? {
        Some(asyncio) => asyncio.running_loop(py),
        None => Ok(None),
    }
}

/// The task that runs on this thread, or else the event loop that does.
pub(crate) fn running(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let Some(asyncio) = asyncio(py)? else { return Ok(None) };
    let Some(home) = asyncio.running_loop(py)? else { return Ok(None) };
    let task = asyncio.current_task.bind(py).call1((&home,))?;
    Ok(Some(if task.is_none() { home } else { task }))
}
