//! Reading along references: whoever goes from actor to actor asks for one that a record refers to, and then for one
//! that its record refers to.
//!
//! Two such reads in a row make the third one a walk along references, which brings a portion of the records that such
//! a way will come to, depth first. Each read lets other threads have the interpreter, and may wait for it afterwards:
//! a walk does that once.

use std::collections::HashSet;

use crate::claim::Claim;
use crate::host::Host;
use crate::ids::{Slot, SlotHashing, SlotMap};
use crate::readahead::{FIRST, MOST, MOST_BYTES};
use crate::record::Record;
use crate::store::StoreError;

/// So many references are remembered.
const MOST_NEXT: usize = 1024;
/// The way goes on with one of the so many that would come next.
const NEAR: usize = 32;
/// So many actors are remembered that were read: ways lead back to them.
const MOST_RECENT: usize = 2048;
/// So many reads in a row make a walk.
const PATIENCE: u32 = 2;
/// And so many at most, where walks brought what nobody asked for.
const MOST_PATIENCE: u32 = 1024;

/// Records that will be asked for, if the way goes on as it did.
#[derive(Debug)]
pub(crate) struct Following {
    records: SlotMap<Record>,
    /// How many there were.
    portion: usize,
    /// What was referred to, and has not been read: what would come next is last.
    next: Vec<Slot>,
    recent: HashSet<Slot, SlotHashing>,
    streak: u32,
    patience: u32,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            records: SlotMap::default(),
            portion: 0,
            next: Vec::new(),
            recent: HashSet::default(),
            streak: 0,
            patience: PATIENCE,
        }
    }
}

impl Following {
    pub(crate) fn take(&mut self, slot: Slot) -> Option<Record> {
        self.records.remove(&slot)
    }

