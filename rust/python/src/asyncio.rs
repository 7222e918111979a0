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
    });
    Ok(found.map(|found| ASYNCIO.get_or_init(py, || found)))
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
