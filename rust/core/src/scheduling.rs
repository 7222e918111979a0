//! Who runs a vat that has messages and nobody inside, and how many messages may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::KernelError;
use crate::host::Host;
use crate::mailbox::Entry;
use crate::session::Session;
use crate::storage::SLICE;
use crate::stretch::Stretch;
use crate::vat::Vat;

/// Who runs a vat that has messages and nobody inside (VAT-06).
#[derive(Debug)]
pub enum Scheduling<L> {
    /// A worker of the pool.
    Pool,
    /// Nobody, until [`Vat::step`] or [`Vat::drain`] is called: for tests that want to see each step.
    Manual,
    /// An event loop of the host, which is told to call [`Vat::work`].
    Loop(L),
}

/// How many messages may wait in a vat's inbox; [`usize::MAX`] for any number.
#[derive(Debug)]
pub(crate) struct InboxLimit(AtomicUsize);

impl InboxLimit {
    pub(crate) fn none() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl<H: Host> Vat<H> {
    /// Says who runs the vat. The first word counts; without one it is the pool.
    pub fn set_scheduling(&self, scheduling: Scheduling<H::Loop>) {
        // A second word is no harm: the vat goes on as it is.
        let _ = self.scheduling.set(scheduling);
    }

    /// Who runs the vat.
    pub fn scheduling(&self) -> &Scheduling<H::Loop> {
        self.scheduling.get().unwrap_or(&Scheduling::Pool)
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.scheduling.get(), Some(Scheduling::Manual))
    }

    pub(crate) fn schedule(self: &Arc<Self>) {
        match self.scheduling() {
            Scheduling::Pool => self.runtime().schedule(self.clone()),
            Scheduling::Manual => {}
            Scheduling::Loop(call) => H::call_soon(call, self),
        }
    }

    /// Handles the message that has waited longest, and the near ones that come of it. False if there was none.
    pub fn step(self: &Arc<Self>, cx: H::Cx<'_>) -> Result<bool, H::Error> {
        loop {
            match H::detached(cx, || self.mailbox().enter(SLICE)) {
                Entry::Entered(work) => {
                    let session = Session::begin(self.clone(), work);
                    let some = self.mailbox().backlog() > 0;
                    let done = session.do_jobs(cx, 1, Stretch::of_caller(self));
                    let interrupt = session.churn().take_interrupt();
                    session.leave_durable(cx)?;
                    interrupt?;
                    return if done.is_some() { Ok(some) } else { Err(H::error(cx, self.closed_error())) };
                }
                Entry::Closed => return Err(H::error(cx, self.closed_error())),
                Entry::Busy => H::interrupted(cx)?,
            }
        }
    }

    /// Changes how many messages may wait in the inbox; `None` for any number.
    pub fn set_inbox_limit(&self, limit: Option<usize>) {
        self.inbox_limit.0.store(limit.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// How many messages may wait in the inbox.
    pub fn inbox_limit(&self) -> Option<usize> {
        Some(self.inbox_limit.get()).filter(|limit| *limit != usize::MAX)
    }

    /// How many messages wait in the inbox.
    pub fn backlog(&self) -> usize {
        self.mailbox().backlog()
    }

    /// An error if the inbox is full: for a sender that must not wait, since it is in a turn.
    pub fn check_room(&self) -> Result<(), KernelError> {
        let limit = self.inbox_limit.get();
        if limit != usize::MAX && self.mailbox().backlog() >= limit {
            return Err(KernelError::InboxFull { vat: self.title().into_owned(), limit });
        }
        Ok(())
    }

    /// Waits until the inbox has room, for a sender outside of all turns. Where nobody else would make room it
    /// is an error.
    pub fn wait_for_room(self: &Arc<Self>, cx: H::Cx<'_>) -> Result<(), H::Error> {
        let limit = self.inbox_limit.get();
        if limit == usize::MAX {
            return Ok(());
        }
        loop {
            match self.check_room() {
                Ok(()) => return Ok(()),
                Err(full) if !matches!(self.scheduling(), Scheduling::Pool) => {
                    return Err(H::error(cx, full));
                }
                Err(_) => {
                    self.help(cx)?;
                    H::interrupted(cx)?;
                    H::detached(cx, || self.mailbox().wait_for_room(limit, SLICE));
                }
            }
        }
    }
}