    /// The record of an actor is about to be another one.
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.records.remove(&slot);
    }

    /// How many records to read from one on which is not here.
    pub(crate) fn ask(&mut self, slot: Slot) -> usize {
        if self.portion > 0 {
            let useless = self.records.len() * 2 > self.portion;
            self.patience = if useless { (self.patience * 2).min(MOST_PATIENCE) } else { PATIENCE };
            if useless {
                self.streak = 0;
            }
            self.records.clear();
            self.portion = 0;
        }
        let near = self.next.iter().rev().take(NEAR).position(|next| *next == slot);
        match near {
            Some(before) => {
                self.next.truncate(self.next.len() - before - 1);
                self.streak = self.streak.saturating_add(1);
            }
            None => {
                self.next.clear();
                self.recent.clear();
                self.streak = 0;
            }
        }
        match self.streak.checked_sub(self.patience) {
            None => 1,
            Some(further) => FIRST.checked_shl(further).unwrap_or(MOST).min(MOST),
        }
    }

    /// Notes what was read, and what it leads to.
    pub(crate) fn note(&mut self, slot: Slot, record: &Record) {
        if self.recent.len() >= MOST_RECENT {
            self.recent.clear();
        }
        self.recent.insert(slot);
        let recent = &self.recent;
        let new = record.slots.iter().take(MOST_NEXT).rev().filter(|slot| !recent.contains(slot));
        self.next.extend(new);
        let surplus = self.next.len().saturating_sub(MOST_NEXT);
        self.next.drain(..surplus);
    }

    /// Reads a record, and those that follow, about so many. To be called detached.
    pub(crate) fn read<H: Host>(
        &mut self,
        claim: &Claim<H>,
        slot: Slot,
        most: usize,
    ) -> Result<Option<Record>, StoreError> {
        let Some(first) = claim.read_actor(slot)? else {
            return Ok(None);
        };
        self.note(slot, &first);
        let mut bytes = first.size();
        while self.records.len() + 1 < most && bytes < MOST_BYTES {
            let Some(slot) = self.next.pop() else {
                break;
            };
            if self.recent.contains(&slot) {
                continue;
            }
            // What can't be read is an error for who asks for it.
            let Ok(Some(record)) = claim.read_actor(slot) else {
                continue;
            };
            bytes += record.size();
            self.note(slot, &record);
            self.records.insert(slot, record);
        }
        self.portion = self.records.len();
        Ok(Some(first))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ids::ShapeId;
    use crate::memory::MemoryStore;
    use crate::schema;
    use crate::storage::Storage;
    use crate::store::Batch;
    use crate::toy::Toy;

    fn to(slots: &[u64]) -> Record {
        let slots = slots.iter().copied().map(Slot).collect();
        Record { shape: ShapeId(0), name: None, slots, far: Vec::new(), payload: Vec::new() }
    }

    /// Asks for actors of a chain, and says how many would be read for each.
    fn along(following: &mut Following, chain: &[(u64, &[u64])]) -> Vec<usize> {
        let ask = |(slot, slots): &(u64, &[u64])| {
            let most = following.ask(Slot(*slot));
            following.note(Slot(*slot), &to(slots));
            most
        };
        chain.iter().map(ask).collect()
    }

    #[test]
    fn who_follows_references_gets_more_and_more_at_a_time() {
        let chain: [(u64, &[u64]); 6] =
            [(70, &[20]), (20, &[90]), (90, &[10]), (10, &[60]), (60, &[30]), (30, &[])];
        assert_eq!(along(&mut Following::default(), &chain), [1, 1, 16, 32, 64, 128]);
    }

    #[test]
    fn who_asks_for_one_after_the_other_that_an_actor_refers_to_follows_as_well() {
        let fan: [(u64, &[u64]); 5] = [(1, &[70, 20, 90, 10]), (70, &[]), (20, &[]), (90, &[]), (10, &[])];
        assert_eq!(along(&mut Following::default(), &fan), [1, 1, 16, 32, 64]);
    }

    #[test]
    fn who_comes_from_elsewhere_does_not_follow() {
        let others: [(u64, &[u64]); 4] = [(1, &[2]), (2, &[3]), (50, &[51]), (9, &[])];
        assert_eq!(along(&mut Following::default(), &others), [1, 1, 1, 1]);
    }

    #[test]
    fn a_way_back_is_no_way_on() {
        let mut following = Following::default();
        along(&mut following, &[(1, &[2]), (2, &[1, 3]), (3, &[2, 4])]);
        assert_eq!(following.next, [Slot(4)]);
    }

    #[test]
    fn what_was_read_for_nothing_makes_more_careful() {
        let chain: [(u64, &[u64]); 3] = [(1, &[2]), (2, &[3]), (3, &[4])];
        let mut following = Following::default();
        for patience in [2, 4, 8] {
            assert_eq!(following.patience, patience);
            along(&mut following, &chain);
            following.records = (100..116).map(|slot| (Slot(slot), to(&[]))).collect();
            following.portion = 16;
            assert_eq!(following.ask(Slot(4)), 1);
            assert!(following.records.is_empty());
        }
        assert_eq!(following.patience, 16);
    }

    #[test]
    fn what_was_read_is_given_once_and_not_after_a_change() {
        let mut following = Following { portion: 2, ..Following::default() };
        following.records = [(Slot(1), to(&[2])), (Slot(2), to(&[]))].into_iter().collect();
        following.forget(Slot(2));
        assert_eq!(following.take(Slot(1)), Some(to(&[2])));
        assert_eq!([1, 2].map(|slot| following.take(Slot(slot))), [None, None]);
    }

    #[test]
    fn a_chain_in_any_order_is_read_in_a_few_walks() {
        const COUNT: u64 = 1000;
        let storage = Storage::<Toy>::open(MemoryStore::new()).unwrap();
        let claim = storage.claim("chain").unwrap();
        // A prime step leads through all slots, and never to a neighbour.
        let next = |slot: u64| (slot + 389) % COUNT;
        let mut batch = Batch::new();
        for slot in 0..COUNT {
            let key = schema::actor_key(claim.part(), Slot(slot));
            // It refers to the one before as well.
            let record = to(&[(slot + COUNT - 389) % COUNT, next(slot)]);
            batch.put(key.clone(), schema::seal(&key, record.encode()));
        }
        storage.store().write(&batch).unwrap();
        let (mut following, mut slot, mut walks, mut read) = (Following::default(), 0, 0, 0);
        for _ in 0..COUNT {
            if following.take(Slot(slot)).is_none() {
                let most = following.ask(Slot(slot));
                assert!(following.read(&claim, Slot(slot), most).unwrap().is_some());
                walks += 1;
                read += 1 + following.portion;
            }
            slot = next(slot);
        }
        assert!(walks <= 12, "{walks}");
        assert!(read <= 2 * COUNT as usize, "{read}");
        assert_eq!(following.read(&claim, Slot(COUNT), 16).unwrap(), None);
    }

    #[test]
    fn however_many_references_there_are_few_are_remembered() {
        let mut following = Following::default();
        let many: Vec<u64> = (10..100_000).collect();
        for slot in 0..5 {
            following.note(Slot(slot), &to(&many));
        }
        assert_eq!(following.next.len(), MOST_NEXT);
        assert_eq!(following.next.last(), Some(&Slot(10)));
    }
}
