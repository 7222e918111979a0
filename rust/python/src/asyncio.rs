//! What asyncio tells of this thread: which event loop runs here, and which task.

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
    enter_task: Py<PyAny>,
    leave_task: Py<PyAny>,
}

/// What ran here is set aside until [`Away::back`], or a panic.
pub(crate) struct Away<'py> {
    leaving: &'static Leaving,
    home: Bound<'py, PyAny>,
    /// It was left.
    task: Option<Bound<'py, PyAny>>,
    /// The loop was left.
    from_loop: bool,
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
        let tasks = asyncio.getattr("tasks")?;
        Ok(Self {
            set_running_loop: asyncio.getattr("_set_running_loop")?.unbind(),
            enter_task: tasks.getattr("_enter_task")?.unbind(),
            leave_task: tasks.getattr("_leave_task")?.unbind(),
        })
    }
}

impl<'py> Away<'py> {
    /// Sets the task that runs in this loop aside, and the loop too if so wanted. `None`: this asyncio can't do that.
    pub(crate) fn from(home: &Bound<'py, PyAny>, from_loop: bool) -> PyResult<Option<Self>> {
        let py = home.py();
        let Some(asyncio) = asyncio(py)? else { return Ok(None) };
        let Some(leaving) = &asyncio.leaving else { return Ok(None) };
        let task = asyncio.current_task.bind(py).call1((home,))?;
        let task = (!task.is_none()).then_some(task);
        if let Some(task) = &task {
            leaving.leave_task.bind(py).call1((home, task))?;
        }
        let mut away = Self { leaving, home: home.clone(), task, from_loop: false };
        if from_loop {
            leaving.set_running_loop.bind(py).call1((py.None(),))?;
            away.from_loop = true;
        }
        Ok(Some(away))
    }

    /// All is as it was.
    pub(crate) fn back(mut self) -> PyResult<()> {
        self.restore()
    }

    fn restore(&mut self) -> PyResult<()> {
        let py = self.home.py();
        let mut result = Ok(());
        if std::mem::take(&mut self.from_loop) {
            result = self.leaving.set_running_loop.bind(py).call1((&self.home,)).map(drop);
        }
        if let Some(task) = self.task.take() {
            result = result.and(self.leaving.enter_task.bind(py).call1((&self.home, task)).map(drop));
        }
        result
    }
}

impl Asyncio {
    fn running_loop<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let home = self.running_loop.bind(py).call0()?;
        Ok((!home.is_none()).then_some(home))
    }
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
