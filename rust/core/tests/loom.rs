//! All interleavings of threads at a vat's door, and at the wait for the disk. Loom has no clock: whoever is
//! never woken is a deadlock, which it reports.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p goblins-core --release --test loom`
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goblins_core::durability::{Durability, Ticket};
use goblins_core::mailbox::{Closed, Entry, Mailbox, Posted};
use goblins_core::store::{Batch, Store, StoreError, Visit};
use goblins_core::sync::Monitor;
use goblins_core::waits::{LoopId, Waits};
use loom::sync::atomic::AtomicU64;
use loom::thread::{self, JoinHandle};

/// Any that is not zero: loom waits for as long as it takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Explores what `run` can do, with at most so many switches of threads that need not be.
fn explore(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

fn go<T: 'static>(run: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    thread::spawn(run)
}

/// What stands for the loop of a vat.
struct Loop;

/// A vat with numbers for jobs. Who is told to put it into the pool's queue does what a worker does.
struct Vat {
    mailbox: Mailbox<u32, Loop>,
    /// How many jobs a worker does at a time.
    most: usize,
    // Not known to loom: only one thread runs at a time.
    inside: AtomicBool,
    done: Mutex<Vec<u32>>,
}

impl Vat {
    fn new(most: usize) -> Arc<Self> {
        let (inside, done) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Self { mailbox: Mailbox::new(Loop), most, inside, done })
    }

    /// Posts a job; false if the vat is closed.
    fn post(&self, job: u32) -> bool {
        match self.mailbox.post(job) {
            Ok(posted) => {
                self.schedule(posted);
                true
            }
            Err(back) => {
                assert_eq!(back, job);
                false
            }
        }
    }

    fn schedule(&self, mut posted: Posted) {
        while posted == Posted::Schedule {
            let Some(idle) = self.mailbox.enter_scheduled() else { return };
            posted = self.run(idle, self.most, None);
        }
    }

    /// Does jobs, then one of the own, and leaves.
    fn run(&self, idle: Loop, most: usize, own: Option<u32>) -> Posted {
        assert!(!self.inside.swap(true, SeqCst), "two are inside");
        for _ in 0..most {
            match self.mailbox.next_job() {
                Some((job, _)) => self.done.lock().unwrap().push(job),
                None => break,
            }
        }
        self.done.lock().unwrap().extend(own);
        assert!(self.inside.swap(false, SeqCst), "two are inside");
        self.mailbox.leave(idle)
    }

    /// What a caller does; false if the vat is closed.
    fn call(&self, job: u32) -> bool {
        self.call_once(job, PATIENCE).unwrap_or_else(|| panic!("it has not waited"))
    }

    fn call_once(&self, job: u32, patience: Duration) -> Option<bool> {
        match self.mailbox.enter(patience) {
            Entry::Entered(idle) => {
                let posted = self.run(idle, self.mailbox.backlog(), Some(job));
                self.schedule(posted);
                Some(true)
            }
            Entry::Closed => Some(false),
            Entry::Busy => None,
        }
    }

    fn close(&self) -> Closed<u32, Loop> {
        let closed = self.mailbox.close(PATIENCE).unwrap();
        assert!(!self.inside.load(SeqCst), "the one inside was not waited for");
        closed
    }

    fn done(&self) -> Vec<u32> {
        self.done.lock().unwrap().clone()
    }

    /// All were done, each once, and nothing is left.
    fn is_done(&self, jobs: impl IntoIterator<Item = u32>) {
        let mut done = self.done();
        done.sort_unstable();
        assert_eq!(done, jobs.into_iter().collect::<Vec<_>>());
        assert!(self.mailbox.is_quiet());
    }
}

#[test]
fn a_job_that_was_posted_is_done_by_somebody() {
    for most in [1, 2] {
        explore(8, move || {
            let vat = Vat::new(most);
            let other = vat.clone();
            let poster = go(move || assert!(other.post(1) && other.post(2)));
            assert!(vat.post(3));
            poster.join().unwrap();
            let done = vat.done();
            assert!(done.iter().position(|job| *job == 1) < done.iter().position(|job| *job == 2));
            vat.is_done(1..=3);
        });
    }
}

