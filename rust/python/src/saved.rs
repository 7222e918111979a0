//! What is needed to undo changes of an instance of a class of actors, and to see at the end of a turn what has changed.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use goblins_core::actor::Life;
use goblins_core::churn::Churn;
use goblins_core::ids::VatId;
use parking_lot::Mutex;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::alike::{alike, alike_plain};
use crate::class_actor::{ActorBase, ClassInfo, Owner, no_field};
use crate::containers::{Containers, Snapshot, may_change, traverse_all};
use crate::copies::Copies;
use crate::current::current;
use crate::errors::{behavior_error, log_large_field, no_turn_error};
use crate::fields;
use crate::handing_out;
use crate::host::PyHost;
use crate::inline;
use crate::interrupts;
use crate::leaf;
use crate::past;
use crate::refs::Ref;
use crate::sharing;
use crate::undoing::Undoing;

/// How many entries may be copied for a turn before a word is said about it.
const MANY_ENTRIES: usize = 5000;

/// The fields of an instance as they were, and what their containers held.
pub(crate) struct Kept {
    /// Where and when it was kept: turns of two vats may have the same epoch.
    vat: VatId,
    epoch: u64,
    /// None if the actor had another behavior.
    fields: Option<Entries>,
    /// None as long as no field with a container was read.
    containers: Mutex<Option<Box<Containers>>>,
    /// What large containers hold since a turn before. Between two turns an instance that has any keeps only these.
    lasting: Mutex<Lasting>,
    /// Somebody got hold of the dict that holds the fields.
    exposed: AtomicBool,
}

/// Kept for later: no vat has this number, and no turn this epoch.
const NO_TURN: (VatId, u64) = (VatId(u64::MAX), 0);

type Lasting = Option<Box<Vec<Arc<Snapshot>>>>;

/// The entries of a dict, in their order: less to make, to compare and to drop than a copy of the dict.
struct Entries(Box<[(Py<PyAny>, Py<PyAny>)]>);

impl Entries {
    fn of(dict: &Bound<'_, PyDict>) -> Self {
        Self(dict.iter().map(|(key, value)| (key.unbind(), value.unbind())).collect())
    }

    /// The value of a key, which most likely stands at this index.
    fn get<'py>(
        &self,
        py: Python<'py>,
        index: usize,
        key: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let is_it = |entry: &&(Py<PyAny>, Py<PyAny>)| entry.0.is(key);
        if let Some((_, value)) = self.0.get(index).filter(is_it).or_else(|| self.0.iter().find(is_it)) {
            return Ok(Some(value.bind(py).clone()));
        }
        // A name that came by way of the dict may be another object.
        for (other, value) in &self.0 {
            if other.bind(py).eq(key)? {
                return Ok(Some(value.bind(py).clone()));
            }
        }
        Ok(None)
    }

    /// Those of an instance.
    fn of_instance(instance: &Bound<'_, ActorBase>) -> PyResult<Self> {
        match Self::of_inline(instance) {
            Some(entries) => Ok(entries),
            None => Ok(Self::of(&fields::own_dict(instance)?)),
        }
    }

    fn of_inline(instance: &Bound<'_, ActorBase>) -> Option<Self> {
        let (py, info) = (instance.py(), instance.get().info.get());
        let mut entries = Vec::with_capacity(inline::count(instance)?);
        for (index, field) in info.fields.iter().enumerate() {
            let value = inline::get(instance, index, field.bind(py))?;
            entries.extend(value.map(|value| (field.clone_ref(py).into_any(), value.unbind())));
        }
        (Some(entries.len()) == inline::count(instance)).then(|| Self(entries.into_boxed_slice()))
    }

    /// Gives an instance these fields again; false if that must be done in its dict.
    fn put_inline(&self, instance: &Bound<'_, ActorBase>, undoing: &mut Undoing) -> PyResult<bool> {
        let (py, info) = (instance.py(), instance.get().info.get());
        for (index, field) in info.fields.iter().enumerate() {
            let field = field.bind(py);
            let Some(now) = inline::get(instance, index, field) else {
                return Ok(false);
            };
            let before = self.get(py, index, field)?;
            if before.as_ref().map(Bound::as_ptr) == now.as_ref().map(Bound::as_ptr) {
                continue;
            }
            if let Some(now) = now {
                undoing.drop_later(now.unbind());
            }
            if !inline::set(instance, field, before.as_ref())? {
                return Ok(false);
            }
        }
        Ok(inline::count(instance) == Some(self.0.len()))
    }

    fn put_into(&self, dict: &Bound<'_, PyDict>) -> PyResult<()> {
        self.0.iter().try_for_each(|(key, value)| dict.set_item(key, value))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.iter().try_for_each(|(key, value)| {
            visit.call(key)?;
            visit.call(value)
        })
    }
}

