//! Containers in the fields of actors: what they held is kept as long as it may be needed to undo a turn, and beyond
//! that for the next one, if it is much.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyFrozenSet, PyList, PySet, PyTuple};

use crate::contents::Contents;
use crate::copies::Copies;
use crate::handing_out;
use crate::shapes;
use crate::undoing::Undoing;

/// What has at least so many entries is copied at the first read after a change only. To copy less takes less time than
/// to keep the copy takes room.
const LASTING: usize = 512;

/// Whether a value can be changed in place, or may hold what can.
pub(crate) fn may_change(value: &Bound<'_, PyAny>) -> bool {
    value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PySet>()
        || value.is_exact_instance_of::<PyByteArray>()
        || value.is_exact_instance_of::<PyTuple>()
        || (value.is_exact_instance_of::<PyFrozenSet>() && shapes::any_in_sets())
        || shapes::of(value).is_some()
}

/// Gives each value that stands in a container and may change, once for each place where it stands.
pub(crate) fn each_inner<'py>(
    container: &Bound<'py, PyAny>,
    mut give: impl FnMut(Bound<'py, PyAny>),
) -> PyResult<()> {
    // Whether a value may change, its class tells, and most neighbours have the same.
    let mut plain = std::ptr::null_mut();
    let mut look = |value: Bound<'py, PyAny>| {
        let class = value.get_type_ptr();
        if class == plain {
            return;
        }
        if may_change(&value) {
            give(value);
        } else {
            plain = class;
        }
    };
    if let Ok(list) = container.cast_exact::<PyList>() {
        list.iter().for_each(look);
    } else if let Ok(dict) = container.cast_exact::<PyDict>() {
        let in_keys = shapes::any_in_sets();
        for (key, value) in dict.iter() {
            if in_keys {
                look(key);
            }
            look(value);
        }
    } else if let Ok(tuple) = container.cast_exact::<PyTuple>() {
        tuple.iter().for_each(look);
    } else if let Ok(set) = container.cast_exact::<PySet>() {
        // What is in a set has a hash: of what changes only instances of records do.
        if shapes::any_in_sets() {
            set.iter().for_each(look);
        }
    } else if let Ok(set) = container.cast_exact::<PyFrozenSet>() {
        if shapes::any_in_sets() {
            set.iter().for_each(look);
        }
    } else if let Some(shape) = shapes::of(container) {
        shape.values(container)?.into_iter().for_each(look);
    }
    Ok(())
}

/// How many entries a container has that are copied one by one.
fn entries(container: &Bound<'_, PyAny>) -> usize {
    if container.is_exact_instance_of::<PyByteArray>() { 0 } else { container.len().unwrap_or(0) }
}

/// What the value of a field held, with all containers in it. It is right until that changes, over any number of turns.
pub(crate) struct Snapshot {
    value: Py<PyAny>,
    addresses: Arc<HashSet<usize>>,
    contents: Vec<Contents>,
    /// The containers hold something else now.
    outdated: AtomicBool,
}

impl Snapshot {
    /// Whether it is that of a value.
    pub(crate) fn is_of(&self, value: &Bound<'_, PyAny>) -> bool {
        self.value.is(value)
    }

    /// Whether the containers hold that still, as far as the end of the last turn that saw them told.
    pub(crate) fn is_right(&self) -> bool {
        !self.outdated.load(Ordering::Relaxed)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.value)?;
        self.contents.iter().try_for_each(|contents| contents.traverse(visit))
    }
}

/// Shows the collector what snapshots hold, but for those that somebody else has as well: seen from several places, it
/// would be counted too often.
pub(crate) fn traverse_all(snapshots: &[Arc<Snapshot>], visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut own = snapshots.iter().filter(|snapshot| Arc::strong_count(snapshot) == 1);
    own.try_for_each(|snapshot| snapshot.traverse(visit))
}

/// The containers of an actor that a turn has come to see.
#[derive(Default)]
pub(crate) struct Containers {
    known: HashSet<usize>,
    contents: Vec<Contents>,
    /// What is kept beyond the turn, if it has not changed by then.
    lasting: Vec<Arc<Snapshot>>,
}

