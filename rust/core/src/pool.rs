//! Worker threads run vats that have work and nobody inside.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::fork::is_forked;
use crate::host::Host;
use crate::ids::VatId;
use crate::storage::SLICE;
use crate::sync::Monitor;
use crate::vat::Vat;
use crate::watch::Watch;

/// What all vats of a process share: the queue of vats that have work, the workers, the numbers of vats.
pub struct Runtime<H: Host> {
    queue: Monitor<Queue<H>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    next_vat: AtomicU64,
    watch: Arc<Watch<H>>,
    max_workers: usize,
}

struct Queue<H: Host> {
    ready: VecDeque<Arc<Vat<H>>>,
    /// Workers that wait for a vat.
    idle: usize,
    workers: usize,
    stopped: bool,
}

impl<H: Host> Runtime<H> {
    /// A runtime with at most `max_workers` threads, each started when it is first needed.
    pub fn new(max_workers: usize) -> Arc<Self> {
        let queue = Queue { ready: VecDeque::new(), idle: 0, workers: 0, stopped: false };
        Arc::new(Self {
            queue: Monitor::new(queue),
            threads: Mutex::new(Vec::new()),
            next_vat: AtomicU64::new(0),
            watch: Watch::new(),
            max_workers: max_workers.max(1),
        })
    }

    pub(crate) fn next_vat_id(&self) -> VatId {
        VatId(self.next_vat.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn watch(&self) -> &Arc<Watch<H>> {
        &self.watch
    }

    /// Puts a vat that has work into the queue.
    pub(crate) fn schedule(self: &Arc<Self>, vat: Arc<Vat<H>>) {
        if is_forked() {
            return;
        }
        let (wake, start) = self.queue.with(|queue| {
            queue.ready.push_back(vat);
            // An idle worker counts for one vat: a turn may take long, and the others must not wait for it.
            let start = queue.ready.len() > queue.idle && self.may_start(queue);
            queue.workers += usize::from(start);
            (queue.idle > 0, start)
        });
        if wake {
            self.queue.notify_one();
        }
        if start {
            self.start_worker();
        }
    }

    fn may_start(&self, queue: &Queue<H>) -> bool {
        queue.workers < self.max_workers && !queue.stopped
    }

    fn start_worker(self: &Arc<Self>) {
        let worker = Worker(self.clone());
        let thread = std::thread::Builder::new().name("goblins-worker".to_owned());
        // Attached once for its life, detached while it waits.
        let spawned = thread.spawn(move || {
            H::attached(|cx| while worker.0.work_once(cx) {});
        });
        // Without a thread the vat stays in the queue; the next `schedule` tries again.
        if let Ok(handle) = spawned {
            self.threads.lock().push(handle);
        }
    }

    /// Runs one vat, waiting for it if need be. False when the runtime has stopped.
    fn work_once(&self, cx: H::Cx<'_>) -> bool {
        if is_forked() {
            return false;
        }
        let next = self.queue.with(|queue| (!queue.stopped).then(|| queue.ready.pop_front()));
        let vat = match next {
            None => return false,
            Some(Some(vat)) => Some(vat),
            Some(None) => H::detached(cx, || self.wait_for_vat()),
        };
        if let Some(vat) = vat {
            vat.work(cx);
        }
        true
    }

    fn wait_for_vat(&self) -> Option<Arc<Vat<H>>> {
        self.queue.with(|queue| queue.idle += 1);
        let found = self.queue.wait(SLICE * 20, |queue| {
            let vat = if queue.stopped { None } else { queue.ready.pop_front() };
            if vat.is_none() && !queue.stopped {
                return None;
            }
            // In the same moment: `schedule` must not count on a worker that has a vat.
            queue.idle -= 1;
            Some(vat)
        });
        found.unwrap_or_else(|| {
            self.queue.with(|queue| queue.idle -= 1);
            None
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
            if self.queue.wait(patience, |queue| (queue.workers == 0).then_some(())).is_none() {
                return;
            }
            for thread in threads {
                // A panic there has been reported by the thread itself.
                let _ = thread.join();
            }
        });
    }
}

/// A thread's place among the workers.
struct Worker<H: Host>(Arc<Runtime<H>>);

impl<H: Host> Drop for Worker<H> {
    fn drop(&mut self) {
        if is_forked() {
            return;
        }
        let runtime = &self.0;
        // After a panic of the host there may be work left that nobody else was called for.
        let restart = std::thread::panicking();
        let start = runtime.queue.with(|queue| {
            queue.workers -= 1;
            let start = restart && !queue.ready.is_empty() && runtime.may_start(queue);
            queue.workers += usize::from(start);
            start
        });
        // One may wait for the last of them.
        runtime.queue.notify_all();
        if start {
            runtime.start_worker();
        }
    }
}
