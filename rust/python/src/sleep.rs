//! Whether an actor may go to sleep: nobody else may hold what will be made anew when it wakes, or he would go on
//! with a stale copy.

use std::collections::HashMap;

use goblins_core::residency::MaySleep;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFrozenSet, PyTuple};

use crate::behavior;
use crate::class_actor::{self, ActorBase};
use crate::containers::{each_inner, may_change};
use crate::fields;
use crate::portrayed::Portrayed;
use crate::saved;
use crate::shapes;

/// An instance must be held by nobody but the actor, and so must the containers in its fields. A function is never
/// changed, but what it was given may have been.
pub(crate) fn may_sleep(behavior: &Bound<'_, PyAny>) -> PyResult<MaySleep> {
    if let Some(instance) = class_actor::instance(behavior) {
        if references(instance) > 1 {
            return Ok(MaySleep::No);
        }
        let found = in_fields(instance)?;
        return Ok(match found.is_owned() {
            true => found.verdict(),
            false => MaySleep::No,
        });
    }
    if behavior.is_exact_instance_of::<Portrayed>() {
        return Ok(MaySleep::Yes);
    }
    let Some(source) = behavior::source(behavior) else {
        return Ok(MaySleep::No);
    };
    if source.constructor.get().portrait.is_some() {
        return Ok(MaySleep::Yes);
    }
    let mut found = Found::default();
    let py = behavior.py();
    source.args.bind(py).iter().for_each(|value| found.add(value));
    if let Some(kwargs) = &source.kwargs {
        kwargs.bind(py).values().iter().for_each(|value| found.add(value));
    }
    found.look_inside()?;
    Ok(found.verdict())
}

/// The containers in a state, each once, and how often the state refers to it.
#[derive(Default)]
struct Found<'py> {
    by_address: HashMap<usize, usize>,
    containers: Vec<(Bound<'py, PyAny>, isize)>,
}

impl<'py> Found<'py> {
    /// Counts a reference from within.
    fn add(&mut self, value: Bound<'py, PyAny>) {
        if !may_change(&value) {
            return;
        }
        let next = self.containers.len();
        match *self.by_address.entry(value.as_ptr() as usize).or_insert(next) {
            index if index < next => self.containers[index].1 += 1,
            _ => self.containers.push((value, 1)),
        }
    }

    /// Finds those within those found.
    fn look_inside(&mut self) -> PyResult<()> {
        let mut index = 0;
        while let Some((container, _)) = self.containers.get(index) {
            let container = container.clone();
            index += 1;
            each_inner(&container, |inner| self.add(inner))?;
        }
        Ok(())
    }

    /// Whether nobody else holds one of those that can be changed.
    fn is_owned(&self) -> bool {
        // One reference more is that of the list of those found.
        self.containers
            .iter()
            .all(|(container, inside)| is_constant(container) || references(container) == inside + 1)
    }

    fn verdict(&self) -> MaySleep {
        match self.containers.iter().all(|(container, _)| is_constant(container)) {
            true => MaySleep::Yes,
            false => MaySleep::IfUnchanged,
        }
    }
}

fn in_fields<'py>(instance: &Bound<'py, ActorBase>) -> PyResult<Found<'py>> {
    // What the last turn kept for undoing holds them as well.
    saved::forget_kept(instance);
    let mut found = Found::default();
    fields::values(instance)?.into_iter().for_each(|value| found.add(value));
    found.look_inside()?;
    Ok(found)
}

/// How many references to an object there are.
fn references<T>(object: &Bound<'_, T>) -> isize {
    // SAFETY: the object is alive, and this thread is attached.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// A container whose own contents can't be changed, whoever holds it.
fn is_constant(container: &Bound<'_, PyAny>) -> bool {
    container.is_exact_instance_of::<PyTuple>()
        || container.is_exact_instance_of::<PyFrozenSet>()
        || shapes::of(container).is_some_and(|shape| !shape.is_mutable())
}
