//! Sessions: a thread being inside a vat.

use std::rc::Rc;
use std::sync::Arc;

use crate::churn::{Churn, Work};
use crate::durability::Waited;
use crate::error::KernelError;
use crate::fork::is_forked;
use crate::history::Purpose;
use crate::host::Host;
use crate::job::{Job, Task};
use crate::log::Cause;
use crate::mailbox::Posted;
use crate::release::settling;
use crate::storage::SLICE;
use crate::store::Batch;
use crate::vat::Vat;

/// A thread being inside a vat.
///
/// One that is dropped (by a panic, say) takes its open turn back and leaves; what its earlier turns did goes
/// with the next churn.
pub struct Session<H: Host> {
    /// `None` once the vat was left.
    churn: Option<Rc<Churn<H>>>,
    previous: Option<Rc<Churn<H>>>,
}

impl<H: Host> Session<H> {
    pub(crate) fn begin(vat: Arc<Vat<H>>, work: Box<Work<H>>) -> Self {
        vat.pace().entered(H::thread_id());
        vat.runtime().watch().wake();
        let churn = Rc::new(Churn::new(vat, work));
        let previous = H::set_current(Some(churn.clone()));
        Self { churn: Some(churn), previous }
    }

    /// The churn that is run.
    pub fn churn(&self) -> &Rc<Churn<H>> {
        match &self.churn {
            Some(churn) => churn,
            None => unreachable!("only what consumes a session leaves its vat"),
        }
    }

    /// Does the jobs that came before this session, so that a thread's messages keep their order.
    pub(crate) fn catch_up(self, cx: H::Cx<'_>) -> Result<Self, H::Error> {
        let vat = self.churn().vat().clone();
        if vat.failure().is_some() {
            self.refuse_jobs(cx);
            self.leave();
            return Err(H::error(cx, vat.poisoned_error()));
        }
        // In a manual vat they wait for whoever calls for them.
        let backlog = if vat.is_manual() { 0 } else { vat.mailbox().backlog() };
        if backlog > 0 && !self.do_jobs(cx, backlog) {
            self.leave();
            return Err(H::error(cx, vat.poisoned_error()));
        }
        Ok(self)
    }

    /// Does at most `most` jobs, each a churn. False if the vat has stopped.
    pub(crate) fn do_jobs(&self, cx: H::Cx<'_>, most: usize) -> bool {
        let churn = self.churn();
        let vat = churn.vat();
        for _ in 0..most {
            if vat.failure().is_some() {
                self.refuse_jobs(cx);
                return false;
            }
            let Some(job) = vat.mailbox().next_job() else {
                return true;
            };
            if !matches!(&job, Job { task: Task::Deliver { .. }, cause: Cause { vat: None, .. } }) {
                churn.depends_on_store();
            }
            churn.run(cx, job);
            if is_forked() {
                return false;
            }
            if let Err(error) = churn.end(cx) {
                H::report(cx, vat, "a churn could not be written and was taken back", &error);
                self.refuse_jobs(cx);
                return false;
            }
        }
        true
    }

    fn refuse_jobs(&self, cx: H::Cx<'_>) {
        let vat = self.churn().vat();
        let why = vat.poisoned_error();
        let suspended = std::mem::take(&mut self.churn().work().suspended);
        vat.break_suspended(cx, suspended, &why);
        // One at a time: breaking a promise may bring in a job for its listener in this vat.
        while let Some(job) = vat.mailbox().next_job() {
            settling(cx, |next| job.refuse(cx, vat, why.clone(), next));
        }
    }

    /// Does what the turn has caused, writes it, leaves the vat, and waits until all that the caller may
    /// have seen is durable.
    pub fn finish(self, cx: H::Cx<'_>) -> Result<(), H::Error> {
        self.churn().run_queue(cx);
        if is_forked() {
            return Err(H::error(cx, KernelError::Forked));
        }
        self.churn().record_end();
        let mut batch = self.churn().next_batch(cx);
        if self.churn().has_only_a_batch()
            && let Some(batch) = batch.take()
        {
            return self.write_and_leave(cx, batch);
        }
        match self.churn().end_with(cx, batch) {
            Ok(()) => self.leave_durable(cx),
            Err(error) => {
                self.refuse_jobs(cx);
                self.leave();
                Err(error)
            }
        }
    }

    /// Writes the batch, leaves the vat, and waits for the disk, all while others may use the interpreter: where many
    /// threads call, each handing over of the interpreter is what takes the time.
    fn write_and_leave(mut self, cx: H::Cx<'_>, batch: Batch) -> Result<(), H::Error> {
        let vat = self.churn().vat().clone();
        let Some(persistence) = vat.persistence() else {
            return self.leave_durable(cx);
        };
        let Some(churn) = self.churn.take() else {
            return Ok(());
        };
        H::set_current(self.previous.take());
        let mut work = Churn::into_work(churn);
        work.churn += 1;
        vat.note_awake(&work);
        let done = std::mem::take(&mut work.done);
        let durability = persistence.claim.storage().durability();
        let written = H::detached(cx, || {
            if let Some(error) = durability.failure() {
                return Err((work, error));
            }
            if let Err(error) = persistence.claim.write(batch, Purpose::Churn) {
                let error = Arc::new(error);
                durability.fail(error.clone());
                return Err((work, error));
            }
            persistence.claim.gave_out(work.next_slot);
            let ticket = durability.wrote();
            if let Some(saving) = &mut work.saving {
                saving.ticket = Some(ticket);
            }
            if vat.mailbox().leave(work) == Posted::Schedule {
                vat.schedule();
            }
            Ok((ticket, durability.wait(ticket, SLICE)))
        });
        match written {
            Ok((_, Ok(Waited::Durable))) => {
                drop(done);
                persistence.claim.storage().flush(cx);
                Ok(())
            }
            Ok((ticket, Ok(Waited::NotYet) | Err(_))) => {
                drop(done);
                vat.wait_durable(cx, ticket)
            }
            Err((work, error)) => {
                let session = Self::begin(vat.clone(), work);
                Churn::take_back(done);
                vat.poison(error.clone());
                session.refuse_jobs(cx);
                session.leave();
                Err(H::error(cx, KernelError::Store(error)))
            }
        }
    }

    /// Leaves the vat, and waits until all that it knows is durable.
    pub(crate) fn leave_durable(self, cx: H::Cx<'_>) -> Result<(), H::Error> {
        let ticket = self.churn().work().saving.as_ref().and_then(|saving| saving.ticket);
        let vat = self.churn().vat().clone();
        self.leave();
        match (ticket, vat.persistence()) {
            (Some(ticket), Some(persistence)) if persistence.claim.storage().durability().syncs() => {
                vat.wait_durable(cx, ticket)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn leave(mut self) {
        self.leave_now();
    }

    fn leave_now(&mut self) {
        let Some(churn) = self.churn.take() else {
            return;
        };
        if is_forked() {
            // It was the parent's thread that entered.
            std::mem::forget((churn, self.previous.take()));
            return;
        }
        // What a churn that was given up has left.
        churn.enter_events();
        H::set_current(self.previous.take());
        let vat = churn.vat().clone();
        let work = Churn::into_work(churn);
        if vat.mailbox().leave(work) == Posted::Schedule {
            vat.schedule();
        }
    }
}

impl<H: Host> Drop for Session<H> {
    fn drop(&mut self) {
        if let Some(churn) = &self.churn
            && !is_forked()
        {
            churn.abandon_turn();
        }
        self.leave_now();
    }
}
