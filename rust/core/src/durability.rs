//! Group commit: one wait for the disk serves all who wait (guarantee G2).
//!
//! Vats append their batches and go on. What leaves the store's vats waits here until a sync that began
//! after its batch was appended has come back. The first who waits leads: it syncs for all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::store::{Store, StoreError};
use crate::sync::Monitor;

/// The place of a batch in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What waits for the disk: `O` is released once all that it depends on is durable.
pub struct Durability<O> {
    store: Arc<dyn Store>,
    state: Monitor<State<O>>,
}

struct State<O> {
    /// The last batch appended.
    written: u64,
    /// The last batch known to be on disk.
    durable: u64,
    /// Someone is syncing.
    leading: bool,
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
            leading: false,
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
        let (back, wake) = self.state.with(|state| {
            let overtakes = state.emitting || !state.held.is_empty();
            if state.durable == state.written && state.failed.is_none() && !overtakes {
                return (Some(output), false);
            }
            let written = state.written;
            state.held.push_back((written, output));
            (None, true)
        });
        if wake {
            self.state.notify_all();
        }
        back
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
        let next = self.state.wait(patience, |state| {
            if state.durable >= ticket.0 {
                return Some(Next::Done);
            }
            if let Some(error) = &state.failed {
                return Some(Next::Failed(error.clone()));
            }
            if state.leading {
                return None;
            }
            state.leading = true;
            Some(Next::Lead(state.written))
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
        self.state.with(|state| {
            state.leading = false;
            match &synced {
                Ok(()) => state.durable = state.durable.max(written),
                Err(error) => {
                    state.failed.get_or_insert(error.clone());
                }
            }
        });
        self.state.notify_all();
        synced
    }

    /// Waits at most `patience` until there is held output, then makes it durable: true if there is some to
    /// [`Durability::emit`]. For the committer's thread; `None` once [`Durability::close`] was called and
    /// nothing is held.
    pub fn commit_held(&self, patience: Duration) -> Option<Result<bool, Arc<StoreError>>> {
        let ticket = self.state.wait(patience, |state| match state.held.front() {
            Some((ticket, _)) if !state.emitting => Some(Some(Ticket(*ticket))),
            Some(_) => None,
            None => state.closed.then_some(None),
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
                    self.state.notify_all();
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
        self.state.notify_all();
    }

    /// The error after which nothing may go on.
    pub fn failure(&self) -> Option<Arc<StoreError>> {
        self.state.with(|state| state.failed.clone())
    }

    /// Lets [`Durability::commit_held`] end once nothing is held.
    pub fn close(&self) {
        self.state.with(|state| state.closed = true);
        self.state.notify_all();
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