#[test]
fn three_posters_lose_nothing() {
    explore(5, || {
        let vat = Vat::new(1);
        let posters = [1, 2].map(|job| {
            let vat = vat.clone();
            go(move || assert!(vat.post(job)))
        });
        assert!(vat.post(3));
        posters.into_iter().for_each(|poster| poster.join().unwrap());
        vat.is_done(1..=3);
    });
}

#[test]
fn callers_get_in_one_after_the_other() {
    explore(5, || {
        let vat = Vat::new(1);
        let callers = [1, 2].map(|job| {
            let vat = vat.clone();
            go(move || assert!(vat.call(job)))
        });
        assert!(vat.call(3));
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        vat.is_done(1..=3);
    });
}

#[test]
fn a_caller_gets_in_while_others_post() {
    explore(5, || {
        let vat = Vat::new(1);
        let posters = [1, 3].map(|job| {
            let vat = vat.clone();
            go(move || assert!(vat.post(job) && vat.post(job + 1)))
        });
        assert!(vat.call(5));
        posters.into_iter().for_each(|poster| poster.join().unwrap());
        vat.is_done(1..=5);
    });
}

#[test]
fn one_who_gives_up_waiting_leaves_no_job_behind() {
    explore(5, || {
        let vat = Vat::new(1);
        let (poster, caller) = (vat.clone(), vat.clone());
        let poster = go(move || assert!(poster.post(1)));
        let caller = go(move || caller.call_once(2, Duration::ZERO) == Some(true));
        let helped = match vat.mailbox.try_enter() {
            Entry::Entered(idle) => {
                let posted = vat.run(idle, vat.mailbox.backlog(), Some(3));
                vat.schedule(posted);
                true
            }
            Entry::Busy => false,
            Entry::Closed => panic!("nobody has closed it"),
        };
        poster.join().unwrap();
        let called = caller.join().unwrap();
        vat.is_done([(1, true), (2, called), (3, helped)].into_iter().filter(|job| job.1).map(|job| job.0));
    });
}

#[test]
fn a_job_is_done_or_refused_or_handed_to_the_one_who_closes() {
    explore(5, || {
        let vat = Vat::new(1);
        let other = vat.clone();
        let poster = go(move || [1, 2].map(|job| (job, other.post(job))));
        let closed = vat.close();
        assert!(closed.idle.is_some());
        let done_by_then = vat.done();
        let mut jobs: Vec<u32> = closed.jobs.into();
        for (job, accepted) in poster.join().unwrap() {
            if !accepted {
                jobs.push(job);
            }
        }
        assert_eq!(vat.done(), done_by_then, "nothing is done after the close");
        jobs.extend(done_by_then);
        jobs.sort_unstable();
        assert_eq!(jobs, [1, 2]);
    });
}

#[test]
fn closing_waits_for_the_one_inside_and_ends_the_wait_of_the_others() {
    explore(5, || {
        let vat = Vat::new(1);
        let callers = [1, 2].map(|job| {
            let vat = vat.clone();
            go(move || vat.call(job))
        });
        assert!(vat.close().idle.is_some());
        let done_by_then = vat.done();
        let called = callers.map(|caller| caller.join().unwrap());
        assert_eq!(vat.done(), done_by_then);
        assert_eq!(called.map(usize::from).iter().sum::<usize>(), done_by_then.len());
        assert!(!vat.call(3) && !vat.post(4) && vat.mailbox.is_closed());
    });
}

