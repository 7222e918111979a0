//! Worker threads run vats that have work and nobody inside.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::fork::is_forked;
use crate::host::Host;
use crate::ids::VatId;
use crate::naming::Names;
use crate::pace::Kinds;
use crate::storage::SLICE;
use crate::sync::Monitor;
use crate::vat::Vat;
use crate::watch::Watch;

/// As many workers there are at most, however many of them are held up.
const MOST_WORKERS: usize = 128;

/// A worker that has been in one vat for so many ticks of the watch is held up: the vats that wait get another one.
const HELD_UP: u64 = 3;

/// What all vats of a process share: the queue of vats that have work, the workers, the numbers of vats.
pub struct Runtime<H: Host> {
    queue: Monitor<Queue<H>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    next_vat: AtomicU64,
    watch: Arc<Watch<H>>,
    names: Arc<Names>,
    kinds: Kinds,
    max_workers: usize,
    stack_size: Option<usize>,
    /// How many workers there may be before more of them are reported.
    unreported: AtomicUsize,
}

struct Queue<H: Host> {
    ready: VecDeque<Arc<Vat<H>>>,
    /// Workers that wait for a vat.
    idle: usize,
    workers: Vec<Arc<Place>>,
    /// How many of them were held up when the watch last looked.
    held_up: usize,
    stopped: bool,
}

/// A worker as the others see it: the tick in which it entered the vat that it is in, or 0.
#[derive(Default)]
struct Place(AtomicU64);

impl Place {
    fn is_held_up(&self, tick: u64) -> bool {
        let since = self.0.load(Ordering::Relaxed);
        since != 0 && tick.saturating_sub(since) >= HELD_UP
    }
}

impl<H: Host> Runtime<H> {
    /// A runtime with `max_workers` threads that get on, each started when it is first needed.
    pub fn new(max_workers: usize) -> Arc<Self> {
        Self::with_stack(max_workers, None)
    }

    /// As [`Runtime::new`], with so many bytes of stack for each thread.
    pub fn with_stack(max_workers: usize, stack_size: Option<usize>) -> Arc<Self> {
        let queue =
            Queue { ready: VecDeque::new(), idle: 0, workers: Vec::new(), held_up: 0, stopped: false };
        let max_workers = max_workers.clamp(1, MOST_WORKERS);
        Arc::new_cyclic(|runtime| Self {
            queue: Monitor::new(queue),
            threads: Mutex::new(Vec::new()),
            next_vat: AtomicU64::new(0),
            watch: Watch::new(runtime.clone()),
            names: Arc::default(),
            kinds: Kinds::new(),
            max_workers,
            stack_size,
            unreported: AtomicUsize::new(max_workers),
        })
    }

