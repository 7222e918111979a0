//! What every store must do. A store's tests call [`run`] with a way to make an empty one.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::store::{Batch, Store, StoreError};

/// A store that can be left and opened again.
pub trait Reopen {
    /// The store's type.
    type Store: Store;
    /// The store, open.
    fn store(&self) -> Arc<Self::Store>;
    /// Leaves it and opens what it left behind.
    fn reopen(&mut self);
}

/// A store that can't be opened again once it is closed: it is kept open instead.
#[derive(Debug)]
pub struct Kept<S>(Arc<S>);

impl<S> Kept<S> {
    /// Keeps `store`.
    pub fn new(store: S) -> Self {
        Self(Arc::new(store))
    }
}

impl<S: Store> Reopen for Kept<S> {
    type Store = S;

    fn store(&self) -> Arc<S> {
        self.0.clone()
    }

    fn reopen(&mut self) {}
}

/// Runs the whole suite; `make` gives an empty store each time.
pub fn run<R: Reopen>(mut make: impl FnMut() -> R) {
    what_was_put_is_there_until_it_is_deleted(make());
    the_later_change_of_a_batch_wins(make());
    all_bytes_may_stand_in_keys_and_values(make());
    a_scan_visits_its_range_in_order(make());
    a_scan_ends_when_the_visitor_breaks(make());
    what_was_written_is_there_after_opening_again(make());
    a_reader_sees_a_whole_batch_or_nothing(make());
    writers_at_once_lose_nothing(make());
    a_snapshot_stays_as_it_was(make());
    a_snapshot_is_not_written_to(make());
    snapshots_are_closed_apart(make());
    a_snapshot_ends_with_its_store(make());
    a_closed_store_says_so(make());
}

fn put(store: &dyn Store, pairs: &[(&[u8], &[u8])]) {
    let mut batch = Batch::new();
    pairs.iter().for_each(|(key, value)| batch.put(key.to_vec(), value.to_vec()));
    store.write(&batch).unwrap();
}

fn keys(store: &dyn Store, start: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    };
    store.scan(start, end, visit).unwrap();
    keys
}

fn what_was_put_is_there_until_it_is_deleted(made: impl Reopen) {
    let store = made.store();
    assert_eq!(store.get(b"a").unwrap(), None);
    put(&*store, &[(b"a", b"1"), (b"b", b"2")]);
    put(&*store, &[(b"a", b"3")]);
    assert_eq!(store.get(b"a").unwrap().unwrap(), b"3");
    let mut batch = Batch::new();
    batch.delete(b"a".to_vec());
    batch.delete(b"never there".to_vec());
    store.write(&batch).unwrap();
    assert_eq!(store.get(b"a").unwrap(), None);
    assert_eq!(store.get(b"b").unwrap().unwrap(), b"2");
}

fn the_later_change_of_a_batch_wins(made: impl Reopen) {
    let store = made.store();
    let mut batch = Batch::new();
    batch.put(b"a".to_vec(), b"1".to_vec());
    batch.put(b"a".to_vec(), b"2".to_vec());
    batch.put(b"b".to_vec(), b"1".to_vec());
    batch.delete(b"b".to_vec());
    batch.delete(b"c".to_vec());
    batch.put(b"c".to_vec(), b"1".to_vec());
    store.write(&batch).unwrap();
    assert_eq!(store.get(b"a").unwrap().unwrap(), b"2");
    assert_eq!(store.get(b"b").unwrap(), None);
    assert_eq!(store.get(b"c").unwrap().unwrap(), b"1");
}

fn all_bytes_may_stand_in_keys_and_values(mut made: impl Reopen) {
    let large = vec![0x5a; 1 << 20];
    let every: Vec<u8> = (0..=255).collect();
    put(&*made.store(), &[(&[0], b""), (&[0, 0], &[0]), (&[0xff, 0xff], &large), (&every, &every)]);
    made.reopen();
    let store = made.store();
    assert_eq!(store.get(&[0]).unwrap().unwrap(), b"");
    assert_eq!(store.get(&[0, 0]).unwrap().unwrap(), [0]);
    assert_eq!(store.get(&[0xff, 0xff]).unwrap().unwrap(), large);
    assert_eq!(store.get(&every).unwrap().unwrap(), every);
}

fn a_scan_visits_its_range_in_order(made: impl Reopen) {
    let store = made.store();
    put(&*store, &[(b"b", b""), (b"a", b""), (&[0xff], b""), (b"c", b""), (b"ba", b"")]);
    assert_eq!(keys(&*store, b"a", b"c"), [&b"a"[..], b"b", b"ba"]);
    assert_eq!(keys(&*store, b"", &[0xff]), [&b"a"[..], b"b", b"ba", b"c"]);
    assert!(keys(&*store, b"d", b"e").is_empty());
    assert!(keys(&*store, b"c", b"a").is_empty());
}

fn a_scan_ends_when_the_visitor_breaks(made: impl Reopen) {
    let store = made.store();
    put(&*store, &[(b"a", b""), (b"b", b"")]);
    let mut seen = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        seen += 1;
        ControlFlow::Break(())
    };
    store.scan(b"a", b"z", visit).unwrap();
    assert_eq!(seen, 1);
}

