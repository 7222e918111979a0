//! Group commit: one wait for the disk serves all who wait (guarantee G2).
//!
//! Vats append their batches and go on. What leaves the store's vats waits here until a sync that began
//! after its batch was appended has come back. The first who waits leads: it syncs for all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::calling::Holds;
use crate::store::{Store, StoreError};
use crate::sync::Monitor;

/// The place of a batch in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What waits for the disk: `O` is released once all that it depends on is durable.
pub struct Durability<O> {
    store: Arc<dyn Store>,
    state: Monitor<State<O>, 3>,
}

/// Where the committer waits. The other two queues are those of who waits for a sync, by turns: so each sync wakes
/// those whom it serves, and one more, who leads the next.
const COMMITTER: usize = 2;

struct State<O> {
    /// The last batch appended.
    written: u64,
    /// The last batch known to be on disk.
    durable: u64,
    /// Someone is syncing, and makes durable what was written up to here.
    leading: Option<u64>,
    /// How many syncs have begun.
    rounds: usize,
    /// Someone is letting held output out.
    emitting: bool,
    held: VecDeque<(u64, O)>,
    failed: Option<Arc<StoreError>>,
    closed: bool,
}

/// How a wait ended.
#[derive(Debug)]
pub enum Waited {
    /// All up to the ticket is durable.
    Durable,
    /// The time was up; wait again.
    NotYet,
}

