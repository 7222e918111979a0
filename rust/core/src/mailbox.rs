//! A vat's door: its inbox, and who may run it.
//!
//! A vat is not a thread. Whoever brings work to an idle vat enters it, runs it, and leaves; the loop `L`
//! is handed to the one inside, so that exclusion is by ownership. Work that nobody inside will see makes
//! the vat *scheduled*: one entry in the queue of the worker pool.

use std::collections::VecDeque;
use std::time::Duration;

use crate::pace::Kind;
use crate::sync::Monitor;

/// Jobs `J` that wait for a vat, and the loop `L` that handles them.
#[derive(Debug)]
pub struct Mailbox<J, L> {
    inner: Monitor<Inner<J, L>>,
}

#[derive(Debug)]
struct Inner<J, L> {
    phase: Phase<L>,
    inbox: VecDeque<(J, Way)>,
    /// How many of these are not for their senders.
    own: usize,
    /// Who has been called. An entry for this vat stands in the queue of whoever runs it, never more than one.
    called: Option<Caller>,
    /// No new job and no new entry: somebody waits to close it.
    closing: bool,
    /// Threads that wait for the phase to change, or for room.
    waiting: usize,
    /// Of these, the ones that wait to get in.
    entering: usize,
    /// Of these, the ones that wait for room.
    crowd: usize,
}

#[derive(Debug)]
enum Phase<L> {
    Idle(L),
    Running,
    Closed,
}

/// Who is to do a job.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Way {
    /// Whoever runs the vat.
    Own,
    /// The same, and it is measured.
    Measured(Kind),
    /// Whoever runs the vat, or the event loop that sent it.
    Sender(Kind),
}

/// Who has been called to run a vat.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Caller {
    Own,
    Sender,
}

/// What a poster has to do next.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Posted {
    /// Put the vat into the pool's queue.
    Schedule,
    /// Leave it to the event loop of this thread.
    Entrust,
    /// Nothing: someone inside, or a worker on its way, will see the job.
    Accepted,
}

/// What came of an attempt to enter.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<L> {
    /// The caller runs the vat now, and must [`Mailbox::leave`].
    Entered(L),
    /// Somebody else is inside still.
    Busy,
    /// The vat is closed, or about to be.
    Closed,
}

impl<J, L> Mailbox<J, L> {
    /// An idle vat without jobs.
    pub fn new(idle: L) -> Self {
        let inbox = VecDeque::new();
        let phase = Phase::Idle(idle);
        Self {
            inner: Monitor::new(Inner {
                phase,
                inbox,
                own: 0,
                called: None,
                closing: false,
                waiting: 0,
                entering: 0,
                crowd: 0,
            }),
        }
    }

    /// Adds a job; gives it back if the vat is closed.
    pub fn post(&self, job: J) -> Result<Posted, J> {
        self.post_by(job, Way::Own)
    }

    /// As [`Mailbox::post`], for whom it names.
    pub fn post_by(&self, job: J, way: Way) -> Result<Posted, J> {
        self.inner.with(|inner| {
            if inner.closing {
                return Err(job);
            }
            inner.own += usize::from(!way.is_for_sender());
            inner.inbox.push_back((job, way));
            Ok(inner.schedule(way.is_for_sender()))
        })
    }

    /// Enters, waiting at most `patience` while somebody else is inside.
    pub fn enter(&self, patience: Duration) -> Entry<L> {
        if let Some(entry) = self.inner.with(Inner::try_enter) {
            return entry;
        }
        self.inner.with(|inner| inner.want_in());
        let entry = self.inner.wait(patience, |inner| {
            let entry = inner.try_enter()?;
            inner.want_in_no_more();
            Some(entry)
        });
        // A last look in the moment of giving up: a worker may have made way.
        let give_up = |inner: &mut Inner<J, L>| {
            inner.want_in_no_more();
            inner.try_enter()
        };
        entry.or_else(|| self.inner.with(give_up)).unwrap_or(Entry::Busy)
    }

    /// Enters if nobody is inside; never waits.
    pub fn try_enter(&self) -> Entry<L> {
        self.inner.with(Inner::try_enter).unwrap_or(Entry::Busy)
    }

    /// Called by a worker that took the vat's entry from the pool's queue. `None`: somebody is inside, or waits
    /// to be, and will see the jobs; or there are none any more.
    pub fn enter_scheduled(&self) -> Option<L> {
        self.inner.with(|inner| {
            if inner.called == Some(Caller::Own) {
                inner.called = None;
            }
            inner.enter_for_jobs()
        })
    }

