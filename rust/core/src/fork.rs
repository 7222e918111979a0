//! A process that was forked from one that runs vats. The threads of these, and the right to write to their stores, stay
//! in the parent.
//!
//! In such a child every lock may be held for ever, by a thread that is not there. So it takes none: whoever is asked
//! for something refuses before he locks anything, and what was inherited is never given free.

use std::sync::atomic::{AtomicBool, Ordering};

static FORKED: AtomicBool = AtomicBool::new(false);

/// Notes that this process is such a child. To be called in the child, before anything else runs there.
pub fn mark() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Whether this process is such a child.
pub fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}
