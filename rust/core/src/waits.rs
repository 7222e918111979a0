//! Who waits for whom, among threads that block.
//!
//! A turn never waits: what would block it is refused at once. What can still make a ring are threads that run an
//! event loop, each of which waits outside of all turns for a vat on the loop of the next. A wait that would close
//! such a ring is refused, with the whole of it. Only threads that wait just now are known here.

use std::collections::HashMap;

use crate::error::KernelError;
use crate::sync::Monitor;

/// An event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoopId(pub u64);

/// The loops whose thread waits.
#[derive(Debug, Default)]
pub struct Waits {
    /// A thread may wait more than once: in a signal handler, in the middle of a wait.
    blocked: Monitor<HashMap<LoopId, Vec<Wait>>>,
}

#[derive(Clone, Debug)]
struct Wait {
    thread: String,
    vat: String,
    home: LoopId,
}

impl Waits {
    /// Nobody waits.
    pub fn new() -> Self {
        Self { blocked: Monitor::new(HashMap::new()) }
    }

    /// Notes that `thread`, which runs the loop `here`, waits for `vat`, which runs on the loop `home`, until what
    /// this gives is dropped. An error if it would never end.
    pub fn begin(
        &self,
        here: LoopId,
        thread: &str,
        home: LoopId,
        vat: &str,
    ) -> Result<Waiting<'_>, KernelError> {
        let wait = Wait { thread: thread.to_owned(), vat: vat.to_owned(), home };
        let ring = self.blocked.with(|blocked| {
            let ring = way(blocked, home, here);
            if ring.is_none() {
                blocked.entry(here).or_default().push(wait.clone());
            }
            ring
        });
        match ring {
            None => Ok(Waiting { waits: self, here }),
            Some(ring) => Err(KernelError::Deadlock { vat: vat.to_owned(), chain: tell(&wait, &ring) }),
        }
    }
}

/// The waits that lead from one loop to another.
fn way(blocked: &HashMap<LoopId, Vec<Wait>>, from: LoopId, to: LoopId) -> Option<Vec<Wait>> {
    let mut seen = vec![from];
    let mut open = vec![(from, Vec::new())];
    while let Some((at, way)) = open.pop() {
        if at == to {
            return Some(way);
        }
        for wait in blocked.get(&at).into_iter().flatten() {
            if !seen.contains(&wait.home) || wait.home == to {
                seen.push(wait.home);
                let further: Vec<Wait> = way.iter().chain([wait]).cloned().collect();
                open.push((wait.home, further));
            }
        }
    }
    None
}

fn tell(wait: &Wait, ring: &[Wait]) -> String {
    let mut text = format!("{} waits for vat {}", wait.thread, wait.vat);
    for next in ring {
        text += &format!(", whose event loop runs on {}, which waits for vat {}", next.thread, next.vat);
    }
    text + &format!(", whose event loop runs on {}", wait.thread)
}

/// A thread waits, for as long as this lives.
#[derive(Debug)]
pub struct Waiting<'a> {
    waits: &'a Waits,
    here: LoopId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.blocked.with(|blocked| {
            let Some(waits) = blocked.get_mut(&self.here) else { return };
            waits.pop();
            if waits.is_empty() {
                blocked.remove(&self.here);
            }
        });
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ring_is_told_from_the_one_who_closes_it() {
        let waits = Waits::new();
        let _first = waits.begin(LoopId(1), "thread one", LoopId(2), "b").unwrap();
        let _second = waits.begin(LoopId(2), "thread two", LoopId(3), "c").unwrap();
        let error = waits.begin(LoopId(3), "thread three", LoopId(1), "a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "waiting for vat a here would never end: thread three waits for vat a, whose event loop runs on thread one, \
             which waits for vat b, whose event loop runs on thread two, which waits for vat c, whose event loop runs on \
             thread three; await it, or use send(...) and on(...)"
        );
    }

    #[test]
    fn a_wait_for_the_own_loop_is_a_ring_of_one() {
        let error = Waits::new().begin(LoopId(1), "main", LoopId(1), "a").unwrap_err();
        assert!(
            error.to_string().contains("main waits for vat a, whose event loop runs on main;"),
            "{error}"
        );
    }

    proptest! {
        /// Whoever begins and ends waits: there is never a ring, and nobody is refused who would not close one.
        #[test]
        fn nobody_waits_in_a_ring_and_nobody_is_refused_in_vain(
            steps in prop::collection::vec((0u64..6, 0u64..6, any::<bool>()), 0..60)
        ) {
            let waits = Waits::new();
            let mut held: Vec<(u64, u64, Waiting<'_>)> = Vec::new();
            for (here, home, begins) in steps {
                if !begins {
                    // The last wait of a thread ends first.
                    if let Some(index) = held.iter().rposition(|(loop_, ..)| *loop_ == here) {
                        held.remove(index);
                    }
                    continue;
                }
                // All that can be reached from `home`, found in the plainest way.
                let mut reached = vec![home];
                for _ in 0..6 {
                    let more: Vec<u64> =
                        held.iter().filter(|(from, ..)| reached.contains(from)).map(|(_, to, _)| *to).collect();
                    reached.extend(more);
                }
                match waits.begin(LoopId(here), "thread", LoopId(home), "vat") {
                    Ok(waiting) => {
                        prop_assert!(!reached.contains(&here));
                        held.push((here, home, waiting));
                    }
                    Err(_) => prop_assert!(reached.contains(&here)),
                }
            }
        }
    }
}
