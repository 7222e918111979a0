//! Hot replacement and the end of upgrades, as `goblins._replacing` and `goblins._upgrading` ask for them.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use goblins_core::actor::Life;
use goblins_core::churn::Churn;
use goblins_core::ids::Slot;
use goblins_core::record::Shape;
use goblins_core::replacing::Stage;
use goblins_core::survey::Unfit;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::behavior;
use crate::class_actor;
use crate::current::current_turn;
use crate::environment::Environment;
use crate::errors::{self, Fault};
use crate::host::PyHost;
use crate::portrayed::Portrayed;
use crate::refs::Ref;

/// Actors that an environment can't make: label, reason (none if the label is not known), how many, one of them.
type Unfits = Vec<(String, Option<String>, u64, u64)>;

pub(crate) fn unfits(found: Vec<Unfit>) -> Unfits {
    found.into_iter().map(|unfit| (unfit.label, unfit.reason, unfit.count, unfit.slot.0)).collect()
}

/// Stored actors of the vat whose turn this is that an environment can't make.
#[pyfunction]
pub(crate) fn _find_unfit(env: &Bound<'_, PyAny>) -> PyResult<Unfits> {
    let py = env.py();
    let churn = current_turn("replace_behavior()")?;
    let judge = Environment::new(env)?.judge(py)?;
    Ok(unfits(churn.find_unfit(py, |shape| judge.fits(shape))?))
}

/// The constructors of those actors that live in the vat whose turn this is, each once.
#[pyfunction]
pub(crate) fn _constructors(actors: Vec<Bound<'_, Ref>>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let churn = current_turn("replace_behavior()")?;
    let mut found: Vec<Bound<'_, PyAny>> = Vec::new();
    for actor in &actors {
        if !churn.is_near(actor.as_unbound()) {
            continue;
        }
        if let Some(constructor) = constructor(actor)
            && !found.iter().any(|known| known.is(&constructor))
        {
            found.push(constructor);
        }
    }
    Ok(found)
}

/// The constructor of an actor's present behavior, if it is one that gives a portrait.
fn constructor<'py>(actor: &Bound<'py, Ref>) -> Option<Bound<'py, PyAny>> {
    let py = actor.py();
    let behavior = match actor.get().cell.state().life() {
        Life::Live(behavior) => behavior.clone_ref(py),
        Life::Ghost | Life::Gone => return None,
    };
    let behavior = behavior.bind(py);
    if let Some(instance) = class_actor::instance(behavior) {
        return Some(instance.as_any().get_type().into_any());
    }
    if let Ok(portrayed) = behavior.cast_exact::<Portrayed>() {
        return Some(portrayed.get().origin()?.constructor.bind(py).clone());
    }
    behavior::source(behavior).map(|source| source.constructor.bind(py).clone().into_any())
}

/// What an environment is to do with an actor.
enum Verdict {
    Same(String),
    Changed(String),
    /// It has no portrait, or its label is not known.
    Foreign,
}

fn verdict(old: &Environment, new: &Environment, records_differ: bool, actor: &Bound<'_, Ref>) -> Verdict {
    let known = constructor(actor).and_then(|constructor| {
        let shape = old.by_constructor.get(&(constructor.as_ptr() as usize))?;
        Some((shape.label.clone(), old.by_label.get(&shape.label)?, new.by_label.get(&shape.label)?))
    });
    match known {
        None => Verdict::Foreign,
        Some((label, before, now)) if before.is(now) && !records_differ => Verdict::Same(label),
        Some((label, ..)) => Verdict::Changed(label),
    }
}