impl Kept {
    fn new((vat, epoch): (VatId, u64), fields: Option<Entries>, lasting: Lasting) -> Arc<Self> {
        let (containers, lasting) = (Mutex::new(None), Mutex::new(lasting));
        Arc::new(Self { vat, epoch, fields, containers, lasting, exposed: AtomicBool::new(false) })
    }

    /// What a field held before, which most likely is the one with this index.
    fn before<'py>(
        &self,
        py: Python<'py>,
        index: usize,
        field: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.fields.as_ref().map_or(Ok(None), |fields| fields.get(py, index, field))
    }

    /// What a value held after an earlier turn.
    fn lasting(&self, value: &Bound<'_, PyAny>) -> Option<Arc<Snapshot>> {
        self.lasting.lock().as_ref()?.iter().find(|snapshot| snapshot.is_of(value)).cloned()
    }

    fn take_lasting(&self) -> Lasting {
        self.lasting.lock().take()
    }

    /// For the collector, unless somebody else has it as well: seen from several places, it would be counted too often.
    pub(crate) fn traverse_if_own(self: &Arc<Self>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if Arc::strong_count(self) > 1 {
            return Ok(());
        }
        self.fields.iter().try_for_each(|fields| fields.traverse(visit))?;
        if let Some(containers) = self.containers.try_lock().as_deref().and_then(Option::as_ref) {
            containers.traverse(visit)?;
        }
        match self.lasting.try_lock().as_deref() {
            Some(Some(lasting)) => traverse_all(lasting, visit),
            _ => Ok(()),
        }
    }

    /// Does something with the containers. They are not locked meanwhile: code of the user may run, and come back here.
    fn with_containers<T>(&self, body: impl FnOnce(&mut Containers) -> T) -> T {
        let mut lent = Lent { kept: self, containers: self.containers.lock().take() };
        body(lent.containers.get_or_insert_default())
    }
}

/// Containers that go back whatever becomes of who has them, a panic too: they are needed to undo the turn.
struct Lent<'a> {
    kept: &'a Kept,
    containers: Option<Box<Containers>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(containers) = self.containers.take().filter(|containers| !containers.is_empty()) else {
            return;
        };
        let others = self.kept.containers.lock().replace(containers);
        if let (Some(others), Some(containers)) = (others, &mut *self.kept.containers.lock()) {
            containers.join(*others);
        }
    }
}

/// What is needed to undo changes of an instance.
pub(crate) struct Saved {
    instance: Py<ActorBase>,
    kept: Arc<Kept>,
    /// It has changed in any case.
    grown: bool,
    /// The actor had another behavior already.
    orphan: bool,
    /// Changes are written.
    stored: bool,
}

/// Notes that an instance just made from its record has something that is not in the record.
pub(crate) fn note_grown(instance: &Bound<'_, ActorBase>, actor: &Bound<'_, Ref>) -> PyResult<()> {
    let Some(churn) = current() else {
        return Ok(());
    };
    let kept = Kept::new(NO_TURN, Some(Entries::of(&fields::dict(instance)?)), None);
    let saved = Saved { instance: instance.clone().unbind(), kept, grown: true, orphan: false, stored: true };
    churn.touch(instance.py(), actor.as_unbound(), saved);
    Ok(())
}