    /// Called by an event loop to which the vat was left. `None`: as above, or others have been called since.
    pub fn enter_entrusted(&self) -> Option<L> {
        self.inner.with(|inner| {
            if inner.called != Some(Caller::Sender) {
                return None;
            }
            inner.called = None;
            inner.enter_for_jobs()
        })
    }

    /// Enters for the event loop of those who sent what waits; `None` if some of it is not for them, and as above.
    pub fn enter_for_sender(&self) -> Option<L> {
        self.inner.with(|inner| if inner.own == 0 { inner.enter_for_jobs() } else { None })
    }

    /// Enters for the one who runs the vat, though he has not been called yet; `None` as above.
    pub fn enter_for_owner(&self) -> Option<L> {
        self.inner.with(Inner::enter_for_jobs)
    }

    /// The event loop to which the vat was left is not to come any more: true if whoever runs the vat is to be called.
    pub fn take_from_sender(&self) -> bool {
        self.inner.with(|inner| {
            if inner.called != Some(Caller::Sender) {
                return false;
            }
            inner.called = None;
            !inner.inbox.is_empty() && !inner.closing && inner.schedule(false) == Posted::Schedule
        })
    }

    /// The next job. Only for the one inside. None once somebody waits to close: those jobs are his.
    pub fn next_job(&self) -> Option<(J, Way)> {
        let (job, wake) = self.inner.with(|inner| {
            let job = if inner.closing { None } else { inner.inbox.pop_front() };
            if let Some((_, way)) = &job {
                inner.own -= usize::from(!way.is_for_sender());
            }
            (job, inner.crowd > 0)
        });
        if wake {
            self.inner.notify_all();
        }
        job
    }

    /// Gives back jobs that were taken, or came of such, to be done before all others. Only for the one inside.
    pub fn put_back(&self, jobs: VecDeque<J>) {
        self.inner.with(|inner| {
            inner.own += jobs.len();
            jobs.into_iter().rev().for_each(|job| inner.inbox.push_front((job, Way::Own)));
        });
    }

    /// Waits at most `patience` until fewer than `limit` jobs wait, or the vat is closed.
    pub fn wait_for_room(&self, limit: usize, patience: Duration) {
        let crowd = |inner: &mut Inner<J, L>, by: isize| {
            inner.waiting = inner.waiting.saturating_add_signed(by);
            inner.crowd = inner.crowd.saturating_add_signed(by);
        };
        self.inner.with(|inner| crowd(inner, 1));
        self.inner.wait(patience, |inner| (inner.inbox.len() < limit || inner.closing).then_some(()));
        self.inner.with(|inner| crowd(inner, -1));
    }

    /// Opens a closed vat again; gives the loop back if it is not closed.
    pub fn reopen(&self, idle: L) -> Result<(), L> {
        self.inner.with(|inner| match inner.phase {
            Phase::Closed => {
                inner.phase = Phase::Idle(idle);
                inner.closing = false;
                Ok(())
            }
            Phase::Idle(_) | Phase::Running => Err(idle),
        })
    }

    /// How many jobs wait.
    pub fn backlog(&self) -> usize {
        self.inner.with(|inner| inner.inbox.len())
    }

    /// Shows the jobs that wait. They are locked meanwhile, so `look` must call nobody.
    pub fn visit<E>(&self, mut look: impl FnMut(&J) -> Result<(), E>) -> Result<(), E> {
        self.inner.with(|inner| inner.inbox.iter().try_for_each(|(job, _)| look(job)))
    }

    /// Whether nobody is inside and no job waits.
    pub fn is_quiet(&self) -> bool {
        self.inner.with(|inner| !matches!(inner.phase, Phase::Running) && inner.inbox.is_empty())
    }

    /// Whether it is closed, or about to be.
    pub fn is_closed(&self) -> bool {
        self.inner.with(|inner| inner.closing)
    }

    /// Gives the loop back. Tells what to do about jobs that came meanwhile.
    pub fn leave(&self, idle: L) -> Posted {
        self.leave_to(idle, false)
    }

    /// As [`Mailbox::leave`]; what is for its senders may be left to the event loop of this thread.
    pub fn leave_to(&self, idle: L, sender: bool) -> Posted {
        let (posted, waiting, entering) = self.inner.with(|inner| {
            inner.phase = Phase::Idle(idle);
            let posted = if inner.inbox.is_empty() || inner.closing {
                Posted::Accepted
            } else {
                inner.schedule(sender)
            };
            (posted, inner.waiting, inner.entering)
        });
        match waiting {
            0 => {}
            // All want in, and only one can: he wakes the next one when he leaves.
            _ if waiting == entering => self.inner.notify_one(),
            _ => self.inner.notify_all(),
        }
        posted
    }

    /// Refuses new jobs and entries from now on. [`Mailbox::close`] must follow.
    pub fn begin_close(&self) {
        self.inner.with(|inner| inner.closing = true);
        self.inner.notify_all();
    }