impl<O> Durability<O> {
    /// Nothing written yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let held = VecDeque::new();
        let state = State {
            written: 0,
            durable: 0,
            leading: None,
            rounds: 0,
            emitting: false,
            held,
            failed: None,
            closed: false,
        };
        Self { store, state: Monitor::new(state) }
    }

    /// Whether results wait for the disk at all.
    pub fn syncs(&self) -> bool {
        self.store.syncs()
    }

    /// To be called after a batch was appended.
    pub fn wrote(&self) -> Ticket {
        self.state.with(|state| {
            state.written += 1;
            Ticket(state.written)
        })
    }

    /// Keeps `output` until all that has been written so far is durable. Gives it back if that is so
    /// already, and if no earlier output is on its way still.
    pub fn hold(&self, output: O) -> Option<O> {
        let back = self.hold_silently(output);
        if back.is_none() {
            self.call_committer();
        }
        back
    }

    /// As [`Durability::hold`], but [`Holds::call_committer`] must follow if it is kept.
    pub(crate) fn hold_silently(&self, output: O) -> Option<O> {
        self.state.with(|state| {
            let overtakes = state.emitting || !state.held.is_empty();
            if state.durable == state.written && state.failed.is_none() && !overtakes {
                return Some(output);
            }
            let written = state.written;
            state.held.push_back((written, output));
            None
        })
    }

    /// The last ticket given out.
    pub fn last(&self) -> Ticket {
        self.state.with(|state| Ticket(state.written))
    }

    /// Waits until all up to `ticket` is durable, syncing for all if nobody else does.
    ///
    /// Must be called detached. The error is that of the sync: it is not known what is on disk, and no vat
    /// of the store may go on.
    pub fn wait(&self, ticket: Ticket, patience: Duration) -> Result<Waited, Arc<StoreError>> {
        enum Next {
            Done,
            Failed(Arc<StoreError>),
            Lead(u64),
        }
        let next = self.state.wait_in(patience, |state| {
            if state.durable >= ticket.0 {
                return Ok(Next::Done);
            }
            if let Some(error) = &state.failed {
                return Ok(Next::Failed(error.clone()));
            }
            if let Some(written) = state.leading {
                let served = ticket.0 <= written;
                return Err((state.rounds + usize::from(!served)) % 2);
            }
            state.leading = Some(state.written);
            state.rounds = state.rounds.wrapping_add(1);
            Ok(Next::Lead(state.written))
        });
        match next {
            None => Ok(Waited::NotYet),
            Some(Next::Done) => Ok(Waited::Durable),
            Some(Next::Failed(error)) => Err(error),
            Some(Next::Lead(written)) => self.lead(written).map(|()| Waited::Durable),
        }
    }

    /// Waits for as long as it takes. Must be called detached.
    pub fn wait_for(&self, ticket: Ticket) -> Result<(), Arc<StoreError>> {
        while let Waited::NotYet = self.wait(ticket, Duration::from_secs(1))? {}
        Ok(())
    }

    fn lead(&self, written: u64) -> Result<(), Arc<StoreError>> {
        let synced = self.store.sync().map_err(Arc::new);
        let round = self.state.with(|state| {
            state.leading = None;
            match &synced {
                Ok(()) => state.durable = state.durable.max(written),
                Err(error) => {
                    state.failed.get_or_insert(error.clone());
                }
            }
            state.rounds
        });
        match synced {
            Ok(()) => {
                // The next leader first, since the disk has nothing to do.
                self.state.notify_one_in((round + 1) % 2);
                self.state.notify_all_in(round % 2);
            }
            Err(_) => self.wake_all(),
        }
        synced
    }

    /// Waits at most `patience` until there is held output, then makes it durable: true if there is some to
    /// [`Durability::emit`]. For the committer's thread; `None` once [`Durability::close`] was called and
    /// nothing is held.
    pub fn commit_held(&self, patience: Duration) -> Option<Result<bool, Arc<StoreError>>> {
        let ticket = self.state.wait_in(patience, |state| match state.held.front() {
            Some((ticket, _)) if !state.emitting => Ok(Some(Ticket(*ticket))),
            None if state.closed => Ok(None),
            _ => Err(COMMITTER),
        });
        match ticket {
            None => Some(Ok(false)),
            Some(None) => None,
            Some(Some(ticket)) => {
                Some(self.wait(ticket, patience).map(|waited| matches!(waited, Waited::Durable)))
            }
        }
    }

    /// Lets out what is durable of the held output, in the order in which it came. Does nothing if another
    /// thread is at it: that one sees to all.
    pub fn emit(&self, mut out: impl FnMut(O)) {
        if self.state.with(|state| std::mem::replace(&mut state.emitting, true)) {
            return;
        }
        loop {
            let (ready, wake) = self.state.with(|state| {
                let ready = state.durable_count();
                state.emitting = ready > 0;
                let ready: Vec<_> = state.held.drain(..ready).collect();
                // The committer has something to do, or has to end.
                (ready, !state.held.is_empty() || state.closed)
            });
            if ready.is_empty() {
                if wake {
                    self.state.notify_all_in(COMMITTER);
                }
                return;
            }
            ready.into_iter().for_each(|(_, output)| out(output));
        }
    }

    /// Held output that will never be durable, after a failure.
    pub fn take_lost(&self) -> Vec<O> {
        self.state.with(|state| match state.failed {
            Some(_) => state.held.drain(state.durable_count()..).map(|(_, output)| output).collect(),
            None => Vec::new(),
        })
    }

    /// Notes that it is not known what is on disk: every vat of the store must stop (guarantee G9).
    pub fn fail(&self, error: Arc<StoreError>) {
        self.state.with(|state| {
            state.failed.get_or_insert(error);
        });
        self.wake_all();
    }

    fn wake_all(&self) {
        (0..=COMMITTER).for_each(|queue| self.state.notify_all_in(queue));
    }

    /// The error after which nothing may go on.
    pub fn failure(&self) -> Option<Arc<StoreError>> {
        self.state.with(|state| state.failed.clone())
    }

    /// Lets [`Durability::commit_held`] end once nothing is held.
    pub fn close(&self) {
        self.state.with(|state| state.closed = true);
        self.state.notify_all_in(COMMITTER);
    }
}

impl<O> Holds for Durability<O> {
    fn call_committer(&self) {
        self.state.notify_all_in(COMMITTER);
    }
}

impl<O> State<O> {
    /// How much of the held output is durable: the oldest.
    fn durable_count(&self) -> usize {
        self.held.iter().take_while(|(ticket, _)| *ticket <= self.durable).count()
    }
}

impl<O> std::fmt::Debug for Durability<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Durability({:?})", self.store)
    }
}
