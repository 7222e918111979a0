//! Surveys of the actors in a part: what is stored, and what an environment can make of it.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::claim::{Claim, malformed};
use crate::host::Host;
use crate::ids::{ShapeId, Slot};
use crate::record::{Record, Shape};
use crate::schema::{self, Kind};
use crate::storage::scan;
use crate::store::StoreError;

/// Whether actors of a stored shape can be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// They can.
    Fits,
    /// Their label is not in the environment.
    Unknown,
    /// The environment can't deal with their version or their fields, for this reason.
    Misfit(String),
}

/// Actors that stand in a part, and can't be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Their label.
    pub label: String,
    /// Why they can't be made; `None` if the label is not known.
    pub reason: Option<String>,
    /// How many actors have it.
    pub count: u64,
    /// One of them.
    pub slot: Slot,
}

/// A stored actor, as a walk finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The actor.
    pub slot: Slot,
    /// Its shape.
    pub shape: ShapeId,
}

impl<H: Host> Claim<H> {
    /// Actors of this part that can't be made: one entry for each label and reason. Reads the actors' records only
    /// if there is a shape to suspect: one that nobody has any more is no harm. `unsaved`: actors with changes that
    /// are not written, which count as they will be.
    pub fn find_unfit(
        &self,
        shapes: &[Arc<Shape>],
        unsaved: &[Found],
        fits: impl Fn(&Shape) -> Fit,
    ) -> Result<Vec<Unfit>, StoreError> {
        let judged = (0u32..).zip(shapes).filter_map(|(id, shape)| {
            let reason = match fits(shape) {
                Fit::Fits => return None,
                Fit::Unknown => None,
                Fit::Misfit(reason) => Some(reason),
            };
            Some((ShapeId(id), (shape.label.as_str(), reason)))
        });
        let suspects: HashMap<ShapeId, (&str, Option<String>)> = judged.collect();
        let mut found: Vec<Unfit> = Vec::new();
        if suspects.is_empty() {
            return Ok(found);
        }
        let mut places: HashMap<&(&str, Option<String>), usize> = HashMap::new();
        let mut count = |slot: Slot, shape: Option<ShapeId>| {
            let Some(suspect) = shape.and_then(|shape| suspects.get(&shape)) else {
                return;
            };
            let place = *places.entry(suspect).or_insert(found.len());
            match found.get_mut(place) {
                Some(one) => one.count += 1,
                None => {
                    let (label, reason) = (suspect.0.to_owned(), suspect.1.clone());
                    found.push(Unfit { label, reason, count: 1, slot });
                }
            }
        };
        let newer: HashSet<Slot> = unsaved.iter().map(|one| one.slot).collect();
        scan(&**self.storage().store(), self.part(), Kind::Actor, |id, _, content| {
            if !newer.contains(&Slot(id)) {
                count(Slot(id), Record::shape_of(content));
            }
            Ok(())
        })?;
        unsaved.iter().for_each(|one| count(one.slot, Some(one.shape)));
        Ok(found)
    }

    /// The actors in a range of slots, in order.
    pub(crate) fn actors_in(&self, slots: Range<u64>) -> Result<Vec<Found>, StoreError> {
        let (store, part) = (&**self.storage().store(), self.part());
        let (start, end) =
            (schema::actor_key(part, Slot(slots.start)), schema::actor_key(part, Slot(slots.end)));
        let name = store.name();
        let mut found = Vec::new();
        let mut outcome = Ok(());
        store.scan(&start, &end, &mut |key, value| {
            outcome = schema::open(&name, key, value).and_then(|content| {
                let read = schema::id_of(key).zip(Record::shape_of(content));
                let (id, shape) = read.ok_or_else(|| schema::corrupt(&name, key, &malformed()))?;
                found.push(Found { slot: Slot(id), shape });
                Ok(())
            });
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome.map(|()| found)
    }
}
