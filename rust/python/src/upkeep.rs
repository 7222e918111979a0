//! What is done to stores as a whole: collecting, copying, looking back.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goblins_core::collecting::{Pace, Phase, Progress, Report};
use goblins_core::copying::copy;
use goblins_core::error::KernelError;
use goblins_core::history::Generation;
use goblins_core::storage::Storage;
use goblins_core::store::StoreError;
use pyo3::prelude::*;

use crate::calls;
use crate::current::occupied;
use crate::errors::{deadlock, kernel_error, store_error};
use crate::host::PyHost;
use crate::runtime::check;
use crate::stores::Store;

/// How long a collection goes on between two looks for a signal.
const SLICE: Duration = Duration::from_millis(50);

/// Collects a store; gives an instance of `goblins._stores.CollectionReport`.
pub(crate) fn collect<'py>(
    py: Python<'py>,
    storage: &Arc<Storage<PyHost>>,
    progress: Option<&Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if occupied().is_some() {
        return Err(deadlock("a store can't be collected in a turn: its vats must come to rest in between"));
    }
    check()?;
    let mut raised = None;
    let mut looked = Instant::now();
    let found = py.detach(|| {
        storage.collect(Pace::default(), &mut |now| {
            if progress.is_none() && looked.elapsed() < SLICE {
                return ControlFlow::Continue(());
            }
            looked = Instant::now();
            match Python::attach(|py| look_around(py, progress, now)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    raised = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
    });
    match (found, raised) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(kernel_error(&KernelError::Store(error))),
        (Ok(None), None) => Err(store_error(&StoreError::Closed { store: storage.name() })),
        (Ok(Some(report)), None) => as_report(py, report),
    }
}

fn look_around(py: Python<'_>, progress: Option<&Py<PyAny>>, now: Progress) -> PyResult<()> {
    py.check_signals()?;
    let Some(progress) = progress.filter(|_| now.total > 0) else {
        return Ok(());
    };
    let phase = match now.phase {
        Phase::Marking => "marking",
        Phase::Sweeping => "sweeping",
        Phase::Compacting => "compacting",
    };
    calls::call_with(progress.bind(py), (phase, now.done, now.total)).map(drop)
}

fn as_report(py: Python<'_>, report: Report) -> PyResult<Bound<'_, PyAny>> {
    let module = py.import("goblins._stores")?;
    let make = module.getattr("PartReport")?;
    let parts = report
        .parts
        .into_iter()
        .map(|part| make.call1((part.name, part.kept, part.removed, part.bytes)))
        .collect::<PyResult<Vec<_>>>()?;
    module.call_method1("collection_report", (parts, report.lasting.as_secs_f64()))
}

/// The generations of a part: instances of `goblins._stores.Generation`.
pub(crate) fn generations<'py>(
    py: Python<'py>,
    storage: &Arc<Storage<PyHost>>,
    part: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let found = py.detach(|| storage.generations(part)).map_err(|error| store_error(&error))?;
    let found: Vec<_> =
        found.into_iter().map(|Generation { number, millis, records }| (number, millis, records)).collect();
    py.import("goblins._stores")?.call_method1("generations", (found,))
}

/// Copies a store into another one; gives the numbers of parts, records and bytes.
#[pyfunction]
pub(crate) fn _copy_store(py: Python<'_>, source: &Store, target: &Store) -> PyResult<(u64, u64, u64)> {
    if occupied().is_some() {
        return Err(deadlock("a store can't be copied in a turn: copy it outside"));
    }
    check()?;
    let (from, to) = (source.storage(), target.storage());
    let copied = py.detach(|| copy(from, to)).map_err(|error| store_error(&error))?;
    Ok((copied.parts, copied.records, copied.bytes))
}
