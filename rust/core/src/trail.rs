//! The way from a root to an actor that can't be stored, for the message of the error. It is looked for only when
//! there is such a message to be made.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::churn::Churn;
use crate::host::Host;
use crate::ids::{ShapeId, Slot, SlotMap};
use crate::persistence::Persistence;
use crate::record::{Portrait, Record, Shape};
use crate::store::StoreError;

/// So many actors are looked at, at most: the way to one far behind is not worth a walk over the whole store.
const MOST: usize = 10_000;

/// How an actor is reached. It ends with the last one that refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// The root that the way begins at, counted from 0; `None` if it was not found.
    pub root: Option<usize>,
    /// From one actor to the next.
    pub hops: Vec<Hop>,
}

/// A reference on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The label of the actor that refers to the next one.
    pub label: String,
    /// Its slot.
    pub slot: Slot,
    /// Where in it the reference stands, if the host can tell.
    pub field: Option<String>,
}

/// What is known of the open turn when an actor can't be stored.
pub(crate) struct Tracks<H: Host> {
    /// The records that it has made.
    pub(crate) sealed: SlotMap<Vec<u8>>,
    /// Actors whose portraits were not taken yet.
    pub(crate) todo: Vec<H::Actor>,
}

/// Where an actor was reached from: by the reference with this index.
type Origins = HashMap<Slot, Option<(Slot, usize)>>;

impl<H: Host> Churn<H> {
    /// The error with the way to its actor.
    pub(crate) fn traced(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        error: H::Error,
        actor: &H::Actor,
        tracks: Tracks<H>,
    ) -> H::Error {
        let trail = match self.vat().persistence() {
            Some(persistence) => self.trail(cx, persistence, H::actor_cell(actor).slot(), tracks),
            None => Trail::default(),
        };
        H::traced(cx, error, actor, &trail)
    }

    fn trail(
        self: &Rc<Self>,
        cx: H::Cx<'_>,
        persistence: &Persistence<H>,
        goal: Slot,
        tracks: Tracks<H>,
    ) -> Trail {
        let Tracks { sealed, todo } = tracks;
        let env = persistence.env();
        let decoded = |(slot, record): (_, Vec<u8>)| Some((slot, Record::decode(&record).ok()?));
        let mut fresh: HashMap<Slot, Record> = sealed.into_iter().filter_map(decoded).collect();
        for actor in todo.into_iter().take(MOST) {
            // What it refers to now counts, not what its record says. One that can't be stored either has none.
            if let Ok(portrait) = self.portrait(cx, &env, &actor) {
                let slots = portrait.refs.iter().map(|target| H::actor_cell(target).slot()).collect();
                let Portrait { shape, name, payload, .. } = portrait;
                let shape = self.work().saving.as_mut().map_or(ShapeId(0), |saving| saving.shape_id(&shape));
                let record = Record { shape, name, slots, far: Vec::new(), payload };
                fresh.insert(H::actor_cell(&actor).slot(), record);
            }
        }
        let roots = self.work().saving.as_ref().map_or_else(Vec::new, |saving| saving.roots.clone());
        let origins = self.search(cx, persistence, &fresh, &roots, goal).or_else(|| {
            // At least from one that was stored before this turn, which has changed it.
            let stored = |slot: &Slot| matches!(self.record_of(cx, persistence, *slot), Ok(Some(_)));
            let mut changed: Vec<Slot> = fresh.keys().copied().take(MOST).filter(stored).collect();
            changed.sort_unstable();
            self.search(cx, persistence, &fresh, &changed, goal)
        });
        let origins = origins.unwrap_or_default();
        let (mut hops, mut here) = (Vec::new(), goal);
        while let Some(Some((from, index))) = origins.get(&here) {
            let record = match fresh.remove(from) {
                Some(record) => Some(record),
                None => self.record_of(cx, persistence, *from).ok().flatten(),
            };
            let Some(record) = record else {
                break;
            };
            let Some(shape) = self.shape_of(&record) else {
                break;
            };
            let field = H::field_of(&shape, &record, *index);
            hops.push(Hop { label: shape.label.clone(), slot: *from, field });
            here = *from;
        }
        hops.reverse();
        Trail { root: roots.iter().position(|root| *root == here), hops }
    }

    /// Looks for an actor, beginning at some others, nearest first. `None` if it is too far.
    fn search(
        &self,
        cx: H::Cx<'_>,
        persistence: &Persistence<H>,
        fresh: &HashMap<Slot, Record>,
        begin: &[Slot],
        goal: Slot,
    ) -> Option<Origins> {
        let mut origins: Origins = begin.iter().map(|slot| (*slot, None)).collect();
        let mut queue: VecDeque<Slot> = begin.iter().copied().collect();
        for _ in 0..MOST {
            if origins.contains_key(&goal) {
                return Some(origins);
            }
            let here = queue.pop_front()?;
            let slots = match fresh.get(&here) {
                Some(record) => record.slots.clone(),
                None => {
                    let record = self.record_of(cx, persistence, here).ok().flatten();
                    record.map_or_else(Vec::new, |record| record.slots)
                }
            };
            for (index, target) in slots.into_iter().enumerate() {
                origins.entry(target).or_insert_with(|| {
                    queue.push_back(target);
                    Some((here, index))
                });
            }
        }
        None
    }

    fn shape_of(&self, record: &Record) -> Option<Arc<Shape>> {
        self.work().saving.as_ref()?.shape(record.shape)
    }

    /// The record of an actor, read for this alone.
    fn record_of(
        &self,
        cx: H::Cx<'_>,
        persistence: &Persistence<H>,
        slot: Slot,
    ) -> Result<Option<Record>, StoreError> {
        match self.unsaved_record(persistence, slot) {
            Some(unsaved) => unsaved.map(Some),
            None => H::detached(cx, || persistence.claim.read_actor(slot)),
        }
    }
}

impl std::fmt::Display for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::with_capacity(self.hops.len() + 1);
        parts.extend(self.root.map(|root| format!("root {root}")));
        parts.extend(self.hops.iter().map(Hop::to_string));
        f.write_str(&parts.join(" -> "))
    }
}

impl std::fmt::Display for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.label, self.slot)?;
        match &self.field {
            Some(field) => write!(f, ".{field}"),
            None => Ok(()),
        }
    }
}
