//! How far a churn goes at a stretch.
//!
//! A message may cause others without end: an actor that tells itself again and again, or two that tell each other.
//! So a churn that goes on for too long is cut, between two of its turns: what it did is written and released, others
//! get in, and the rest waits in the inbox, in its order, as one job.

use std::rc::Rc;

use crate::churn::Churn;
use crate::fork::is_forked;
use crate::host::Host;
use crate::job::{Job, Task};
use crate::log::Cause;
use crate::release::settling;
use crate::scheduling::Scheduling;
use crate::vat::Vat;

/// A churn that was cut so often is reported.
const MANY: u64 = 20;

/// How far a churn goes before it is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    turns: u64,
    /// In ticks of the watch, the first of which may be a short one.
    ticks: u64,
    /// As how many of the shorter kind it counts.
    weight: u64,
}

impl Stretch {
    /// Nobody waits for the end of this churn.
    pub(crate) fn of_queue<H: Host>(vat: &Vat<H>) -> Self {
        match vat.scheduling() {
            Scheduling::Loop(_) => Self::of_loop(),
            Scheduling::Pool | Scheduling::Manual => Self { turns: 10_000, ticks: 2, weight: 1 },
        }
    }

    /// An event loop runs it, which has other things to do.
    pub(crate) fn of_loop() -> Self {
        Self { turns: 1_000, ticks: 2, weight: 1 }
    }

    /// Somebody waits for it, and expects that it is done.
    pub(crate) fn of_caller<H: Host>(vat: &Vat<H>) -> Self {
        match vat.scheduling() {
            Scheduling::Loop(_) => Self::of_queue(vat),
            Scheduling::Pool | Scheduling::Manual => Self { turns: 100_000, ticks: 11, weight: 10 },
        }
    }

    /// Whether it is over, some ticks of the watch after its beginning.
    pub(crate) fn is_over(self, ticks: u64) -> bool {
        ticks >= self.ticks
    }
}

impl<H: Host> Churn<H> {
    /// Does near work until none is left, or the stretch is over, or there was an interrupt: then the rest is put into the
    /// inbox, and this gives false. `cuts`: as often this churn was cut before.
    pub(crate) fn run_queue(self: &Rc<Self>, cx: H::Cx<'_>, stretch: Stretch, cuts: u64) -> bool {
        let watch = self.vat().runtime().watch();
        let (turn, tick) = (self.work().turn, watch.tick());
        loop {
            let job = {
                let mut work = self.work();
                if work.interrupt.is_some() {
                    let rest = std::mem::take(&mut work.queue);
                    drop(work);
                    self.vat().mailbox().put_back(rest);
                    return false;
                }
                match work.queue.pop_front() {
                    None => return true,
                    Some(job)
                        if work.turn - turn >= stretch.turns || stretch.is_over(watch.tick() - tick) =>
                    {
                        work.queue.push_front(job);
                        break;
                    }
                    Some(job) => job,
                }
            };
            self.do_job(cx, job);
            if is_forked() {
                return true;
            }
        }
        self.cut(cx, cuts, cuts + stretch.weight);
        false
    }

    fn cut(&self, cx: H::Cx<'_>, before: u64, cuts: u64) {
        let vat = self.vat();
        let jobs = std::mem::take(&mut self.work().queue);
        if before < MANY && cuts >= MANY {
            let what = format!(
                "vat {}: one message causes others without end, {} at present: what was done so far is kept, and other \
                 messages are handled in between; an actor that tells itself again and again should wait for \
                 something",
                vat.name(),
                jobs.len()
            );
            H::warn(cx, &what);
        }
        // Nobody sees it before this churn has ended: its owner is inside.
        let job = Job { task: Task::GoOn { jobs, cuts }, cause: Cause::default() };
        if let Err(job) = vat.mailbox().post(job) {
            settling(cx, |next| job.refuse(cx, vat, vat.closed_error(), next));
        }
    }
}
