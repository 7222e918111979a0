//! Dropping chains of any length: of promises, each of which holds the next, as it waits for it or waits in its line.
//!
//! The last reference to a promise takes along what it held, and that may be the last reference to another one. Beyond
//! a few levels the rest is put aside until the outermost drop comes to it: the stack does not grow with the chain.

use std::cell::{Cell, RefCell};

const MOST_LEVELS: u32 = 16;

thread_local! {
    static LEVEL: Cell<u32> = const { Cell::new(0) };
    static ASIDE: RefCell<Vec<Box<dyn FnOnce()>>> = const { RefCell::new(Vec::new()) };
}

/// Comes back from a level, also when a panic ends it.
struct Level(u32);

impl Level {
    fn enter(level: u32) -> Self {
        LEVEL.set(level + 1);
        Self(level)
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        LEVEL.set(self.0);
    }
}

/// Drops something that may lead to many more.
pub(crate) fn drop<T: 'static>(held: T) {
    run(|| std::mem::drop(held));
}

/// Runs what is to be done when something is dropped; later, if it is deep down.
pub(crate) fn run(work: impl FnOnce() + 'static) {
    let level = LEVEL.get();
    if level >= MOST_LEVELS {
        return put_aside(work);
    }
    let within = Level::enter(level);
    work();
    std::mem::drop(within);
    if level > 0 {
        return;
    }
    while let Some(next) = ASIDE.try_with(|aside| aside.borrow_mut().pop()).ok().flatten() {
        let _within = Level::enter(0);
        next();
    }
}

#[cold]
fn put_aside(work: impl FnOnce() + 'static) {
    let mut work = Some(work);
    let put = ASIDE.try_with(|aside| {
        if let Some(work) = work.take() {
            aside.borrow_mut().push(Box::new(work));
        }
    });
    // The thread is about to end.
    if let (Err(_), Some(work)) = (put, work) {
        work();
    }
}
