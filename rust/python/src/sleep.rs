//! Whether an actor may go to sleep: nobody else may hold what will be made anew when it wakes, or he would go on
//! with a stale copy.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::class_actor::{self, ActorBase};
use crate::containers::may_change;
use crate::shapes;

/// Whether nobody but the actor itself holds its instance, or a container in a field. The behavior of a function has
/// nothing that others could change.
pub(crate) fn may_sleep(behavior: &Bound<'_, PyAny>) -> PyResult<bool> {
    match class_actor::instance(behavior) {
        Some(instance) => Ok(instance.get_refcnt() == 1 && owns_containers(instance)?),
        None => Ok(true),
    }
}

/// The containers that the fields of an instance hold, each once.
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
}

fn owns_containers(instance: &Bound<'_, ActorBase>) -> PyResult<bool> {
    // What the last turn kept for undoing holds them as well.
    class_actor::forget_kept(instance);
    let mut found = Found::default();
    class_actor::fields(instance)?.values().iter().for_each(|value| found.add(value));
    let mut index = 0;
    while let Some((container, _)) = found.containers.get(index) {
        let container = container.clone();
        index += 1;
        if let Ok(list) = container.cast_exact::<PyList>() {
            list.iter().for_each(|item| found.add(item));
        } else if let Ok(dict) = container.cast_exact::<PyDict>() {
            dict.values().iter().for_each(|value| found.add(value));
        } else if let Ok(tuple) = container.cast_exact::<PyTuple>() {
            tuple.iter().for_each(|item| found.add(item));
        } else if let Some(shape) = shapes::of(&container) {
            shape.values(&container)?.into_iter().for_each(|value| found.add(value));
        }
    }
    // One reference more is that of the list itself.
    let owned = |(container, inside): &(Bound<'_, PyAny>, isize)| {
        is_constant(container) || container.get_refcnt() == inside + 1
    };
    Ok(found.containers.iter().all(owned))
}

/// A container whose own contents can't be changed, whoever holds it.
fn is_constant(container: &Bound<'_, PyAny>) -> bool {
    container.is_exact_instance_of::<PyTuple>() || shapes::of(container).is_some_and(|shape| !shape.is_mutable())
}
