//! Which messages an event loop may handle between two of its own rounds: those of a kind that is known to be handled
//! quickly. All others, and those that nobody knows yet, are for the workers.
//!
//! A kind is a piece of the host's code: a method of a class, a function. It is measured on a worker first, where it must
//! be quick a few times, and wait for nothing: what it waits for may be the loop. One that turns out to take long goes back
//! to the workers until it has been quick there for a number of times, which grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::churn::Work;
use crate::fork::is_forked;
use crate::host::Host;
use crate::job::{Job, Task};
use crate::mailbox::Way;
use crate::scheduling::Scheduling;
use crate::session::Session;
use crate::vat::Vat;

/// What takes longer is for the workers.
pub(crate) const LONG: Duration = Duration::from_millis(1);

/// As many jobs an event loop does, and for so long, before it goes on with its own.
const MOST_JOBS: u32 = 128;
const MOST_TIME: Duration = Duration::from_millis(2);

/// As many kinds are known at a time. A newer one takes the place of an older one, which is measured again.
const KINDS: usize = 512;

/// How often a kind must be quick on the workers first, and again after it has waited there.
const FIRST: u64 = 3;
const AFTER_A_WAIT: u64 = 16;

/// The same after it took long, for the first time, the second, and so on.
const PENANCE: [u64; 4] = [4, 16, 64, 255];

/// After so many times a kind that took long is forgiven once.
const FORGIVEN: u64 = 4096;

/// A kind of messages, by a number that differs from that of other kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u64);

/// What is known of kinds.
pub(crate) struct Kinds(Box<[AtomicU64]>);

/// What is known of one.
#[derive(Clone, Copy)]
struct Known {
    /// Part of its number.
    tag: u64,
    /// How often it was quick since it took long.
    quick: u64,
    /// How often it still must be so on the workers.
    owes: u64,
    /// How often it took long.
    long: u64,
    /// It may have taken long on a loop, or the system has let others go first: it is looked at more closely.
    suspect: bool,
}

/// How one was handled.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Quick,
    Waiting,
    Suspect,
    Long,
}

impl Known {
    fn of(entry: u64) -> Self {
        Self {
            tag: entry >> 32,
            quick: (entry >> 16) & 0xffff,
            owes: (entry >> 8) & 0xff,
            long: entry & 0x7f,
            suspect: entry & 0x80 != 0,
        }
    }

    fn entry(self) -> u64 {
        self.tag << 32 | self.quick << 16 | self.owes << 8 | u64::from(self.suspect) << 7 | self.long
    }

    fn then(mut self, seen: Seen) -> Self {
        self.suspect = matches!(seen, Seen::Suspect);
        match seen {
            Seen::Long => {
                self.owes = PENANCE.get(self.long as usize).copied().unwrap_or(255);
                self.long = (self.long + 1).min(PENANCE.len() as u64 - 1);
                self.quick = 0;
            }
            Seen::Waiting => {
                self.owes = self.owes.max(AFTER_A_WAIT);
                self.quick = 0;
            }
            Seen::Suspect => {}
            Seen::Quick => {
                self.owes = self.owes.saturating_sub(1);
                self.quick += 1;
                if self.quick == FORGIVEN {
                    self.quick = 0;
                    self.long = self.long.saturating_sub(1);
                }
            }
        }
        self
    }
}

impl Kind {
    fn spread(self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Not 0, which stands in places that are free.
    fn tag(self) -> u64 {
        self.spread() >> 32 | 1
    }

    fn index(self) -> usize {
        (self.spread() >> 16) as usize % KINDS
    }
}

impl Kinds {
    pub(crate) fn new() -> Self {
        Self((0..KINDS).map(|_| AtomicU64::new(0)).collect())
    }

    fn known(&self, kind: Kind) -> Option<Known> {
        let known = Known::of(self.0[kind.index()].load(Ordering::Relaxed));
        (known.tag == kind.tag()).then_some(known)
    }

    fn are_quick(&self, kind: Kind) -> bool {
        self.known(kind).is_some_and(|known| known.owes == 0)
    }

    /// If two threads note something at once, one of them is not heard.
    fn note(&self, kind: Kind, seen: Seen) {
        let new = Known { tag: kind.tag(), quick: 0, owes: FIRST, long: 0, suspect: false };
        let known = self.known(kind).unwrap_or(new);
        self.0[kind.index()].store(known.then(seen).entry(), Ordering::Relaxed);
    }
}

/// What a thread has used so far, as the system counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How often it has waited for something.
    pub waits: u64,
    /// How long it has had a processor.
    pub processor: Duration,
}