/// Notes that an instance has just become the behavior of an actor: all that it holds comes from outside.
pub(crate) fn note_new(
    churn: &Churn<PyHost>,
    instance: &Bound<'_, ActorBase>,
    actor: &Bound<'_, Ref>,
) -> PyResult<()> {
    let py = instance.py();
    let turn = (churn.vat().id(), churn.epoch());
    let kept = Kept::new(turn, None, None);
    handing_out::begin((turn.0.0, turn.1));
    let before = instance.get().kept.replace(py, Some(kept.clone()));
    drop(before);
    leaf::show_instance(instance, actor);
    let saved =
        Saved { instance: instance.clone().unbind(), kept, grown: true, orphan: false, stored: false };
    churn.touch(py, actor.as_unbound(), saved);
    Ok(())
}

/// Forgets what was kept for undoing changes of an instance, outside of turns.
pub(crate) fn forget_kept(instance: &Bound<'_, ActorBase>) {
    let before = instance.get().kept.replace(instance.py(), None);
    drop(before);
}

/// Keeps what is needed to undo changes of an instance, if this is the first in this turn.
pub(crate) fn touch<'py>(instance: &Bound<'py, ActorBase>) -> PyResult<Option<Arc<Kept>>> {
    let churn = current().filter(|churn| churn.in_turn());
    if let Some(churn) = &churn
        && let Some(kept) = kept_before(churn, instance)?
    {
        return Ok(Some(kept));
    }
    let actor = match instance.get().owner(instance.py()) {
        Owner::Nobody => return Ok(None),
        // Nobody will see what is changed, but for this turn.
        Owner::Gone if churn.is_some() => return Ok(None),
        Owner::Gone => None,
        Owner::Actor(actor) => Some(actor),
    };
    match (churn, actor) {
        (Some(churn), Some(actor)) if Arc::ptr_eq(churn.vat(), actor.get().cell.vat()) => {
            keep(&churn, instance, &actor).map(Some)
        }
        (_, actor) => Err(not_in_turn(instance, actor)?),
    }
}

/// The error for a field that is used where no turn of its vat is open.
#[cold]
#[inline(never)]
fn not_in_turn(instance: &Bound<'_, ActorBase>, actor: Option<Bound<'_, Ref>>) -> PyResult<PyErr> {
    if current().is_none() {
        crate::runtime::check()?;
    }
    let class = instance.get().info.get().name.bind(instance.py());
    Ok(no_turn_error(match actor {
        Some(actor) => {
            let cell = &actor.get().cell;
            let (slot, vat) = (cell.slot(), cell.vat().name());
            format!(
                "the fields of {class}#{slot} can be used in turns of its vat {vat} only: send it a message"
            )
        }
        None => format!("the fields of this {class} can't be used: nobody refers to its actor any more"),
    }))
}

/// What was kept in this turn already.
fn kept_before(churn: &Churn<PyHost>, instance: &Bound<'_, ActorBase>) -> PyResult<Option<Arc<Kept>>> {
    let is_of_turn = |kept: &Arc<Kept>| kept.epoch == churn.epoch() && kept.vat == churn.vat().id();
    let kept = instance.get().kept.get(instance.py()).filter(is_of_turn);
    if kept.is_some() && past::is_any() {
        past::check(instance.py())?;
    }
    Ok(kept)
}

fn keep(
    churn: &Churn<PyHost>,
    instance: &Bound<'_, ActorBase>,
    actor: &Bound<'_, Ref>,
) -> PyResult<Arc<Kept>> {
    let py = instance.py();
    let epoch = churn.epoch();
    if past::is_any() {
        past::check(py)?;
    }
    handing_out::begin((churn.vat().id().0, epoch));
    let kept = Kept::new((churn.vat().id(), epoch), Some(Entries::of_instance(instance)?), None);
    if let Some(before) = instance.get().kept.replace(py, Some(kept.clone())) {
        *kept.lasting.lock() = before.take_lasting();
    }
    leaf::show_instance(instance, actor);
    let orphan = has_another_behavior(actor, instance);
    let stored = churn.vat().persistence().is_some();
    let saved =
        Saved { instance: instance.clone().unbind(), kept: kept.clone(), grown: false, orphan, stored };
    churn.touch(py, actor.as_unbound(), saved);
    Ok(kept)
}

