//! What is needed to undo changes of an instance of a class of actors, and to see at the end of a turn what has changed.

use std::sync::Arc;

use goblins_core::actor::Life;
use goblins_core::churn::Churn;
use parking_lot::Mutex;
use pyo3::exceptions::PyAttributeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::class_actor::{ActorBase, ClassInfo, Owner, actor, fields, no_field};
use crate::containers::{self, Containers};
use crate::current::current;
use crate::errors::{behavior_error, no_turn_error};
use crate::host::PyHost;
use crate::leaf;
use crate::refs::Ref;

/// The fields of an instance as they were, and what their containers held.
pub(crate) struct Kept {
    fields: Py<PyDict>,
    containers: Mutex<Containers>,
}

/// What is needed to undo changes of an instance.
pub(crate) struct Saved {
    instance: Py<ActorBase>,
    kept: Arc<Kept>,
    /// It has changed in any case.
    grown: bool,
    /// The actor had another behavior already.
    orphan: bool,
}

/// Notes that an instance just made from its record has something that is not in the record.
pub(crate) fn note_grown(instance: &Bound<'_, ActorBase>, actor: &Bound<'_, Ref>) -> PyResult<()> {
    let Some(churn) = current() else {
        return Ok(());
    };
    let fields = fields(instance)?.copy()?.unbind();
    let kept = Arc::new(Kept { fields, containers: Mutex::new(Containers::default()) });
    let saved = Saved { instance: instance.clone().unbind(), kept, grown: true, orphan: false };
    churn.touch(instance.py(), actor.as_unbound(), saved);
    Ok(())
}

/// Forgets what was kept for undoing changes of an instance, outside of turns.
pub(crate) fn forget_kept(instance: &Bound<'_, ActorBase>) {
    let before = {
        let mut link = instance.get().link.lock();
        link.epoch = 0;
        link.kept.take()
    };
    drop(before);
}

/// Keeps what is needed to undo changes of an instance, if this is the first in this turn.
pub(crate) fn touch<'py>(instance: &Bound<'py, ActorBase>) -> PyResult<Option<Arc<Kept>>> {
    let py = instance.py();
    let this = instance.get();
    let Some(owner) = this.owner() else {
        return Ok(None);
    };
    let churn = match current() {
        Some(churn) if churn.in_turn() && Arc::ptr_eq(churn.vat(), &owner.vat) => churn,
        other => {
            if other.is_none() {
                crate::runtime::check()?;
            }
            let class = this.info.get().name.bind(py);
            return Err(no_turn_error(format!(
                "the fields of {class}#{} can be used in turns of its vat {} only: send it a message",
                owner.slot,
                owner.vat.name()
            )));
        }
    };
    keep(&churn, instance, &owner).map(Some)
}

fn keep(churn: &Churn<PyHost>, instance: &Bound<'_, ActorBase>, owner: &Owner) -> PyResult<Arc<Kept>> {
    let py = instance.py();
    let this = instance.get();
    let epoch = churn.epoch();
    {
        let link = this.link.lock();
        if let (true, Some(kept)) = (link.epoch == epoch, &link.kept) {
            return Ok(kept.clone());
        }
    }
    containers::begin((owner.vat.id().0, epoch));
    let fields = fields(instance)?.copy()?.unbind();
    let kept = Arc::new(Kept { fields, containers: Mutex::new(Containers::default()) });
    let before = {
        let mut link = this.link.lock();
        link.epoch = epoch;
        link.kept.replace(kept.clone())
    };
    drop(before);
    if let Some(actor) = actor(py, owner) {
        leaf::show_instance(instance, &actor);
        let orphan = has_another_behavior(&actor, instance);
        let saved = Saved { instance: instance.clone().unbind(), kept: kept.clone(), grown: false, orphan };
        churn.touch(py, actor.as_unbound(), saved);
    }
    Ok(kept)
}

/// Keeps all that an instance's fields hold: for code that goes on after a wait, with what it read before.
pub(crate) fn touch_all(instance: &Bound<'_, ActorBase>) -> PyResult<()> {
    let Some(kept) = touch(instance)? else {
        return Ok(());
    };
    for (_, value) in fields(instance)? {
        if containers::may_change(&value) {
            kept.containers.lock().keep(&value)?;
        }
    }
    Ok(())
}

fn has_another_behavior(actor: &Bound<'_, Ref>, instance: &Bound<'_, ActorBase>) -> bool {
    match &actor.get().cell.state().life {
        Life::Live(behavior) => !behavior.is(instance),
        Life::Ghost | Life::Gone => false,
    }
}

fn lost_change(actor: &Bound<'_, Ref>) -> PyErr {
    behavior_error(format!(
        "{} got another behavior while this code waited, so what the code changes of the one before would be lost: \
         let it call the actor instead",
        actor.get().describe(actor.py())
    ))
}

impl Saved {
    /// Whether a field or a container in one has changed, at the end of a turn. What came in from outside is replaced
    /// by copies, so that nobody else can change it later.
    pub(crate) fn is_changed(&self, py: Python<'_>) -> PyResult<bool> {
        let changed = self.compare(py)?;
        self.let_go(py);
        if changed
            && self.orphan
            && let Some(actor) = self.instance.get().owner().and_then(|owner| actor(py, &owner))
        {
            return Err(lost_change(&actor));
        }
        Ok(changed)
    }

