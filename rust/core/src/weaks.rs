//! Weak references that nobody takes away.

use std::sync::{Arc, Weak};

/// What is there still of what was ever added, in that order. However many there are, adding one costs about the same:
/// those that are gone are forgotten when the room is used up, and then the room is twice what is needed.
pub(crate) struct Weaks<T> {
    all: Vec<Weak<T>>,
    room: usize,
}

/// The least room.
const ROOM: usize = 16;

impl<T> Weaks<T> {
    pub(crate) const fn new() -> Self {
        Self { all: Vec::new(), room: ROOM }
    }

    pub(crate) fn add(&mut self, one: &Arc<T>) {
        if self.all.len() >= self.room {
            self.all.retain(|one| one.strong_count() > 0);
            self.room = ROOM.max(2 * self.all.len());
        }
        self.all.push(Arc::downgrade(one));
    }

    /// Those that are there. To be dropped outside of any lock: they may be the last references.
    pub(crate) fn there(&self) -> Vec<Arc<T>> {
        self.all.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_there_are_kept_in_order_and_those_that_are_gone_take_no_room() {
        let mut weaks = Weaks::new();
        let kept: Vec<_> = (0..100).map(Arc::new).collect();
        for one in &kept {
            weaks.add(one);
            for other in 0..20 {
                weaks.add(&Arc::new(other));
            }
        }
        assert_eq!(weaks.there(), kept);
        assert!(weaks.all.len() <= 2 * kept.len(), "{}", weaks.all.len());
    }

    #[test]
    fn however_many_there_are_it_is_seldom_looked_through() {
        let mut weaks = Weaks::new();
        let kept: Vec<_> = (0..10_000).map(Arc::new).collect();
        let mut looked_at = 0;
        for one in &kept {
            let (before, room) = (weaks.all.len(), weaks.room);
            weaks.add(one);
            looked_at += if weaks.room == room { 0 } else { before };
        }
        assert!(looked_at <= 2 * kept.len(), "{looked_at}");
    }
}