/// An actor that could not be replaced.
type Failure = (String, u64, &'static str, Py<PyAny>);

/// How many actors there are of each label.
type Counts = HashMap<String, u64>;

/// How many actors were replaced, left alone, and stored under an unknown label; and what failed.
type Outcome = (Counts, Counts, Counts, Vec<Failure>);

/// Gives the vat whose turn this is a new environment, and its actors the code of that. `others` are actors that are
/// not stored; `unknown` are those stored under a label that only the old environment has. A failure raises, unless
/// this is a rehearsal (`dry_run`): then all failures are given back.
#[pyfunction]
pub(crate) fn _replace(
    old: &Bound<'_, PyAny>,
    new: &Bound<'_, PyAny>,
    others: Vec<Bound<'_, Ref>>,
    mut unknown: Counts,
    dry_run: bool,
) -> PyResult<Outcome> {
    let py = new.py();
    let churn = current_turn("replace_behavior()")?;
    let old = match churn.vat().persistence() {
        Some(persistence) => persistence.env(),
        None => Arc::new(Environment::new(old)?),
    };
    let new = Arc::new(Environment::new(new)?);
    let records_differ = !old.records.are_among(&new.records);
    let (mut replaced, mut left) = (Counts::new(), Counts::new());
    let mut labels: HashMap<Slot, String> = HashMap::new();
    // Those that count as unknown so far.
    let mut unknowns: HashMap<Slot, String> = HashMap::new();
    let shapes = churn.stored_shapes();
    let mut chosen = Vec::new();
    let near = others.into_iter().map(Bound::unbind).filter(|actor| churn.is_near(actor));
    for actor in churn.live_actors(py).into_iter().chain(near) {
        let slot = actor.get().cell.slot();
        if labels.contains_key(&slot) {
            continue;
        }
        if let Some(label) = unknown_label_of(py, &churn, &actor, &shapes, &unknown)? {
            unknowns.insert(slot, label);
        }
        match verdict(&old, &new, records_differ, actor.bind(py)) {
            Verdict::Foreign => {}
            Verdict::Same(label) => {
                if !unknowns.contains_key(&slot) {
                    *left.entry(label.clone()).or_default() += 1;
                }
                labels.insert(slot, label);
            }
            Verdict::Changed(label) => {
                labels.insert(slot, label);
                chosen.push(actor);
            }
        }
    }
    let mut failures: Vec<Failure> = Vec::new();
    let mut failed = |actor: &Py<Ref>, stage: Stage, error: Fault| -> Result<(), Fault> {
        let cell = &actor.get().cell;
        let label = labels.get(&cell.slot()).cloned().unwrap_or_default();
        let value = error.value(py);
        // One that is not stored need not be able to be.
        let may_stay = stage == Stage::Portrait && !cell.is_stored();
        let ordinary = value.bind(py).is_instance_of::<PyException>();
        if ordinary && (dry_run || may_stay) {
            failures.push((label, cell.slot().0, words(stage), value.into_any()));
            return Ok(());
        }
        let place = format!(
            "while {} of vat {} was replaced: {}",
            actor.get().title(py),
            cell.vat().name(),
            words(stage)
        );
        errors::add_note(py, &error, &place);
        Err(error)
    };
    let made = churn.replace(py, &old, new.clone(), chosen, &mut failed)?;
    if dry_run {
        churn.try_to_store(py, &new, &made, &mut failed)?;
    }
    for actor in &made.actors {
        let slot = actor.get().cell.slot();
        if let Some(label) = labels.get(&slot) {
            *replaced.entry(label.clone()).or_default() += 1;
        }
        // It is stored under the label of its new code.
        if let Some(count) = unknowns.get(&slot).and_then(|label| unknown.get_mut(label)) {
            *count = count.saturating_sub(1);
        }
    }
    unknown.retain(|_, count| *count > 0);
    Ok((replaced, left, unknown, failures))
}

/// The label that an actor is stored under, if that is an unknown one.
fn unknown_label_of(
    py: Python<'_>,
    churn: &Rc<Churn<PyHost>>,
    actor: &Py<Ref>,
    shapes: &[Arc<Shape>],
    unknown: &Counts,
) -> PyResult<Option<String>> {
    let cell = &actor.get().cell;
    if unknown.is_empty() || !cell.is_stored() {
        return Ok(None);
    }
    let shape = churn.stored_shape(py, cell.slot())?.and_then(|shape| shapes.get(shape.0 as usize));
    Ok(shape.map(|shape| shape.label.clone()).filter(|label| unknown.contains_key(label)))
}

fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Portrait => "the old code could not give its portrait",
        Stage::Make => "the new code could not make it",
        Stage::Store => "what the new code made can't be stored",
    }
}

/// The stored actors of the vat whose turn this is, in a range of slots, that today's environment would store
/// otherwise: slots, and the labels that they have.
#[pyfunction]
pub(crate) fn _outdated(py: Python<'_>, first: u64, end: u64) -> PyResult<Vec<(u64, String)>> {
    let churn = current_turn("upgrade_all()")?;
    let env = churn.env(py)?;
    let shapes = churn.stored_shapes();
    let old: Vec<Option<&str>> =
        shapes.iter().map(|shape| (!env.is_today(shape)).then_some(shape.label.as_str())).collect();
    let found = churn.stored_actors(py, first..end)?;
    let outdated = found.into_iter().filter_map(|one| {
        let label = old.get(one.shape.0 as usize).copied().flatten()?;
        Some((one.slot.0, label.to_owned()))
    });
    Ok(outdated.collect())
}

/// Below which slot the stored actors of the vat are whose turn this is, and how many slots to look at in one go;
/// nothing to look at if all shapes are today's.
#[pyfunction]
pub(crate) fn _to_walk(py: Python<'_>) -> PyResult<(u64, u64)> {
    let churn = current_turn("upgrade_all()")?;
    let env = churn.env(py)?;
    let any = churn.stored_shapes().iter().any(|shape| !env.is_today(shape));
    Ok((if any { churn.slots_used() } else { 0 }, goblins_core::upgrading::WINDOW))
}

/// The first stored actor in a slot or after it.
#[pyfunction]
pub(crate) fn _next_stored(py: Python<'_>, first: u64) -> PyResult<Option<u64>> {
    let churn = current_turn("upgrade_all()")?;
    Ok(churn.next_stored(py, Slot(first))?.map(|slot| slot.0))
}

/// Makes those of some actors that are outdated still, and stores them again at the end of the turn that this is.
/// Gives how many were upgraded, by the label that they had: those that these have used are counted too.
#[pyfunction]
pub(crate) fn _renew(py: Python<'_>, slots: Vec<u64>) -> PyResult<Counts> {
    let churn = current_turn("upgrade_all()")?;
    let env = churn.env(py)?;
    let slots: Vec<Slot> = slots.into_iter().map(Slot).collect();
    let renewed = churn.renew(py, &slots, |shape| !env.is_today(shape))?;
    let shapes = churn.stored_shapes();
    let mut counts = Counts::new();
    for shape in renewed.into_iter().filter_map(|one| shapes.get(one.shape.0 as usize)) {
        *counts.entry(shape.label.clone()).or_default() += 1;
    }
    Ok(counts)
}

/// The environment of a vat, as it was given; None for one without a store.
pub(crate) fn env_of(py: Python<'_>, vat: &goblins_core::vat::Vat<PyHost>) -> Option<Py<PyAny>> {
    vat.persistence().map(|persistence| persistence.env().origin.clone_ref(py))
}