/// Keeps all that an instance's fields hold: for code that goes on after a wait, with what it read before.
pub(crate) fn touch_all(instance: &Bound<'_, ActorBase>) -> PyResult<()> {
    let Some(kept) = touch(instance)? else {
        return Ok(());
    };
    for (index, (name, value)) in fields::dict(instance)?.copy()?.into_iter().enumerate() {
        let name = name.cast_into::<PyString>()?;
        if may_change(&value) && kept.before(instance.py(), index, &name)?.is_some_and(|old| old.is(&value)) {
            keep_field(instance, &kept, &name, &value)?;
        }
    }
    Ok(())
}

/// As [`touch_all`], for one who gets hold of the dict that holds the fields.
pub(crate) fn expose(instance: &Bound<'_, ActorBase>) -> PyResult<()> {
    touch_all(instance)?;
    let kept = instance.get().kept.get(instance.py());
    let was_exposed = kept.is_none_or(|kept| kept.exposed.swap(true, Ordering::Relaxed));
    if was_exposed { Ok(()) } else { past::unwatch(&fields::dict(instance)?) }
}

/// Keeps what a field and all containers in it hold.
fn keep_field(
    instance: &Bound<'_, ActorBase>,
    kept: &Kept,
    name: &Bound<'_, PyString>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = instance.py();
    let copied = kept.with_containers(|containers| {
        if containers.knows(value.as_ptr() as usize) {
            return Ok(0);
        }
        match kept.lasting(value) {
            Some(snapshot) => {
                containers.take(snapshot);
                Ok(0)
            }
            None => containers.keep(value),
        }
    })?;
    if copied > MANY_ENTRIES {
        let info = instance.get().info.get();
        if info.first_of(name) {
            log_large_field(&info.name.bind(py).to_string_lossy(), name, copied);
        }
    }
    Ok(())
}