    /// Waits at most `patience` until the one inside has left, then closes. The first closer gets the loop
    /// and the jobs that were not handled. `None`: somebody is inside still.
    pub fn close(&self, patience: Duration) -> Option<Closed<J, L>> {
        self.begin_close();
        self.inner.with(|inner| inner.waiting += 1);
        let closed = self.inner.wait(patience, |inner| match inner.phase {
            Phase::Running => None,
            Phase::Closed => Some(Closed { idle: None, jobs: VecDeque::new() }),
            Phase::Idle(_) => match std::mem::replace(&mut inner.phase, Phase::Closed) {
                Phase::Idle(idle) => {
                    inner.own = 0;
                    let jobs = std::mem::take(&mut inner.inbox).into_iter().map(|(job, _)| job).collect();
                    Some(Closed { idle: Some(idle), jobs })
                }
                Phase::Running | Phase::Closed => None,
            },
        });
        self.inner.with(|inner| inner.waiting -= 1);
        self.inner.notify_all();
        closed
    }
}

/// What is left of a closed vat.
#[derive(Debug)]
pub struct Closed<J, L> {
    /// The loop, for the first closer only.
    pub idle: Option<L>,
    /// Jobs that nobody handled.
    pub jobs: VecDeque<J>,
}

impl<J, L> Inner<J, L> {
    fn want_in(&mut self) {
        self.waiting += 1;
        self.entering += 1;
    }

    fn want_in_no_more(&mut self) {
        self.waiting -= 1;
        self.entering -= 1;
    }

    fn try_enter(&mut self) -> Option<Entry<L>> {
        if self.closing {
            return Some(Entry::Closed);
        }
        match std::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Idle(idle) => Some(Entry::Entered(idle)),
            Phase::Running => None,
            Phase::Closed => {
                self.phase = Phase::Closed;
                Some(Entry::Closed)
            }
        }
    }

    /// Enters if there are jobs and nobody is inside. Who waits to be inside has slept meanwhile: he would be late each
    /// time.
    fn enter_for_jobs(&mut self) -> Option<L> {
        if self.inbox.is_empty() || self.entering > 0 {
            return None;
        }
        match self.try_enter() {
            Some(Entry::Entered(idle)) => Some(idle),
            _ => None,
        }
    }

    /// Says who is to be called, if nobody has been. The sender may be if all is for him.
    fn schedule(&mut self, sender: bool) -> Posted {
        if matches!(self.phase, Phase::Running) {
            return Posted::Accepted;
        }
        match self.called {
            None if sender && self.own == 0 => {
                self.called = Some(Caller::Sender);
                Posted::Entrust
            }
            Some(Caller::Sender) if self.own == 0 => Posted::Accepted,
            None | Some(Caller::Sender) => {
                self.called = Some(Caller::Own);
                Posted::Schedule
            }
            Some(Caller::Own) => Posted::Accepted,
        }
    }
}

impl Way {
    pub(crate) fn is_for_sender(self) -> bool {
        matches!(self, Self::Sender(_))
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::{Entry, Mailbox, Posted};
    use std::time::Duration;

    #[test]
    fn a_worker_makes_way_for_one_who_waits() {
        let mailbox: Mailbox<u8, ()> = Mailbox::new(());
        let waiting = || mailbox.inner.with(|inner| inner.entering > 0);
        assert!(matches!(mailbox.try_enter(), Entry::Entered(())));
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| {
                let Entry::Entered(()) = mailbox.enter(Duration::from_secs(20)) else { panic!("not let in") };
                (mailbox.next_job().map(|(job, _)| job), mailbox.leave(()))
            });
            while !waiting() {
                std::thread::yield_now();
            }
            assert_eq!(mailbox.post(1), Ok(Posted::Accepted));
            assert_eq!(mailbox.leave(()), Posted::Schedule);
            // Whether the caller has woken yet or not.
            assert_eq!(mailbox.enter_scheduled(), None);
            assert_eq!(caller.join().unwrap(), (Some(1), Posted::Accepted));
        });
        assert!(!waiting());
    }

    #[test]
    fn one_who_gives_up_does_not_count_as_waiting() {
        let mailbox: Mailbox<u8, ()> = Mailbox::new(());
        assert!(matches!(mailbox.try_enter(), Entry::Entered(())));
        assert_eq!(mailbox.enter(Duration::ZERO), Entry::Busy);
        assert_eq!(mailbox.post(1), Ok(Posted::Accepted));
        assert_eq!(mailbox.leave(()), Posted::Schedule);
        assert_eq!(mailbox.enter_scheduled(), Some(()));
    }
}