/// A job that is being measured.
pub(crate) struct Measure {
    kind: Kind,
    began: Instant,
    on_worker: bool,
    /// If it is looked at closely: what the thread had used before, if that can be told.
    before: Option<Option<Usage>>,
}

impl Measure {
    /// `None` if this job is not measured. `began`: now, if that is known.
    pub(crate) fn begin<H: Host>(way: Way, kinds: &Kinds, began: Option<Instant>) -> Option<Self> {
        let (kind, on_worker) = match way {
            Way::Own => return None,
            Way::Measured(kind) => (kind, true),
            Way::Sender(kind) => (kind, false),
        };
        let closely = on_worker || kinds.known(kind).is_none_or(|known| known.suspect);
        let before = closely.then(H::usage);
        Some(Self { kind, began: began.unwrap_or_else(Instant::now), on_worker, before })
    }

    /// Gives how long it took.
    pub(crate) fn end<H: Host>(self, kinds: &Kinds) -> Duration {
        let took = self.began.elapsed();
        let long = took > LONG;
        let seen = match self.before {
            None if long => Seen::Suspect,
            None => Seen::Quick,
            Some(before) => match before.zip(H::usage()) {
                Some((before, after)) => {
                    let waited = after.waits != before.waits;
                    match () {
                        () if after.processor.saturating_sub(before.processor) > LONG => Seen::Long,
                        () if waited && self.on_worker => Seen::Waiting,
                        () if waited && long => Seen::Long,
                        () => Seen::Quick,
                    }
                }
                None if long => Seen::Long,
                // It may have.
                None if self.on_worker => Seen::Waiting,
                None => Seen::Quick,
            },
        };
        kinds.note(self.kind, seen);
        took
    }
}

/// How much an event loop has done for vats since its last round.
#[derive(Debug, Default)]
pub struct Budget {
    jobs: AtomicU32,
    nanos: AtomicU64,
}

impl Budget {
    /// A round of the loop begins.
    pub fn renew(&self) {
        self.jobs.store(0, Ordering::Relaxed);
        self.nanos.store(0, Ordering::Relaxed);
    }

    /// Whether the loop has to go on with its own.
    pub fn is_spent(&self) -> bool {
        self.jobs.load(Ordering::Relaxed) >= MOST_JOBS
            || self.nanos.load(Ordering::Relaxed) >= MOST_TIME.as_nanos() as u64
    }

    /// Only one thread does so.
    pub(crate) fn spend(&self, time: Duration) {
        self.jobs.store(self.jobs.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.spend_more(time);
    }

    /// Time that belongs to no single job.
    pub(crate) fn spend_more(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.store(self.nanos.load(Ordering::Relaxed).saturating_add(nanos), Ordering::Relaxed);
    }
}

impl<H: Host> Vat<H> {
    /// Only workers run its messages, and who calls into it.
    pub fn set_only_workers(&self) {
        self.only_workers.store(true, Ordering::Relaxed);
    }

    /// Whether only workers run its messages.
    pub fn has_only_workers(&self) -> bool {
        self.only_workers.load(Ordering::Relaxed)
    }

    /// Who is to do a job that comes from this thread.
    pub(crate) fn way_of(&self, cx: H::Cx<'_>, job: &Job<H>) -> Way {
        if !H::runs_a_loop(cx) || !matches!(self.scheduling(), Scheduling::Pool) || self.has_only_workers() {
            return Way::Own;
        }
        let Task::Deliver { actor, message, .. } = &job.task else { return Way::Own };
        match H::kind(cx, actor, message) {
            None => Way::Own,
            Some(kind) if self.runtime().kinds().are_quick(kind) && !self.is_stalled() => Way::Sender(kind),
            Some(kind) => Way::Measured(kind),
        }
    }

    /// Whether answers wait for the disk, as far as the last churn tells: then nothing is won by running a message now, and
    /// those of a whole round of the loop are written in one batch.
    fn answers_wait(&self) -> bool {
        let Some(persistence) = self.persistence() else { return false };
        persistence.wrote.load(Ordering::Relaxed) && persistence.claim.storage().durability().syncs()
    }

    /// Whether writes to its store take long.
    fn is_stalled(&self) -> bool {
        let Some(persistence) = self.persistence() else { return false };
        persistence.claim.storage().is_stalled()
    }