fn has_another_behavior(actor: &Bound<'_, Ref>, instance: &Bound<'_, ActorBase>) -> bool {
    match actor.get().cell.state().life() {
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
        if past::is_any() {
            past::check(py)?;
        }
        let changed = self.compare(py)?;
        self.let_go(py);
        if changed
            && self.orphan
            && let Some(actor) = self.instance.get().owner(py).actor()
        {
            return Err(lost_change(&actor));
        }
        Ok(changed)
    }

    /// The instance forgets what was kept for this turn: the collector does not see it there.
    fn let_go(&self, py: Python<'_>) {
        let instance = self.instance.bind(py);
        let lasting = self.kept.take_lasting().map(|lasting| Kept::new(NO_TURN, None, Some(lasting)));
        let kept = &instance.get().kept;
        if kept.get(py).is_some_and(|kept| Arc::ptr_eq(&kept, &self.kept)) {
            let before = kept.replace(py, lasting);
            drop(before);
        }
        if self.kept.exposed.load(Ordering::Relaxed)
            && let Err(error) = fields::renew(instance)
        {
            interrupts::write_unraisable(py, error, Some(instance.as_any()));
        }
    }

    fn compare(&self, py: Python<'_>) -> PyResult<bool> {
        // Most turns come to see no container.
        if self.kept.containers.lock().is_none() {
            return self.compare_inline(py).unwrap_or_else(|| self.compare_with(py, None));
        }
        self.kept.with_containers(|containers| self.compare_with(py, Some(containers)))
    }

    /// As [`compare`](Self::compare), for one that has no dict, nor any container; `None` if it is another one.
    fn compare_inline(&self, py: Python<'_>) -> Option<PyResult<bool>> {
        if self.kept.lasting.lock().is_some() {
            return None;
        }
        let instance = self.instance.bind(py);
        let info = instance.get().info.get();
        let mut changed = self.grown;
        for (index, field) in info.fields.iter().enumerate() {
            let field = field.bind(py);
            let value = inline::get(instance, index, field)??;
            let old = match self.kept.before(py, index, field) {
                Ok(old) => old,
                Err(error) => return Some(Err(error)),
            };
            changed |= self.is_plain_change(old.as_ref(), &value)?;
        }
        (inline::count(instance) == Some(info.fields.len())).then_some(Ok(changed))
    }

    /// Whether a field has another value, as far as that shows at once; `None` if something in it may have changed.
    fn is_plain_change(&self, old: Option<&Bound<'_, PyAny>>, value: &Bound<'_, PyAny>) -> Option<bool> {
        if old.is_some_and(|old| old.is(value)) {
            return Some(false);
        }
        if may_change(value) {
            return None;
        }
        Some(!(self.stored && old.is_some_and(|old| alike_plain(old, value))))
    }

    fn compare_with(&self, py: Python<'_>, containers: Option<&Containers>) -> PyResult<bool> {
        let instance = self.instance.bind(py);
        let info = instance.get().info.get();
        let now = fields::dict(instance)?;
        let mut copies = Copies::new(containers);
        let inside = match containers {
            Some(containers) => containers.own_what_came_in(py, &mut copies, self.stored)?,
            None => false,
        };
        let mut changed = inside | self.grown;
        for (index, field) in info.fields.iter().enumerate() {
            let field = field.bind(py);
            let Some(value) = now.get_item(field)? else {
                let message = format!("the field {field} of an actor was deleted: give it a value instead");
                return Err(PyAttributeError::new_err(message));
            };
            let old = self.kept.before(py, index, field)?;
            if let Some(is_change) = self.is_plain_change(old.as_ref(), &value) {
                changed |= is_change;
                continue;
            }
            if let Some(old) = old
                && self.stored
                && !inside
                && alike(&value, &old, &HashSet::new())
            {
                past::own(|| now.set_item(field, old))?;
                continue;
            }
            changed = true;
            if let Some(own) = copies.of(&value)? {
                past::own(|| now.set_item(field, own))?;
            }
            guard(instance, info, field)?;
        }
        if now.len() > info.fields.len() {
            look_at_others(info, &now, changed)?;
        }
        if copies.is_tangled() {
            past::own(|| sharing::separate(&now, &info.fields))?;
            drop(self.kept.take_lasting());
        } else {
            self.keep_lasting(&now, containers);
        }
        Ok(changed)
    }

    /// Keeps for the next turn what the large containers hold that stand in the fields now.
    fn keep_lasting(&self, now: &Bound<'_, PyDict>, containers: Option<&Containers>) {
        let mut all: Vec<_> = containers.into_iter().flat_map(Containers::lasting).cloned().collect();
        let before = self.kept.take_lasting();
        if all.is_empty() && before.is_none() {
            return;
        }
        for snapshot in before.into_iter().flat_map(|before| *before) {
            if !all.iter().any(|other| Arc::ptr_eq(other, &snapshot)) {
                all.push(snapshot);
            }
        }
        all.retain(|snapshot| snapshot.is_right() && now.iter().any(|(_, value)| snapshot.is_of(&value)));
        *self.kept.lasting.lock() = (!all.is_empty()).then(|| Box::new(all));
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            instance: self.instance.clone_ref(py),
            kept: self.kept.clone(),
            grown: self.grown,
            orphan: self.orphan,
            stored: self.stored,
        }
    }

    /// Puts the state back, and gives what it was before that.
    pub(crate) fn exchange(self, py: Python<'_>) -> PyResult<Self> {
        let instance = self.instance.bind(py);
        let now = fields::dict(instance)?;
        let mut containers = self.kept.with_containers(|containers| containers.same_now(py))?;
        for (_, value) in now.copy()? {
            containers.keep(&value)?;
        }
        let kept = Kept::new(NO_TURN, Some(Entries::of(&now)), None);
        *kept.containers.lock() = Some(Box::new(containers));
        let before = Self {
            instance: self.instance.clone_ref(py),
            kept,
            grown: false,
            orphan: false,
            stored: self.stored,
        };
        self.restore();
        Ok(before)
    }

    /// For the collector. The actor may hold the same fields still, but does not need them any more.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.instance)?;
        self.kept.traverse_if_own(visit)
    }

    pub(crate) fn restore(self) {
        Python::attach(|py| {
            let instance = self.instance.bind(py);
            // What fails for want of memory may well succeed when it is done again.
            let mut attempts = [Undoing::default(), Undoing::default()];
            for undoing in &mut attempts {
                let done = catch_unwind(AssertUnwindSafe(|| self.put_back(py, undoing)));
                match done {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => undoing.failed(error),
                    Err(_) => undoing.failed(PyRuntimeError::new_err("a panic in an undo")),
                }
                if undoing.is_whole() {
                    break;
                }
            }
            self.let_go(py);
            forget_kept(instance);
            let [first, second] = attempts;
            if !first.is_whole()
                && let Some(error) = second.into_error()
            {
                interrupts::write_unraisable(py, error, Some(instance.as_any()));
            }
        });
    }

    fn put_back(&self, py: Python<'_>, undoing: &mut Undoing) -> PyResult<()> {
        let instance = self.instance.bind(py);
        if let Some(before) = &self.kept.fields
            && !before.put_inline(instance, undoing)?
        {
            let now = fields::dict(instance)?;
            undoing.drop_later(now.copy()?.into_any().unbind());
            now.clear();
            past::own(|| before.put_into(&now))?;
        }
        self.kept.with_containers(|containers| containers.restore(py, undoing));
        if undoing.has_replacements() {
            let now = fields::dict(instance)?;
            past::own(|| undoing.put_replacements(now.as_any()))?;
        }
        Ok(())
    }
}

