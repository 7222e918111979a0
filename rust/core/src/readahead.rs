//! Reading ahead: actors that were spawned one after the other are often used one after the other.
//!
//! Two reads of neighbours in order make the third one a walk over the store, which brings a portion of those that
//! follow; else it is tried [along references](crate::following). A record that was read ahead is used once at most, and forgotten when its actor is written.

use std::collections::VecDeque;

use crate::churn::Churn;
use crate::claim::Claim;
use crate::following::Following;
use crate::host::Host;
use crate::ids::Slot;
use crate::persistence::Persistence;
use crate::record::Record;
use crate::store::StoreError;

/// How many records the first portion has; each further one has twice as many.
pub(crate) const FIRST: usize = 16;
/// And no more than so many.
pub(crate) const MOST: usize = 512;
/// Nor more bytes than so many.
pub(crate) const MOST_BYTES: usize = 256 << 10;

/// Records that will be asked for next, perhaps.
#[derive(Default)]
pub(crate) struct Ahead {
    /// In order. `None`: it was changed since.
    records: VecDeque<(Slot, Option<Record>)>,
    /// The one that was asked for last.
    last: Option<Slot>,
    /// How often the next one was asked for after that, and was not at hand.
    streak: u32,
    following: Following,
}

/// What to read for one record.
#[derive(Debug, PartialEq, Eq)]
enum Portion {
    /// So many neighbours.
    Neighbours(usize),
    /// So many along references.
    Following(usize),
}

impl Ahead {
    /// The record, if it is here; else what to read from there on.
    fn take(&mut self, slot: Slot) -> Result<Record, Portion> {
        let follows = self.last.is_some_and(|last| last.0.checked_add(1) == Some(slot.0));
        self.last = Some(slot);
        while self.records.front().is_some_and(|(first, _)| *first < slot) {
            self.records.pop_front();
        }
        if let Some((_, found)) = self.records.front_mut().filter(|(first, _)| *first == slot)
            && let Some(record) = found.take()
        {
            return Ok(record);
        }
        if let Some(record) = self.following.take(slot) {
            return Ok(record);
        }
        self.streak = if follows { self.streak.saturating_add(1) } else { 0 };
        match self.streak {
            0 | 1 => Err(Portion::Following(self.following.ask(slot))),
            further => Err(Portion::Neighbours(FIRST.checked_shl(further - 2).unwrap_or(MOST).min(MOST))),
        }
    }

    fn keep(&mut self, records: Vec<(Slot, Record)>) {
        self.records = records.into_iter().map(|(slot, record)| (slot, Some(record))).collect();
    }

    /// The record of an actor is about to be another one.
    pub(crate) fn forget(&mut self, slot: Slot) {
        if let Ok(index) = self.records.binary_search_by_key(&slot, |(slot, _)| *slot)
            && let Some((_, record)) = self.records.get_mut(index)
        {
            *record = None;
        }
        self.following.forget(slot);
    }
}

impl<H: Host> Churn<H> {
    /// The record of an actor: the newest, which may not have been written yet.
    pub(crate) fn fetch(
        &self,
        cx: H::Cx<'_>,
        persistence: &Persistence<H>,
        slot: Slot,
    ) -> Result<Option<Record>, StoreError> {
        if let Some(unsaved) = self.unsaved_record(persistence, slot) {
            return unsaved.map(Some);
        }
        let claim = &persistence.claim;
        let alone = Err(Portion::Neighbours(1));
        let found = self.work().saving.as_mut().map_or(alone, |saving| saving.ahead.take(slot));
        let most = match found {
            Ok(record) => return Ok(Some(record)),
            Err(Portion::Neighbours(1)) => return H::detached(cx, || claim.read_actor(slot)),
            Err(Portion::Neighbours(most)) => most,
            Err(Portion::Following(most)) => return self.fetch_along(cx, claim, slot, most),
        };
        let mut records = H::detached(cx, || claim.read_actors(slot, most, MOST_BYTES))?;
        let first = match records.first() {
            Some((found, _)) if *found == slot => Some(records.remove(0).1),
            // It is missing, or damaged: the error is that of a single read.
            _ => return H::detached(cx, || claim.read_actor(slot)),
        };
        if let Some(saving) = &mut self.work().saving {
            saving.ahead.keep(records);
        }
        Ok(first)
    }

    fn fetch_along(
        &self,
        cx: H::Cx<'_>,
        claim: &Claim<H>,
        slot: Slot,
        most: usize,
    ) -> Result<Option<Record>, StoreError> {
        let mut following =
            self.work().saving.as_mut().map(|saving| std::mem::take(&mut saving.ahead.following));
        let found = H::detached(cx, || match &mut following {
            Some(following) => following.read(claim, slot, most),
            None => claim.read_actor(slot),
        });
        if let (Some(saving), Some(following)) = (&mut self.work().saving, following) {
            saving.ahead.following = following;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShapeId;

    fn record(number: u8) -> Record {
        Record { shape: ShapeId(0), name: None, slots: Vec::new(), far: Vec::new(), payload: vec![number] }
    }

    fn neighbours(ahead: &mut Ahead, slot: u64) -> usize {
        match ahead.take(Slot(slot)) {
            Err(Portion::Neighbours(most)) => most,
            _ => 1,
        }
    }

    #[test]
    fn only_neighbours_in_order_are_read_ahead_and_more_each_time() {
        let mut ahead = Ahead::default();
        assert_eq!([7, 9, 8, 7].map(|slot| neighbours(&mut ahead, slot)), [1, 1, 1, 1]);
        assert_eq!([8, 9, 10, 11].map(|slot| neighbours(&mut ahead, slot)), [1, 16, 32, 64]);
        assert_eq!(neighbours(&mut ahead, 90), 1);
        for slot in 91..100 {
            let _ = ahead.take(Slot(slot));
        }
        assert_eq!(neighbours(&mut ahead, 100), MOST);
    }

    #[test]
    fn what_was_read_ahead_is_given_once_and_not_after_a_change() {
        let mut ahead = Ahead::default();
        ahead.keep(vec![(Slot(1), record(1)), (Slot(2), record(2)), (Slot(3), record(3))]);
        ahead.forget(Slot(2));
        assert_eq!(ahead.take(Slot(1)), Ok(record(1)));
        assert_eq!(ahead.take(Slot(1)), Err(Portion::Following(1)));
        assert_eq!(ahead.take(Slot(2)), Err(Portion::Following(1)));
        assert_eq!(ahead.take(Slot(3)), Ok(record(3)));
    }
}
