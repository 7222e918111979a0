//! A ring: the newest push out the oldest (LOG-09, LOG-14).

/// The last so many of what was put into it.
#[derive(Debug)]
pub struct Ring<T> {
    items: Vec<T>,
    /// Index of the oldest, once the ring is full.
    oldest: usize,
    capacity: usize,
}

impl<T> Ring<T> {
    /// Room for `capacity` things. With capacity 0 it keeps none (the original fails there: LIM-39).
    pub fn new(capacity: usize) -> Self {
        Self { items: Vec::new(), oldest: 0, capacity }
    }

    /// Adds the newest. Gives back what there is no room for any more.
    pub fn push(&mut self, item: T) -> Option<T> {
        if self.items.len() < self.capacity {
            self.items.push(item);
            return None;
        }
        match self.recycle() {
            Some(place) => Some(std::mem::replace(place, item)),
            None => Some(item),
        }
    }

    /// How many can be added before the oldest make way.
    pub fn room(&self) -> usize {
        self.capacity - self.items.len()
    }

    /// The oldest, if there is no room for another: to be made the newest by changing it.
    #[inline(always)]
    pub fn recycle(&mut self) -> Option<&mut T> {
        if self.items.len() < self.capacity {
            return None;
        }
        let place = self.items.get_mut(self.oldest)?;
        self.oldest += 1;
        if self.oldest == self.capacity {
            self.oldest = 0;
        }
        Some(place)
    }

    /// How many it holds.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn place(&self, index: usize) -> usize {
        let place = self.oldest + index;
        if place < self.items.len() { place } else { place - self.items.len() }
    }

    /// One of them, counted from the oldest.
    pub fn get(&self, index: usize) -> Option<&T> {
        if index < self.len() { self.items.get(self.place(index)) } else { None }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.len() {
            return None;
        }
        let place = self.place(index);
        self.items.get_mut(place)
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        let (newer, older) = self.items.split_at(self.oldest);
        older.iter().chain(newer)
    }

    /// Changes the capacity. Gives back what there is no room for, the oldest first (LOG-10).
    pub fn resize(&mut self, capacity: usize) -> Vec<T> {
        self.items.rotate_left(self.oldest);
        self.oldest = 0;
        self.capacity = capacity;
        let surplus = self.items.len().saturating_sub(capacity);
        let kept = self.items.split_off(surplus);
        std::mem::replace(&mut self.items, kept)
    }

    /// Takes all out.
    pub fn take(&mut self) -> Vec<T> {
        self.oldest = 0;
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn content(ring: &Ring<u32>) -> Vec<u32> {
        ring.iter().copied().collect()
    }

    #[test]
    fn the_newest_push_out_the_oldest() {
        let mut ring = Ring::new(3);
        let out: Vec<_> = (1..=5).map(|item| ring.push(item)).collect();
        assert_eq!(out, [None, None, None, Some(1), Some(2)]);
        assert_eq!(content(&ring), [3, 4, 5]);
        assert_eq!((ring.get(0), ring.get(2), ring.get(3)), (Some(&3), Some(&5), None));
    }

    #[test]
    fn a_ring_of_capacity_0_keeps_nothing_and_works_on() {
        let mut ring = Ring::new(0);
        assert_eq!(ring.push(1), Some(1));
        assert!(ring.is_empty());
        ring.resize(1);
        ring.push(2);
        assert_eq!(content(&ring), [2]);
    }

    #[test]
    fn shrinking_gives_back_the_oldest_and_growing_keeps_all() {
        let mut ring = Ring::new(4);
        for item in 1..=6 {
            ring.push(item);
        }
        assert_eq!(ring.resize(2), [3, 4]);
        assert_eq!(content(&ring), [5, 6]);
        assert!(ring.resize(3).is_empty());
        for item in 7..=8 {
            ring.push(item);
        }
        assert_eq!(content(&ring), [6, 7, 8]);
        assert_eq!(ring.take().len(), 3);
        ring.push(9);
        assert_eq!(content(&ring), [9]);
    }

    proptest! {
        /// LOG-09, LOG-10, LOG-14: whatever is done to it, it holds what a plain queue would.
        #[test]
        fn a_ring_is_a_queue_with_an_end(steps in prop::collection::vec((0u8..10, 0usize..6), 0..60)) {
            let (mut ring, mut queue, mut capacity) = (Ring::new(4), VecDeque::new(), 4);
            for (step, (what, size)) in (0u32..).zip(steps) {
                match what {
                    0 => {
                        capacity = size;
                        ring.resize(size);
                    }
                    1 => {
                        ring.take();
                        queue.clear();
                    }
                    _ => {
                        ring.push(step);
                        queue.push_back(step);
                    }
                }
                while queue.len() > capacity {
                    queue.pop_front();
                }
                prop_assert_eq!(content(&ring), Vec::from(queue.clone()));
                prop_assert!((0..=queue.len()).all(|index| ring.get(index) == queue.get(index)));
                prop_assert!((0..=queue.len()).all(|index| ring.get_mut(index).copied() == queue.get(index).copied()));
            }
        }
    }
}