    /// The instance forgets what was kept: the collector does not see it there.
    fn let_go(&self, py: Python<'_>) {
        let instance = self.instance.bind(py);
        let is_ours = |kept: &Arc<Kept>| Arc::ptr_eq(kept, &self.kept);
        if instance.get().link.lock().kept.as_ref().is_some_and(is_ours) {
            forget_kept(instance);
        }
    }

    fn compare(&self, py: Python<'_>) -> PyResult<bool> {
        let instance = self.instance.bind(py);
        let info = instance.get().info.get();
        let now = fields(instance)?;
        let before = self.kept.fields.bind(py);
        let containers = self.kept.containers.lock();
        let mut copies = containers.copies();
        let mut changed = containers.own_what_came_in(py, &mut copies)? | self.grown;
        for field in &info.fields {
            let field = field.bind(py);
            let (value, old) = (now.get_item(field)?, before.get_item(field)?);
            match (value, old) {
                (Some(value), Some(old)) if value.is(&old) => {}
                (Some(value), _) => {
                    changed = true;
                    if let Some(own) = copies.of(&value)? {
                        now.set_item(field, own)?;
                    }
                    if containers::may_change(&value) {
                        guard(instance, info, field)?;
                    }
                }
                (None, _) => {
                    let message =
                        format!("the field {field} of an actor was deleted: give it a value instead");
                    return Err(PyAttributeError::new_err(message));
                }
            }
        }
        if now.len() > info.fields.len() {
            for name in now.keys() {
                let name = name.cast_into::<PyString>()?;
                if !info.has(py, &name)? {
                    return Err(no_field(info, py, &name));
                }
            }
        }
        Ok(changed)
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            instance: self.instance.clone_ref(py),
            kept: self.kept.clone(),
            grown: self.grown,
            orphan: self.orphan,
        }
    }

    /// Puts the state back, and gives what it was before that.
    pub(crate) fn exchange(self, py: Python<'_>) -> PyResult<Self> {
        let instance = self.instance.bind(py);
        let now = fields(instance)?;
        let mut containers = self.kept.containers.lock().same_now(py)?;
        for (_, value) in &now {
            containers.keep(&value)?;
        }
        let kept = Arc::new(Kept { fields: now.copy()?.unbind(), containers: Mutex::new(containers) });
        let before = Self { instance: self.instance.clone_ref(py), kept, grown: false, orphan: false };
        self.restore();
        Ok(before)
    }

    /// For the collector. The actor may hold the same fields still, but does not need them any more.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.instance)?;
        if Arc::strong_count(&self.kept) > 1 {
            // Seen from several places, it would be counted too often.
            return Ok(());
        }
        visit.call(&self.kept.fields)?;
        match self.kept.containers.try_lock() {
            Some(containers) => containers.traverse(visit),
            None => Ok(()),
        }
    }

    pub(crate) fn restore(self) {
        Python::attach(|py| {
            let instance = self.instance.bind(py);
            let restored = fields(instance).and_then(|now| {
                now.clear();
                now.update(self.kept.fields.bind(py).as_mapping())?;
                self.kept.containers.lock().restore(py)
            });
            forget_kept(instance);
            if let Err(error) = restored {
                error.write_unraisable(py, Some(instance.as_any()));
            }
        });
    }
}

/// Sees to it that reads of a field are noticed from now on: it was not known to hold what changes in place.
fn guard(instance: &Bound<'_, ActorBase>, info: &ClassInfo, field: &Bound<'_, PyString>) -> PyResult<()> {
    let py = instance.py();
    if info.guarded.bind(py).contains(field)? {
        return Ok(());
    }
    info.guarded.bind(py).add(field)?;
    instance
        .as_any()
        .get_type()
        .setattr(field, Bound::new(py, ContainerField { name: field.clone().unbind() })?)
}

/// A field that may hold what can be changed in place: reading it keeps what is needed to undo.
#[pyclass(frozen, module = "goblins", name = "_ContainerField")]
pub(crate) struct ContainerField {
    name: Py<PyString>,
}

#[pymethods]
impl ContainerField {
    #[new]
    fn new(name: Py<PyString>) -> Self {
        Self { name }
    }

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = slf.get().name.bind(slf.py());
        let Ok(instance) = instance.cast::<ActorBase>() else {
            // As for a field without a default: what makes the class of it must not take this for one.
            return Err(PyAttributeError::new_err(format!("the class has no value for its field {name}")));
        };
        let Some(value) = fields(instance)?.get_item(name)? else {
            let class = instance.get().info.get().name.bind(slf.py());
            return Err(PyAttributeError::new_err(format!("the field {class}.{name} has no value yet")));
        };
        if !containers::may_change(&value) {
            return Ok(value);
        }
        if let Some(kept) = touch(instance)?
            && kept.fields.bind(slf.py()).get_item(name)?.is_some_and(|old| old.is(&value))
        {
            kept.containers.lock().keep(&value)?;
        }
        Ok(value)
    }

    fn __set__(&self, py: Python<'_>, instance: &Bound<'_, PyAny>, value: Py<PyAny>) -> PyResult<()> {
        let instance = instance.cast::<ActorBase>()?;
        fields(instance)?.set_item(self.name.bind(py), value)
    }
}