    pub(crate) fn next_vat_id(&self) -> VatId {
        VatId(self.next_vat.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn watch(&self) -> &Arc<Watch<H>> {
        &self.watch
    }

    pub(crate) fn names(&self) -> &Arc<Names> {
        &self.names
    }

    pub(crate) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Puts a vat that has work into the queue.
    pub(crate) fn schedule(self: &Arc<Self>, vat: Arc<Vat<H>>) {
        if is_forked() {
            return;
        }
        let (wake, start) = self.queue.with(|queue| {
            queue.ready.push_back(vat);
            // An idle worker counts for one vat: a turn may take long, and the others must not wait for it.
            let start = if queue.ready.len() > queue.idle { self.hire(queue) } else { None };
            (queue.idle > 0, start)
        });
        if wake {
            self.queue.notify_one();
        }
        if let Some(place) = start {
            self.start_worker(place);
        }
    }

    /// A place for one more worker, if there may be one.
    fn hire(&self, queue: &mut Queue<H>) -> Option<Arc<Place>> {
        let most = MOST_WORKERS.min(self.max_workers + queue.held_up);
        if queue.stopped || queue.workers.len() >= most {
            return None;
        }
        let place = Arc::<Place>::default();
        queue.workers.push(place.clone());
        Some(place)
    }

    fn start_worker(self: &Arc<Self>, place: Arc<Place>) {
        let worker = Worker { runtime: self.clone(), place };
        let mut thread = std::thread::Builder::new().name("goblins-worker".to_owned());
        if let Some(size) = self.stack_size {
            thread = thread.stack_size(size);
        }
        // Attached once for its life, detached while it waits.
        let spawned = thread.spawn(move || {
            H::attached(|cx| while worker.runtime.work_once(cx, &worker.place) {});
        });
        // Without a thread the vat stays in the queue; the next `schedule` tries again.
        if let Ok(handle) = spawned {
            let mut threads = self.threads.lock();
            threads.retain(|thread| !thread.is_finished());
            threads.push(handle);
        }
    }

    /// Gives vats that wait other workers in place of those that are held up. Called by the watch at each tick.
    /// False if no worker does anything.
    pub(crate) fn relieve(self: &Arc<Self>, tick: u64) -> bool {
        let (busy, held_up, workers, waiting, places) = self.queue.with(|queue| {
            let busy = queue.workers.iter().any(|place| place.0.load(Ordering::Relaxed) != 0);
            queue.held_up = queue.workers.iter().filter(|place| place.is_held_up(tick)).count();
            let mut places = Vec::new();
            while queue.idle + places.len() < queue.ready.len()
                && let Some(place) = self.hire(queue)
            {
                places.push(place);
            }
            (busy, queue.held_up, queue.workers.len(), queue.ready.len(), places)
        });
        let started = places.len();
        places.into_iter().for_each(|place| self.start_worker(place));
        let exhausted = waiting > 0 && started == 0 && held_up >= MOST_WORKERS;
        let (before, most) = (self.unreported.load(Ordering::Relaxed), MOST_WORKERS);
        // Each time that they have doubled, and once when there may be no more.
        if (started > 0 && workers > before) || (exhausted && before < usize::MAX) {
            self.unreported.store(if exhausted { usize::MAX } else { workers * 2 }, Ordering::Relaxed);
            let what = if exhausted {
                format!(
                    "all {most} worker threads are in turns that take long: messages to other vats wait until one of \
                     these ends; let behaviors that block use goblins.to_thread(...)"
                )
            } else {
                format!(
                    "{held_up} worker thread(s) are in turns that take long, so {workers} of them run, of at most \
                     {most}, that other vats need not wait; let behaviors that block use goblins.to_thread(...)"
                )
            };
            H::attached(|cx| H::warn(cx, &what));
        }
        busy || waiting > 0
    }

    /// Runs one vat, waiting for it if need be. False when this worker is needed no more.
    fn work_once(&self, cx: H::Cx<'_>, place: &Arc<Place>) -> bool {
        if is_forked() {
            return false;
        }
        let next = self.queue.with(|queue| (!queue.stopped).then(|| queue.ready.pop_front()));
        let next = match next {
            None => return false,
            Some(Some(vat)) => Next::Run(vat),
            Some(None) => H::detached(cx, || self.wait_for_vat(place)),
        };
        match next {
            Next::Run(vat) => {
                place.0.store(self.watch.tick(), Ordering::Relaxed);
                // Workers are not interrupted.
                let _ = vat.work(cx);
                // The last reference to it may be this one, and its end may take as long.
                drop(vat);
                place.0.store(0, Ordering::Relaxed);
                true
            }
            Next::Look => true,
            Next::Leave => false,
        }
    }

    fn wait_for_vat(&self, place: &Arc<Place>) -> Next<H> {
        self.queue.with(|queue| queue.idle += 1);
        let found = self.queue.wait(SLICE * 20, |queue| {
            let vat = if queue.stopped { None } else { queue.ready.pop_front() };
            if vat.is_none() && !queue.stopped {
                return None;
            }
            // In the same moment: `schedule` must not count on a worker that has a vat.
            queue.idle -= 1;
            Some(vat.map_or(Next::Leave, Next::Run))
        });
        found.unwrap_or_else(|| {
            self.queue.with(|queue| {
                queue.idle -= 1;
                // It stood in for one that was held up. In the same moment: nobody must count on it.
                let surplus = queue.ready.is_empty() && queue.workers.len() > self.max_workers;
                if surplus {
                    queue.workers.retain(|other| !Arc::ptr_eq(other, place));
                }
                if surplus { Next::Leave } else { Next::Look }
            })
        })
    }

    /// Stops the workers and waits for the turns they are in, but no longer than `patience`: a turn may
    /// never end. What is queued stays queued.
    pub fn stop(&self, cx: H::Cx<'_>, patience: Duration) {
        self.queue.with(|queue| queue.stopped = true);
        self.queue.notify_all();
        self.watch.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        H::detached(cx, || {
            if self.queue.wait(patience, |queue| queue.workers.is_empty().then_some(())).is_none() {
                return;
            }
            for thread in threads {
                // A panic there has been reported by the thread itself.
                let _ = thread.join();
            }
        });
    }
}

/// What a worker does next.
enum Next<H: Host> {
    Run(Arc<Vat<H>>),
    Look,
    Leave,
}

/// A thread among the workers.
struct Worker<H: Host> {
    runtime: Arc<Runtime<H>>,
    place: Arc<Place>,
}

impl<H: Host> Drop for Worker<H> {
    fn drop(&mut self) {
        if is_forked() {
            return;
        }
        let runtime = &self.runtime;
        // After a panic of the host there may be work left that nobody else was called for.
        let restart = std::thread::panicking();
        let start = runtime.queue.with(|queue| {
            queue.workers.retain(|other| !Arc::ptr_eq(other, &self.place));
            if restart && !queue.ready.is_empty() { runtime.hire(queue) } else { None }
        });
        // One may wait for the last of them.
        runtime.queue.notify_all();
        if let Some(place) = start {
            runtime.start_worker(place);
        }
    }
}