/// Looks at what an instance holds beside its fields: what its class has computed of them and kept is left out of the
/// state, and goes when that changes.
fn look_at_others(info: &ClassInfo, now: &Bound<'_, PyDict>, changed: bool) -> PyResult<()> {
    let py = now.py();
    for (name, value) in now.copy()? {
        let name = name.cast_into::<PyString>()?;
        if info.has(py, &name)? {
            continue;
        }
        if !info.caches.bind(py).contains(&name)? {
            return Err(no_field(info, py, &name));
        }
        // Nobody sees what is changed in a container that is no field's.
        if changed || may_change(&value) {
            past::own(|| now.del_item(name))?;
        }
    }
    Ok(())
}

/// Sees to it that reads of a field are noticed from now on: it was not known to hold what changes in place.
pub(crate) fn guard(
    instance: &Bound<'_, ActorBase>,
    info: &ClassInfo,
    field: &Bound<'_, PyString>,
) -> PyResult<()> {
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
        let Some(value) = fields::dict(instance)?.get_item(name)? else {
            let class = instance.get().info.get().name.bind(slf.py());
            return Err(PyAttributeError::new_err(format!("the field {class}.{name} has no value yet")));
        };
        if !may_change(&value) {
            return Ok(value);
        }
        if let Some(kept) = touch(instance)?
            && kept.before(slf.py(), 0, name)?.is_some_and(|old| old.is(&value))
        {
            keep_field(instance, &kept, name, &value)?;
        }
        Ok(value)
    }

    fn __set__(&self, py: Python<'_>, instance: &Bound<'_, PyAny>, value: Py<PyAny>) -> PyResult<()> {
        let instance = instance.cast::<ActorBase>()?;
        touch(instance)?;
        let fields = fields::dict(instance)?;
        past::own(|| fields.set_item(self.name.bind(py), value))
    }
}