#[test]
fn those_who_want_in_hear_of_the_close_while_one_is_inside() {
    explore(5, || {
        let vat = Vat::new(1);
        let Entry::Entered(idle) = vat.mailbox.try_enter() else { panic!("it is idle") };
        let (caller, closer) = (vat.clone(), vat.clone());
        let caller = go(move || caller.call(1));
        let closer = go(move || closer.close().idle.is_some());
        assert!(!caller.join().unwrap());
        assert!(!vat.post(2));
        assert_eq!(vat.mailbox.leave(idle), Posted::Accepted);
        assert!(closer.join().unwrap());
    });
}

#[test]
fn of_two_who_close_one_gets_what_is_left() {
    explore(5, || {
        let vat = Vat::new(1);
        let (poster, closer) = (vat.clone(), vat.clone());
        let poster = go(move || poster.post(1));
        let closer = go(move || {
            let closed = closer.close();
            (closed.idle.is_some(), closed.jobs.len())
        });
        let closed = vat.close();
        let mine = (closed.idle.is_some(), closed.jobs.len());
        let other = closer.join().unwrap();
        let accepted = poster.join().unwrap();
        assert!(mine.0 != other.0 && (mine.0 || mine.1 == 0) && (other.0 || other.1 == 0));
        assert_eq!(vat.done().len() + mine.1 + other.1, usize::from(accepted));
    });
}

/// A log whose end is on disk up to the last sync; the sync with this number fails, and all after it.
struct Disk {
    appended: AtomicU64,
    synced: AtomicU64,
    syncs: Mutex<u64>,
    fails: u64,
}

impl Store for Disk {
    fn name(&self) -> String {
        "disk".to_owned()
    }

    fn sync(&self) -> Result<(), StoreError> {
        let appended = self.appended.load(SeqCst);
        *self.syncs.lock().unwrap() += 1;
        if *self.syncs.lock().unwrap() >= self.fails {
            return Err(StoreError::Failed { store: self.name(), doing: "syncing", reason: String::new() });
        }
        self.synced.fetch_max(appended, SeqCst);
        Ok(())
    }

