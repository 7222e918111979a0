//! The watch: one thread that looks for turns that take too long. It sleeps while no vat runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use crate::host::Host;
use crate::ids::VatId;
use crate::pool::Runtime;
use crate::sync::Monitor;
use crate::vat::Vat;
use crate::weaks::Weaks;

/// How often the watch looks. Turns cost no look at a clock: they note the number of the last tick.
const TICK: Duration = Duration::from_millis(100);

/// An event loop that has not come to messages for so many ticks is stopped, or busy: they are given to the workers.
const LATE: u64 = 2;

/// A turn may take this long before it is reported, where nothing else was said.
const SLOW_TURN: Duration = Duration::from_secs(1);

/// What the watch of a process knows.
pub(crate) struct Watch<H: Host> {
    ticks: AtomicU64,
    /// It looks, or will without being told.
    awake: AtomicBool,
    state: Monitor<State>,
    vats: Mutex<Weaks<Vat<H>>>,
    runtime: Weak<Runtime<H>>,
}

#[derive(Default)]
struct State {
    started: bool,
    stopped: bool,
    called: bool,
}

/// What a vat tells the watch.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The tick in which the open turn began; 0 if none is open.
    began: AtomicU64,
    turn: AtomicU64,
    /// The thread that is inside; 0 if none is.
    thread: AtomicU64,
    /// The tick in which its messages were left to an event loop; 0 if they are not.
    entrusted: AtomicU64,
    /// In milliseconds; 0 for any time.
    limit: AtomicU64,
}

impl Pace {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            began: zero(),
            turn: zero(),
            thread: zero(),
            entrusted: zero(),
            limit: AtomicU64::new(millis(SLOW_TURN)),
        }
    }

    pub(crate) fn entered(&self, thread: u64) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    pub(crate) fn left(&self) {
        self.thread.store(0, Ordering::Relaxed);
    }

    pub(crate) fn entrusted(&self, tick: u64) {
        self.entrusted.store(tick, Ordering::Relaxed);
    }

    /// Whether an event loop has not come to the messages that were left to it; `None` if there are none.
    fn is_late(&self, tick: u64) -> Option<bool> {
        let since = self.entrusted.load(Ordering::Relaxed);
        (since != 0).then(|| tick.saturating_sub(since) >= LATE)
    }

    pub(crate) fn begin(&self, turn: u64, tick: u64) {
        self.turn.store(turn, Ordering::Relaxed);
        self.began.store(tick, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.began.store(0, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl<H: Host> Vat<H> {
    /// How long a turn may take before it is reported; `None` for any time.
    pub fn slow_turn(&self) -> Option<Duration> {
        let limit = self.pace().limit.load(Ordering::Relaxed);
        (limit > 0).then(|| Duration::from_millis(limit))
    }

    /// Changes it.
    pub fn set_slow_turn(&self, limit: Option<Duration>) {
        self.pace().limit.store(limit.map_or(0, millis), Ordering::Relaxed);
    }
}

impl<H: Host> Watch<H> {
    pub(crate) fn new(runtime: Weak<Runtime<H>>) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            ticks: AtomicU64::new(1),
            awake: AtomicBool::new(false),
            state: Monitor::new(State::default()),
            vats: Mutex::new(Weaks::new()),
        })
    }

    pub(crate) fn tick(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, vat: &Arc<Vat<H>>) {
        self.vats.lock().add(vat);
    }

    /// Called by whoever enters a vat.
    pub(crate) fn wake(self: &Arc<Self>) {
        if !self.awake.load(Ordering::Relaxed) && !self.awake.swap(true, Ordering::Relaxed) {
            self.call();
        }
    }

    fn call(self: &Arc<Self>) {
        let start = self.state.with(|state| {
            state.called = true;
            let start = !state.started && !state.stopped;
            state.started = true;
            start
        });
        if start {
            let watch = self.clone();
            let thread = std::thread::Builder::new().name("goblins-watch".to_owned());
            // Without a thread, slow turns are not reported.
            let _ = thread.spawn(move || watch.run());
        }
        self.state.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state.with(|state| state.stopped = true);
        self.state.notify_all();
    }

    /// Whether it shall go on, after a tick or when it is called.
    fn pause(&self, patience: Duration, called: bool) -> bool {
        let woken = self.state.wait(patience, |state| {
            let go = state.stopped || (called && std::mem::take(&mut state.called));
            go.then_some(!state.stopped)
        });
        woken.unwrap_or(true)
    }

    fn run(&self) {
        // The last turn that was reported, by vat.
        let mut reported = HashMap::new();
        loop {
            if !self.pause(TICK, false) {
                return;
            }
            self.ticks.fetch_add(1, Ordering::Relaxed);
            if self.look(&mut reported) {
                continue;
            }
            self.awake.store(false, Ordering::Relaxed);
            // One who has just entered may have seen it awake: a last look.
            if !self.pause(TICK, true) {
                return;
            }
            self.ticks.fetch_add(1, Ordering::Relaxed);
            if !self.look(&mut reported) {
                reported.clear();
                while !self.awake.load(Ordering::Relaxed) {
                    if !self.pause(TICK * 600, true) {
                        return;
                    }
                }
            }
            self.awake.store(true, Ordering::Relaxed);
        }
    }

    /// Sees to it that vats that wait are run, and reports what takes too long. False if nobody is in any vat.
    fn look(&self, reported: &mut HashMap<VatId, u64>) -> bool {
        let mut busy = self.runtime.upgrade().is_some_and(|runtime| runtime.relieve(self.tick()));
        let vats = self.vats.lock().there();
        let mut slow = Vec::new();
        for vat in &vats {
            let pace = vat.pace();
            let began = pace.began.load(Ordering::Relaxed);
            busy |= pace.thread.load(Ordering::Relaxed) != 0;
            if let Some(late) = pace.is_late(self.tick()) {
                busy = true;
                if late {
                    vat.hand_over();
                }
            }
            if began == 0 {
                continue;
            }
            let turn = pace.turn.load(Ordering::Relaxed);
            let lasting = TICK * u32::try_from(self.tick().saturating_sub(began)).unwrap_or(u32::MAX);
            if vat.slow_turn().is_some_and(|limit| lasting >= limit)
                && reported.insert(vat.id(), turn) != Some(turn)
            {
                slow.push((vat, pace.thread.load(Ordering::Relaxed), lasting));
            }
        }
        if !slow.is_empty() {
            H::attached(|cx| {
                for (vat, thread, lasting) in slow {
                    H::report_slow(cx, vat, thread, lasting);
                }
            });
        }
        // The last reference to a vat may be one of these, and its end may run any code of the host.
        if vats.iter().any(|vat| Arc::strong_count(vat) == 1) {
            H::attached(|_| drop(vats));
        }
        busy
    }
}
