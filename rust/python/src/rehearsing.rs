//! Rehearsals: all actors of a view of a store are made with another environment, and forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use goblins_core::churn::Churn;
use goblins_core::ids::Slot;
use goblins_core::record::{Portrait, Shape, VatRecord};
use goblins_core::survey::Fit;
use goblins_core::vat::{Vat as KernelVat, VatOptions};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::behavior::same_version;
use crate::calls;
use crate::current::occupied;
use crate::environment::Environment;
use crate::errors::{Fault, deadlock, kernel_error, open_error, store_error};
use crate::host::PyHost;
use crate::opening::{new_roots, plain_version, stored_version, version_differs};
use crate::promise::Promise;
use crate::refs::Ref;
use crate::runtime::{check, runtime};
use crate::stores::Store;

/// How many failures of one label are given one by one; of the others only the number.
const FAILURES: u64 = 100;

/// A vat in a view of a store. It is never written to.
#[pyclass(frozen, module = "goblins", name = "_Rehearsal")]
pub(crate) struct Rehearsal {
    vat: Arc<KernelVat<PyHost>>,
    record: Option<VatRecord>,
}

/// What came of the actors of one label: how many were fine, how many failed, and fields that would be lost, each with
/// the number of actors that have it.
#[derive(Default, IntoPyObject)]
struct Tally {
    fine: u64,
    failing: u64,
    lost: HashMap<String, u64>,
}

/// An actor that failed.
type Failure = (String, u64, Py<PyAny>);

/// Tallies by label, failures, and labels that are not known, with their number and one of the actors.
type Walked = (HashMap<String, Tally>, Vec<Failure>, HashMap<String, (u64, u64)>);

#[pymethods]
impl Rehearsal {
    #[new]
    fn new(py: Python<'_>, env: &Bound<'_, PyAny>, store: &Bound<'_, Store>, part: &str) -> PyResult<Self> {
        check()?;
        if occupied().is_some() {
            return Err(deadlock("rehearse(...) can't be used in a turn: it has a vat of its own"));
        }
        let env = Environment::new(env)?;
        let name = format!("rehearsal of {part}");
        let storage = store.get().storage().clone();
        let claim = py
            .detach(|| storage.view().and_then(|view| view.claim(part)))
            .map_err(|error| store_error(&error))?;
        let options = VatOptions { name: Some(name), log_capacity: None };
        let opened = py.detach(|| KernelVat::open(runtime(), options, claim, env, |_| Fit::Fits));
        let opened = opened.map_err(|error| open_error(&error))?;
        Ok(Self { vat: opened.vat, record: opened.record })
    }

    /// Whether a vat stands in that part.
    #[getter]
    fn stored(&self) -> bool {
        self.record.is_some()
    }

    /// The version of the stored roots; None if nothing is stored.
    fn version(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(record) = &self.record else {
            return Ok(None);
        };
        Ok(Some(stored_version(py, &self.vat, record)?.unbind()))
    }

    /// Makes the roots of today, and gives them to a function. True if they were upgraded.
    fn roots(
        &self,
        py: Python<'_>,
        version: &Bound<'_, PyAny>,
        upgrade: Option<&Bound<'_, PyAny>>,
        body: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let Some(record) = &self.record else {
            return Ok(false);
        };
        let differs = !same_version(&record.roots_version, &plain_version(version)?);
        let old = self.vat.roots(py, record)?;
        let rehearsed = self.vat.rehearse(py, |churn| {
            let mut roots = old;
            for root in &roots {
                churn.check_stored(py, root.get().cell.slot())?;
            }
            if differs {
                let Some(upgrade) = upgrade else {
                    return Err(version_differs(&stored_version(py, &self.vat, record)?, version).into());
                };
                roots = new_roots(&self.vat, record, &roots, upgrade, version)?;
                churn.try_to_found(py, &roots)?;
            }
            if let Some(body) = body {
                calls::call_with(body, PyTuple::new(py, roots)?)?;
            }
            Ok(())
        });
        rehearsed?;
        Ok(differs)
    }

    /// Below which slot the stored actors are, and how many slots to look at in one go.
    fn extent(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let used = self.vat.rehearse(py, |churn| Ok(churn.slots_used()))?;
        Ok((used, goblins_core::upgrading::WINDOW))
    }

    /// The first stored actor in a slot or after it.
    fn next_stored(&self, py: Python<'_>, first: u64) -> PyResult<Option<u64>> {
        let found = py.detach(|| self.vat.next_stored(Slot(first))).map_err(|error| kernel_error(&error))?;
        Ok(found.map(|slot| slot.0))
    }

    /// Makes the actors of a range of slots, each in a turn of its own that is undone. `body` may ask each: it gets
    /// the label and the Ref.
    fn walk(
        &self,
        py: Python<'_>,
        first: u64,
        end: u64,
        body: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Walked> {
        let found = py.detach(|| self.vat.stored_actors(first..end)).map_err(|error| kernel_error(&error))?;
        let session = self.vat.enter(py)?;
        let churn = session.churn().clone();
        let env = churn.env(py)?;
        let shapes = churn.stored_shapes();
        let mut walked = Walked::default();
        for one in found {
            let Some(shape) = shapes.get(one.shape.0 as usize) else {
                continue;
            };
            if !env.by_label.contains_key(&shape.label) {
                walked.2.entry(shape.label.clone()).or_insert((0, one.slot.0)).0 += 1;
                continue;
            }
            let tried = try_one(py, &churn, one.slot, shape, body);
            let tally = walked.0.entry(shape.label.clone()).or_default();
            match tried {
                Ok(lost) => {
                    tally.fine += 1;
                    lost.into_iter().for_each(|field| *tally.lost.entry(field).or_default() += 1);
                }
                Err(error) => {
                    let error = error.value(py).into_any();
                    if !error.bind(py).is_instance_of::<PyException>() {
                        return Err(PyErr::from_value(error.into_bound(py)));
                    }
                    tally.failing += 1;
                    if tally.failing <= FAILURES {
                        walked.1.push((shape.label.clone(), one.slot.0, error));
                    }
                }
            }
        }
        drop(churn);
        session.finish(py)?;
        Ok(walked)
    }

    /// Lets go of the view.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.vat.persistence() {
            Some(persistence) => Ok(persistence.claim().storage().close(py)?),
            None => Ok(()),
        }
    }
}

/// Makes one actor, and asks it. Gives the fields that are stored and are not in its new portrait.
fn try_one(
    py: Python<'_>,
    churn: &std::rc::Rc<Churn<PyHost>>,
    slot: Slot,
    shape: &Shape,
    body: Option<&Bound<'_, PyAny>>,
) -> Result<Vec<String>, Fault> {
    let ask = |actor: &Py<Ref>, portrait: &Portrait<Py<Ref>, Py<Promise>>| {
        if let Some(body) = body {
            calls::call_with(body, (portrait.shape.label.as_str(), actor))?;
        }
        let today = &portrait.shape.fields;
        Ok(shape.fields.iter().filter(|field| !today.contains(field)).cloned().collect())
    };
    churn.rehearse(py, || churn.try_actor(py, slot, ask))
}