    fn syncs(&self) -> bool {
        true
    }

    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        unreachable!()
    }

    fn scan(&self, _: &[u8], _: &[u8], _: &mut Visit<'_>) -> Result<(), StoreError> {
        unreachable!()
    }

    fn write(&self, _: &Batch) -> Result<(), StoreError> {
        unreachable!()
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        unreachable!()
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Output is the number of the batch that it depends on.
struct Side {
    disk: Arc<Disk>,
    durability: Durability<u64>,
    out: Monitor<Vec<u64>>,
    lost: Mutex<Vec<u64>>,
}

impl Side {
    fn new(fails: u64) -> Arc<Self> {
        let (appended, synced) = (AtomicU64::new(0), AtomicU64::new(0));
        let disk = Arc::new(Disk { appended, synced, syncs: Mutex::new(0), fails });
        let durability = Durability::new(disk.clone());
        Arc::new(Self { disk, durability, out: Monitor::new(Vec::new()), lost: Mutex::default() })
    }

    /// Appends a batch.
    fn append(&self) -> (u64, Ticket) {
        (self.disk.appended.fetch_add(1, SeqCst) + 1, self.durability.wrote())
    }

    fn let_out(&self, output: u64) {
        assert!(self.disk.synced.load(SeqCst) >= output, "{output} got out before it was durable");
        self.out.with(|out| out.push(output));
        self.out.notify_all();
    }

    fn flush(&self) {
        self.durability.emit(|output| self.let_out(output));
        let lost = self.durability.take_lost();
        self.lost.lock().unwrap().extend(lost);
    }

    /// What a vat does at the end of a churn with output.
    fn release(&self, output: u64) {
        match self.durability.hold(output) {
            Some(output) => self.let_out(output),
            None if self.durability.failure().is_some() => self.flush(),
            None => {}
        }
    }

    /// What a caller does at the end; whether all is durable.
    fn wait(&self, ticket: Ticket) -> bool {
        let durable = self.durability.wait_for(ticket).is_ok();
        self.flush();
        durable
    }

    /// What the committer's thread does.
    fn commit(&self) {
        while let Some(committed) = self.durability.commit_held(PATIENCE) {
            match committed {
                Ok(true) => self.durability.emit(|output| self.let_out(output)),
                Ok(false) => {}
                Err(_) => return self.flush(),
            }
        }
    }

    fn out(&self) -> Vec<u64> {
        self.out.with(|out| out.clone())
    }
}

#[test]
fn whoever_waits_comes_back_when_a_sync_has_covered_his_batch() {
    explore(3, || {
        let side = Side::new(u64::MAX);
        let commit = |side: &Side| {
            let (batch, ticket) = side.append();
            assert!(side.wait(ticket));
            assert!(side.disk.synced.load(SeqCst) >= batch);
        };
        let others = [(); 2].map(|()| {
            let side = side.clone();
            go(move || commit(&side))
        });
        commit(&side);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(*side.disk.syncs.lock().unwrap() <= 3);
    });
}

#[test]
fn a_failed_sync_reaches_all_who_wait() {
    explore(4, || {
        let side = Side::new(1);
        let others = [(); 2].map(|()| {
            let side = side.clone();
            go(move || side.wait(side.append().1))
        });
        assert!(!side.wait(side.append().1));
        others.into_iter().for_each(|other| assert!(!other.join().unwrap()));
        assert_eq!(*side.disk.syncs.lock().unwrap(), 1, "nobody tries again");
    });
}

#[test]
fn held_output_goes_out_in_order_once_it_is_durable() {
    for close_at_once in [false, true] {
        explore(3, move || {
            let side = Side::new(u64::MAX);
            let committer = side.clone();
            let committer = go(move || committer.commit());
            let caller = side.clone();
            let caller = go(move || assert!(caller.wait(caller.durability.last())));
            for _ in 0..2 {
                let (batch, _) = side.append();
                side.release(batch);
            }
            if !close_at_once {
                // Nobody need do anything more for it.
                side.out.wait(PATIENCE, |out| (out.len() == 2).then_some(())).unwrap();
            }
            side.durability.close();
            committer.join().unwrap();
            caller.join().unwrap();
            assert_eq!(side.out(), [1, 2]);
        });
    }
}

#[test]
fn output_is_let_out_or_taken_back_when_a_sync_fails() {
    for fails in [1, 2] {
        explore(5, move || {
            let side = Side::new(fails);
            let committer = side.clone();
            let committer = go(move || committer.commit());
            let (first, ticket) = side.append();
            side.release(first);
            let durable = side.wait(ticket);
            let (second, _) = side.append();
            side.release(second);
            side.durability.close();
            committer.join().unwrap();
            side.flush();
            let (out, lost) = (side.out(), side.lost.lock().unwrap().clone());
            assert!(!durable || out.first() == Some(&1));
            let all: HashSet<u64> = out.iter().chain(&lost).copied().collect();
            assert_eq!((all.len(), out.len() + lost.len()), (2, 2), "{out:?} {lost:?}");
        });
    }
}

#[test]
fn of_two_threads_that_would_wait_for_each_other_one_is_refused() {
    explore(3, || {
        let waits = Arc::new(Waits::new());
        let waiting = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let threads = [(0, 1), (1, 0)].map(|(here, home)| {
            let (waits, waiting) = (waits.clone(), waiting.clone());
            go(move || {
                let Ok(wait) = waits.begin(LoopId(here), "thread", LoopId(home), "vat") else { return false };
                waiting[here as usize].store(true, SeqCst);
                // Here it sleeps, and the other must not.
                thread::yield_now();
                assert!(!waiting[home as usize].load(SeqCst), "both wait");
                waiting[here as usize].store(false, SeqCst);
                drop(wait);
                true
            })
        });
        let waited = threads.map(|thread| thread.join().unwrap());
        assert!(waited.contains(&true), "the first to come may wait");
        assert!(waits.begin(LoopId(0), "thread", LoopId(1), "vat").is_ok(), "nothing is left");
    });
}