fn what_was_written_is_there_after_opening_again(mut made: impl Reopen) {
    put(&*made.store(), &[(b"a", b"1")]);
    made.reopen();
    put(&*made.store(), &[(b"b", b"2")]);
    made.reopen();
    assert_eq!(keys(&*made.store(), b"a", b"z"), [b"a", b"b"]);
}

fn a_reader_sees_a_whole_batch_or_nothing(made: impl Reopen) {
    let store = made.store();
    put(&*store, &[(b"a", &[0]), (b"b", &[0])]);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=200).for_each(|n: u8| put(&*store, &[(b"a", &[n]), (b"b", &[n])])));
        for _ in 0..200 {
            let mut seen = Vec::new();
            let visit = &mut |_: &[u8], value: &[u8]| {
                seen.push(value.to_vec());
                ControlFlow::Continue(())
            };
            store.scan(b"a", b"c", visit).unwrap();
            assert_eq!(seen.first(), seen.last());
        }
    });
}

fn writers_at_once_lose_nothing(made: impl Reopen) {
    let store = made.store();
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..50u8 {
                    put(&**store, &[(&[writer, n], &[n])]);
                    store.sync().unwrap();
                }
            });
        }
    });
    assert_eq!(keys(&*store, &[0], &[4]).len(), 200);
}

fn a_snapshot_stays_as_it_was(made: impl Reopen) {
    let store = made.store();
    put(&*store, &[(b"a", b"1"), (b"b", b"1"), (b"d", b"1")]);
    let before = store.snapshot().unwrap();
    let mut batch = Batch::new();
    batch.put(b"a".to_vec(), b"2".to_vec());
    batch.delete(b"b".to_vec());
    batch.put(b"c".to_vec(), b"2".to_vec());
    store.write(&batch).unwrap();
    let after = store.snapshot().unwrap();
    put(&*store, &[(b"a", b"3")]);
    let again = before.snapshot().unwrap();
    for before in [before, again] {
        assert_eq!(before.get(b"a").unwrap().unwrap(), b"1");
        assert_eq!(before.get(b"b").unwrap().unwrap(), b"1");
        assert_eq!(before.get(b"c").unwrap(), None);
        assert_eq!(keys(&*before, b"a", b"z"), [b"a", b"b", b"d"]);
        assert_eq!(keys(&*before, b"b", b"d"), [b"b"]);
        assert!(keys(&*before, b"z", b"a").is_empty());
        before.sync().unwrap();
    }
    assert_eq!(after.get(b"a").unwrap().unwrap(), b"2");
    assert_eq!(keys(&*after, b"a", b"z"), [b"a", b"c", b"d"]);
    assert_eq!(store.get(b"a").unwrap().unwrap(), b"3");
}

fn a_snapshot_is_not_written_to(made: impl Reopen) {
    let store = made.store();
    put(&*store, &[(b"a", b"1")]);
    let snapshot = store.snapshot().unwrap();
    let mut batch = Batch::new();
    batch.put(b"a".to_vec(), b"2".to_vec());
    match snapshot.write(&batch) {
        Err(StoreError::ReadOnly { .. }) => {}
        other => panic!("expected ReadOnly, got {other:?}"),
    }
    assert_eq!(store.get(b"a").unwrap().unwrap(), b"1");
    assert_eq!(snapshot.get(b"a").unwrap().unwrap(), b"1");
}

fn snapshots_are_closed_apart(made: impl Reopen) {
    let store = made.store();
    put(&*store, &[(b"a", b"1")]);
    let (first, second) = (store.snapshot().unwrap(), store.snapshot().unwrap());
    let third = first.snapshot().unwrap();
    first.close().unwrap();
    first.close().unwrap();
    assert_closed(&*first);
    for open in [second, third] {
        assert_eq!(open.get(b"a").unwrap().unwrap(), b"1");
    }
    assert_eq!(store.get(b"a").unwrap().unwrap(), b"1");
}

fn a_snapshot_ends_with_its_store(mut made: impl Reopen) {
    let store = made.store();
    put(&*store, &[(b"a", b"1")]);
    let snapshots = [store.snapshot().unwrap(), store.snapshot().unwrap().snapshot().unwrap()];
    store.close().unwrap();
    for snapshot in snapshots {
        assert_closed(&*snapshot);
        assert!(matches!(snapshot.snapshot(), Err(StoreError::Closed { .. })));
        snapshot.close().unwrap();
    }
    // A lock that a snapshot kept would be in the way.
    made.reopen();
}

fn a_closed_store_says_so(made: impl Reopen) {
    let store = made.store();
    put(&*store, &[(b"a", b"1")]);
    store.close().unwrap();
    store.close().unwrap();
    assert_closed(&*store);
    assert!(matches!(store.snapshot(), Err(StoreError::Closed { .. })));
}

fn assert_closed(store: &dyn Store) {
    let visit = &mut |_: &[u8], _: &[u8]| ControlFlow::Continue(());
    let mut batch = Batch::new();
    batch.put(b"a".to_vec(), b"1".to_vec());
    for refused in [
        store.get(b"a").err(),
        store.scan(b"a", b"b", visit).err(),
        store.scan(b"b", b"a", visit).err(),
        store.write(&batch).err(),
        store.sync().err(),
    ] {
        match refused {
            Some(StoreError::Closed { .. }) => {}
            other => panic!("expected Closed, got {other:?}"),
        }
    }
}