    /// Leaves the messages that wait to the event loop of this thread. Should that not come to them, the watch gives them
    /// to the workers.
    pub(crate) fn entrust(self: &Arc<Self>) {
        let watch = self.runtime().watch();
        self.pace().entrusted(watch.tick());
        watch.wake();
        H::run_soon(self);
    }

    /// Gives messages that were left to an event loop to the workers.
    pub fn hand_over(self: &Arc<Self>) {
        self.pace().entrusted(0);
        if !is_forked() && self.mailbox().take_from_sender() {
            self.schedule();
        }
    }

    /// Runs messages that were left to the event loop of this thread. Called by the loop.
    ///
    /// The error is an interrupt that came up meanwhile.
    pub fn work_for_loop(self: &Arc<Self>, cx: H::Cx<'_>, budget: &Budget) -> Result<(), H::Error> {
        if is_forked() {
            return Ok(());
        }
        let work = match self.scheduling() {
            Scheduling::Loop(_) => self.mailbox().enter_scheduled(),
            Scheduling::Pool | Scheduling::Manual => {
                self.pace().entrusted(0);
                self.mailbox().enter_entrusted()
            }
        };
        work.map_or(Ok(()), |work| self.work_within(cx, work, budget))
    }

    /// Runs messages that wait, for one who waits for the answer of one of them in the event loop of this thread. Does
    /// nothing if it may not, or the loop has to go on with its own.
    ///
    /// The error is an interrupt that came up meanwhile.
    pub fn assist(self: &Arc<Self>, cx: H::Cx<'_>, budget: &Budget) -> Result<(), H::Error> {
        if is_forked() || budget.is_spent() || self.answers_wait() {
            return Ok(());
        }
        let work = match self.scheduling() {
            Scheduling::Loop(_) => self.mailbox().enter_for_owner(),
            Scheduling::Pool => self.mailbox().enter_for_sender(),
            Scheduling::Manual => None,
        };
        work.map_or(Ok(()), |work| self.work_within(cx, work, budget))
    }

    fn work_within(
        self: &Arc<Self>,
        cx: H::Cx<'_>,
        work: Box<Work<H>>,
        budget: &Budget,
    ) -> Result<(), H::Error> {
        let session = Session::begin(self.clone(), work).on_loop();
        let interrupt = session.do_jobs_within(cx, budget);
        session.leave();
        interrupt
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_once_it_was_quick_some_times() {
        let kinds = Kinds::new();
        let (one, other) = (Kind(0x5555_1000), Kind(0x5555_2000));
        for _ in 0..FIRST {
            assert!(!kinds.are_quick(one));
            kinds.note(one, Seen::Quick);
        }
        assert!(kinds.are_quick(one) && !kinds.are_quick(other));
    }

    #[test]
    fn one_that_takes_long_must_be_quick_more_and_more_often() {
        let kinds = Kinds::new();
        let kind = Kind(77);
        kinds.note(kind, Seen::Long);
        for owes in [4, 16, 64, 255, 255] {
            for _ in 0..owes {
                assert!(!kinds.are_quick(kind));
                kinds.note(kind, Seen::Quick);
            }
            assert!(kinds.are_quick(kind));
            kinds.note(kind, Seen::Long);
        }
    }

    #[test]
    fn it_is_forgiven_after_a_while() {
        let kinds = Kinds::new();
        let kind = Kind(u64::MAX);
        kinds.note(kind, Seen::Long);
        (0..2 * FORGIVEN).for_each(|_| kinds.note(kind, Seen::Quick));
        kinds.note(kind, Seen::Long);
        (0..4).for_each(|_| kinds.note(kind, Seen::Quick));
        assert!(kinds.are_quick(kind));
    }

    #[test]
    fn one_that_may_have_taken_long_is_suspect_until_it_is_quick_again() {
        let kinds = Kinds::new();
        let kind = Kind(3);
        (0..FIRST).for_each(|_| kinds.note(kind, Seen::Quick));
        let is_suspect = || kinds.known(kind).is_some_and(|known| known.suspect);
        kinds.note(kind, Seen::Suspect);
        assert!(kinds.are_quick(kind) && is_suspect());
        kinds.note(kind, Seen::Quick);
        assert!(kinds.are_quick(kind) && !is_suspect());
    }

    #[test]
    fn one_that_waits_each_time_is_never_quick() {
        let kinds = Kinds::new();
        for _ in 0..100 {
            kinds.note(Kind(1), Seen::Waiting);
            kinds.note(Kind(1), Seen::Quick);
            assert!(!kinds.are_quick(Kind(1)));
        }
    }
}
