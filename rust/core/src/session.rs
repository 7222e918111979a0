//! Sessions: a thread being inside a vat.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::churn::{Churn, Work};
use crate::claim::cut_off;
use crate::durability::Waited;
use crate::error::KernelError;
use crate::fork::is_forked;
use crate::history::Purpose;
use crate::host::Host;
use crate::job::{Job, Task};
use crate::log::Cause;
use crate::mailbox::Way;
use crate::pace::{Budget, Measure};
use crate::release::{Outputs, settling};
use crate::storage::SLICE;
use crate::store::Batch;
use crate::stretch::Stretch;
use crate::turn::Undo;
use crate::vat::Vat;

/// A thread being inside a vat.
///
/// One that is dropped (by a panic, say) takes its open turn back and leaves; what its earlier turns did goes
/// with the next churn. If that churn was being written, a vat with a store stops.
pub struct Session<H: Host> {
    /// `None` once the vat was left.
    churn: Option<Rc<Churn<H>>>,
    previous: Option<Rc<Churn<H>>>,
    /// An event loop is inside, for those who sent what waits: what it leaves is for it.
    on_loop: bool,
}

impl<H: Host> Session<H> {
    pub(crate) fn begin(vat: Arc<Vat<H>>, work: Box<Work<H>>) -> Self {
        vat.pace().entered(H::thread_id());
        vat.runtime().watch().wake();
        let churn = Rc::new(Churn::new(vat, work));
        let previous = H::set_current(Some(churn.clone()));
        Self { churn: Some(churn), previous, on_loop: false }
    }

    pub(crate) fn on_loop(mut self) -> Self {
        self.on_loop = true;
        self
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
        let mut left = backlog;
        while left > 0 {
            let done = self.do_jobs(cx, left, Stretch::of_queue(&vat));
            if let Err(interrupt) = self.churn().take_interrupt() {
                self.leave();
                return Err(interrupt);
            }
            match done {
                None => {
                    self.leave();
                    return Err(H::error(cx, vat.poisoned_error()));
                }
                Some(0) => break,
                Some(done) => left -= done,
            }
        }
        Ok(self)
    }

    /// Does at most `most` jobs, each a churn, and no more once the stretch is over, or after an interrupt, which the caller
    /// takes. Gives how many these were, or `None` if the vat has stopped.
    pub(crate) fn do_jobs(&self, cx: H::Cx<'_>, most: usize, stretch: Stretch) -> Option<usize> {
        let churn = self.churn();
        let vat = churn.vat();
        let watch = vat.runtime().watch();
        let tick = watch.tick();
        for done in 0..most {
            if vat.failure().is_some() {
                self.refuse_jobs(cx);
                return None;
            }
            if done > 0 && stretch.is_over(watch.tick() - tick) {
                return Some(done);
            }
            let Some((job, way)) = vat.mailbox().next_job() else {
                return Some(done);
            };
            let (whole, _) = self.do_job(cx, job, way, stretch, None)?;
            if !self.end_churn(cx) {
                return None;
            }
            if !whole {
                return Some(done + 1);
            }
        }
        Some(most)
    }

    /// Does what waits as an event loop does it: as far as its budget goes. What a vat with a store changes in messages
    /// that the loop has sent is written in one batch, since they are known to be quick. Gives an interrupt that came up
    /// meanwhile.
    pub(crate) fn do_jobs_within(&self, cx: H::Cx<'_>, budget: &Budget) -> Result<(), H::Error> {
        let churn = self.churn();
        let vat = churn.vat();
        let mut interrupt = Ok(());
        let mut unwritten = false;
        while interrupt.is_ok() && !budget.is_spent() && vat.failure().is_none() {
            let Some((job, way)) = vat.mailbox().next_job() else { break };
            let began = Instant::now();
            if unwritten && !way.is_for_sender() {
                unwritten = false;
                if !self.end_churn(cx) {
                    vat.mailbox().put_back(VecDeque::from([job]));
                    break;
                }
            }
            let Some((whole, took)) = self.do_job(cx, job, way, Stretch::of_loop(), Some(began)) else {
                return Ok(());
            };
            unwritten = whole && way.is_for_sender() && vat.persistence().is_some();
            if unwritten {
                churn.end_unwritten(cx);
            } else if !self.end_churn(cx) {
                return Ok(());
            }
            budget.spend(took.unwrap_or_else(|| began.elapsed()));
            interrupt = churn.take_interrupt();
        }
        if unwritten {
            let began = Instant::now();
            self.end_churn(cx);
            budget.spend_more(began.elapsed());
        }
        if vat.failure().is_some() {
            self.refuse_jobs(cx);
        }
        interrupt
    }

    /// Does a job, and measures it if need be. Gives whether that was all that came of it, and how long it took, if it was
    /// measured; `None` in a forked child.
    fn do_job(
        &self,
        cx: H::Cx<'_>,
        job: Job<H>,
        way: Way,
        stretch: Stretch,
        began: Option<Instant>,
    ) -> Option<(bool, Option<Duration>)> {
        let churn = self.churn();
        let kinds = churn.vat().runtime().kinds();
        if !matches!(&job, Job { task: Task::Deliver { .. }, cause: Cause { vat: None, .. } }) {
            churn.depends_on_store();
        }
        let measure = Measure::begin::<H>(way, kinds, began);
        let whole = churn.run(cx, job, stretch);
        if is_forked() {
            return None;
        }
        Some((whole, measure.map(|measure| measure.end::<H>(kinds))))
    }