impl Containers {
    /// Keeps what a value and all containers in it hold. Says how many entries were copied for that.
    pub(crate) fn keep(&mut self, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut copied = 0;
        if !may_change(value) {
            return Ok(copied);
        }
        let (mut contents, mut addresses) = (Vec::new(), HashSet::new());
        let (mut others, mut todo) = (HashSet::new(), vec![value.clone()]);
        // Some of it was seen in another value.
        let mut shared = false;
        while let Some(value) = todo.pop() {
            let address = value.as_ptr() as usize;
            if addresses.contains(&address) {
                continue;
            }
            if self.knows(address) {
                shared = true;
                continue;
            }
            match Contents::of(&value)? {
                Some(held) => {
                    addresses.insert(address);
                    copied += entries(&value);
                    contents.push(held);
                }
                None if others.insert(address) => {}
                None => continue,
            }
            each_inner(&value, |inner| todo.push(inner))?;
        }
        if copied >= LASTING && !shared {
            let (value, outdated) = (value.clone().unbind(), AtomicBool::new(false));
            self.take(Arc::new(Snapshot { value, addresses: Arc::new(addresses), contents, outdated }));
        } else {
            addresses.iter().copied().for_each(handing_out::note_owned);
            self.known.extend(addresses);
            self.contents.append(&mut contents);
        }
        Ok(copied)
    }

    /// Takes what was kept of a value in an earlier turn.
    pub(crate) fn take(&mut self, snapshot: Arc<Snapshot>) {
        handing_out::note_all_owned(&snapshot.addresses);
        self.lasting.push(snapshot);
    }

    /// Whether any of the known containers has changed. What was put into them is replaced by copies then. If it is
    /// to be `stored`, other objects that would be stored as those before are no change.
    pub(crate) fn own_what_came_in<'py>(
        &self,
        py: Python<'py>,
        copies: &mut Copies<'_, 'py>,
        stored: bool,
    ) -> PyResult<bool> {
        let mut changed = Vec::new();
        for contents in &self.contents {
            if !contents.is_same(py)? {
                changed.push(contents);
            }
        }
        let mut outdated = Vec::new();
        for snapshot in &self.lasting {
            let before = changed.len();
            for contents in &snapshot.contents {
                if !contents.is_same(py)? {
                    changed.push(contents);
                }
            }
            if changed.len() > before {
                outdated.push(snapshot);
            }
        }
        if changed.is_empty() {
            return Ok(false);
        }
        if stored {
            let addresses: HashSet<_> =
                changed.iter().map(|contents| contents.container(py).as_ptr() as usize).collect();
            let mut alike = true;
            for contents in &changed {
                alike = alike && contents.is_alike(py, &addresses)?;
            }
            if alike {
                let mut undoing = Undoing::default();
                return changed.iter().try_for_each(|it| it.restore(py, &mut undoing)).map(|()| false);
            }
        }
        outdated.into_iter().for_each(|snapshot| snapshot.outdated.store(true, Ordering::Relaxed));
        changed.iter().try_for_each(|contents| contents.own(py, copies))?;
        Ok(true)
    }

    /// What the same containers hold now.
    pub(crate) fn same_now(&self, py: Python<'_>) -> PyResult<Self> {
        let mut now = Self::default();
        for contents in self.all() {
            now.keep(contents.container(py))?;
        }
        Ok(now)
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &Contents> {
        self.contents.iter().chain(self.lasting.iter().flat_map(|snapshot| &snapshot.contents))
    }

    /// Whether a container is one of these.
    pub(crate) fn knows(&self, address: usize) -> bool {
        self.known.contains(&address)
            || self.lasting.iter().any(|snapshot| snapshot.addresses.contains(&address))
    }

    /// What is right for the next turn, too.
    pub(crate) fn lasting(&self) -> impl Iterator<Item = &Arc<Snapshot>> {
        self.lasting.iter().filter(|snapshot| snapshot.is_right())
    }

    /// Takes those of another one, too.
    pub(crate) fn join(&mut self, other: Self) {
        for contents in other.contents {
            let address = contents.address();
            if !self.knows(address) {
                self.known.insert(address);
                self.contents.push(contents);
            }
        }
        for snapshot in other.lasting {
            if !self.lasting.iter().any(|known| Arc::ptr_eq(known, &snapshot)) {
                self.lasting.push(snapshot);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.lasting.is_empty()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.contents.iter().try_for_each(|contents| contents.traverse(visit))?;
        traverse_all(&self.lasting, visit)
    }

    /// Puts back what the containers held. One that can't be restored keeps no other from it.
    pub(crate) fn restore(&self, py: Python<'_>, undoing: &mut Undoing) {
        for contents in self.all().rev() {
            if let Err(error) = contents.restore(py, undoing) {
                undoing.failed(error);
            }
        }
        for contents in self.all() {
            if let Err(error) = undoing.put_replacements(contents.container(py)) {
                undoing.failed(error);
            }
        }
    }
}