    /// False if the vat has stopped, since the churn could not be written.
    fn end_churn(&self, cx: H::Cx<'_>) -> bool {
        let Err(error) = self.churn().end(cx) else { return true };
        H::report(cx, self.churn().vat(), "a churn could not be written and was taken back", &error);
        self.refuse_jobs(cx);
        false
    }

    fn refuse_jobs(&self, cx: H::Cx<'_>) {
        let vat = self.churn().vat();
        let why = vat.poisoned_error();
        let awaited = std::mem::take(&mut self.churn().work().awaited);
        vat.leave_lines(cx, awaited, &why);
        self.refuse_cut_off(cx, &why);
        // One at a time: breaking a promise may bring in a job for its listener in this vat.
        while let Some((job, _)) = vat.mailbox().next_job() {
            settling(cx, |next| job.refuse(cx, vat, why.clone(), next));
        }
    }

    /// Takes back the churn that a panic has cut off, if one did.
    fn refuse_cut_off(&self, cx: H::Cx<'_>, why: &KernelError) {
        let (done, queue, before, outputs) = {
            let mut work = self.churn().work();
            let before = std::mem::take(&mut work.unwritten);
            let queue = std::mem::take(&mut work.queue);
            (std::mem::take(&mut work.done), queue, before, Outputs::of(&mut work))
        };
        Churn::take_back(done);
        before.into_iter().for_each(|outputs| outputs.refuse(cx, why));
        outputs.refuse(cx, why);
        settling(cx, |next| {
            queue.into_iter().for_each(|job| job.refuse(cx, self.churn().vat(), why.clone(), next));
        });
    }

    /// Does what the turn has caused, as far as the stretch goes, writes it, leaves the vat, and waits until all that
    /// the caller may have seen is durable.
    pub fn finish(self, cx: H::Cx<'_>) -> Result<(), H::Error> {
        let stretch = Stretch::of_caller(self.churn().vat());
        self.churn().run_queue(cx, stretch, 0);
        if is_forked() {
            return Err(H::error(cx, KernelError::Forked));
        }
        let interrupt = self.churn().take_interrupt();
        self.finish_churn(cx).and(interrupt)
    }

    fn finish_churn(self, cx: H::Cx<'_>) -> Result<(), H::Error> {
        self.churn().record_end(cx);
        self.churn().note_lines(cx);
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
        let mut inside = Inside { vat: &vat, work: Some(Churn::into_work(churn)) };
        let done = inside.end_churn();
        let durability = persistence.claim.storage().durability();
        let written = H::detached(cx, || {
            if let Some(error) = durability.failure() {
                return Err((inside.work.take(), error));
            }
            if let Err(error) = persistence.claim.write(batch, Purpose::Churn) {
                let error = Arc::new(error);
                durability.fail(error.clone());
                return Err((inside.work.take(), error));
            }
            let ticket = durability.wrote();
            if let Some(mut work) = inside.work.take() {
                persistence.claim.gave_out(work.next_slot);
                if let Some(saving) = &mut work.saving {
                    saving.ticket = Some(ticket);
                }
                vat.leave(work);
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
                let session = work.map(|work| Self::begin(vat.clone(), work));
                Churn::take_back(done);
                vat.poison(error.clone());
                if let Some(session) = session {
                    session.refuse_jobs(cx);
                    session.leave();
                }
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
        vat.leave_to(Churn::into_work(churn), self.on_loop);
    }
}

/// The loop of a vat that is being left. Should a panic come in between, the vat stops, and is left all the same.
struct Inside<'a, H: Host> {
    vat: &'a Arc<Vat<H>>,
    work: Option<Box<Work<H>>>,
}

impl<H: Host> Inside<'_, H> {
    /// Gives what the churn changed.
    fn end_churn(&mut self) -> Vec<Undo<H>> {
        let Some(work) = &mut self.work else {
            return Vec::new();
        };
        work.churn += 1;
        work.ending = false;
        self.vat.note_awake(work);
        std::mem::take(&mut work.done)
    }
}

impl<H: Host> Drop for Inside<'_, H> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.vat.was_cut_off();
            self.vat.leave(work);
        }
    }
}

impl<H: Host> Vat<H> {
    /// A panic came while a churn was written and released: what is in memory can't be trusted (guarantee G9).
    fn was_cut_off(&self) {
        if let Some(persistence) = self.persistence() {
            self.poison(Arc::new(cut_off(persistence.claim.storage().name())));
            // Whoever comes for it refuses what waits.
            self.come_back();
        }
    }

    /// Somebody is to come for what is left. If the vat is being closed, that is done anyway.
    fn come_back(&self) {
        let task = Task::GoOn { jobs: VecDeque::new(), cuts: 0 };
        let _ = self.mailbox().post(Job { task, cause: Cause::default() });
    }
}

impl<H: Host> Drop for Session<H> {
    fn drop(&mut self) {
        if let Some(churn) = &self.churn
            && !is_forked()
        {
            churn.abandon_turn();
            if std::mem::take(&mut churn.work().ending) {
                churn.vat().was_cut_off();
            } else if !churn.work().unwritten.is_empty() {
                churn.vat().come_back();
            }
        }
        self.leave_now();
    }
}
