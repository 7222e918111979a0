//! The clock of the event logs: the same for all vats of the process, and quick to read.
//!
//! To ask the system takes longer than all else that recording does. Where the processor has a counter that the system
//! itself takes for its clock, that is read instead; what a count is in nanoseconds is found out when somebody looks at
//! an event, and does not change any more then. The two are compared now and then. Once they don't fit (after
//! a computer has slept, say) the counter is left alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::host::Host;

/// Marks readings that are nanoseconds: all of them are greater than any count.
const NANOSECONDS: u64 = 1 << 63;

/// A rate is known well enough after this time, in ns.
const FIRST_SPAN: u64 = 2_000_000;

/// It is measured again after a time that is longer by this factor.
const LONGER: u64 = 10;

/// The clocks fit if they differ by no more than this, in ns, and this part of the time. The system may let its own run
/// faster or slower by half as much.
const SLACK: u64 = 1_000_000;
const SLACK_PART: u64 = 1000;

/// Readings are counts.
static COUNTS: AtomicBool = AtomicBool::new(false);

static SCALE: Mutex<Scale> = Mutex::new(Scale::new());

/// A count, and what the clock of the system said at the same time, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    count: u64,
    time: u64,
}

/// From a count on, how long one lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    from: Pair,
    /// In ns, times 2 to the 32.
    rate: u64,
}

/// What readings are in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// The first pair; `None` if nothing is counted.
    start: Option<Pair>,
    parts: Vec<Part>,
    /// How long the last rate was measured.
    span: u64,
    /// So far was the counter ahead of the system's clock when it was left alone.
    ahead: u64,
}

impl Part {
    fn time(self, count: u64) -> u64 {
        let counts = u128::from(count.saturating_sub(self.from.count));
        let time = (counts * u128::from(self.rate)) >> 32;
        self.from.time.saturating_add(u64::try_from(time).unwrap_or(u64::MAX))
    }
}

impl Scale {
    const fn new() -> Self {
        Self { start: None, parts: Vec::new(), span: 0, ahead: 0 }
    }

    /// A reading in nanoseconds since the start of the process, or nearly so.
    pub(crate) fn time(&self, reading: u64) -> u64 {
        if reading & NANOSECONDS != 0 {
            return (reading & !NANOSECONDS) + self.ahead;
        }
        let part = self.parts.iter().rev().find(|part| part.from.count <= reading).or(self.parts.first());
        part.map_or(0, |part| part.time(reading))
    }

    /// Measures the rate, if that is due. False if it is not what it was.
    fn measure(&mut self, now: Pair) -> bool {
        let Some(start) = self.start else {
            return true;
        };
        let span = now.time.saturating_sub(start.time);
        if span < FIRST_SPAN || span / LONGER < self.span {
            return true;
        }
        let counts = now.count.saturating_sub(start.count);
        let rate = (u128::from(span) << 32).checked_div(u128::from(counts));
        let Some(rate) = rate.and_then(|rate| u64::try_from(rate).ok()) else {
            return false;
        };
        let part = match self.parts.last() {
            None => Part { from: start, rate },
            Some(last) if last.rate.abs_diff(rate) > last.rate / SLACK_PART => return false,
            // What was said of earlier counts stays true.
            Some(last) => Part { from: Pair { count: now.count, time: last.time(now.count) }, rate },
        };
        self.parts.push(part);
        self.span = span;
        true
    }

    /// Whether the counter still fits to the clock of the system.
    fn fits(&mut self, now: Pair) -> bool {
        let Some(start) = self.start else {
            return true;
        };
        if now.count < start.count || !self.measure(now) {
            return false;
        }
        let may_differ = SLACK + (now.time - start.time) / SLACK_PART;
        self.parts.is_empty() || self.time(now.count).abs_diff(now.time) <= may_differ
    }

    /// Readings are nanoseconds from now on, and none of them is earlier than this count.
    fn leave(&mut self, now: Pair) {
        // One that has gone back says nothing.
        self.ahead = if self.parts.is_empty() { 0 } else { self.time(now.count).saturating_sub(now.time) };
    }
}

/// What the clock of the system says, in ns since the first time.
fn system() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let time = START.get_or_init(Instant::now).elapsed().as_nanos();
    // Never 0.
    u64::try_from(time).unwrap_or(u64::MAX / 4) + 1
}

/// The count and the time, at the same time as nearly as possible.
fn pair<H: Host>() -> Pair {
    let pairs = std::array::from_fn::<_, 4, _>(|_| {
        let (before, time, after) = (H::count(), system(), H::count());
        (after.wrapping_sub(before), Pair { count: before / 2 + after / 2, time })
    });
    pairs.into_iter().min_by_key(|(apart, _)| *apart).map_or(Pair { count: 0, time: 0 }, |(_, pair)| pair)
}

/// To be called before the first reading.
pub(crate) fn start<H: Host>() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if H::has_counter() {
            let now = pair::<H>();
            SCALE.lock().start = Some(now);
            COUNTS.store(true, Ordering::Release);
        }
    });
}

/// What the clock says. Never 0.
#[inline(always)]
pub(crate) fn reading<H: Host>() -> u64 {
    if COUNTS.load(Ordering::Relaxed) { H::count() } else { NANOSECONDS | system() }
}

/// What readings are, all of before included.
pub(crate) fn scale<H: Host>() -> Scale {
    loop {
        let now = COUNTS.load(Ordering::Relaxed).then(pair::<H>);
        let mut scale = SCALE.lock();
        if let Some(now) = now
            && !scale.measure(now)
        {
            leave(&mut scale, now);
        }
        if scale.start.is_none() || !scale.parts.is_empty() {
            return scale.clone();
        }
        // The first to look has come very early.
        drop(scale);
        std::hint::spin_loop();
    }
}

/// Sees whether the counter can be trusted still. Gives what is to be added to times of readings for the wall time.
pub(crate) fn compare<H: Host>() -> u64 {
    let now = COUNTS.load(Ordering::Relaxed).then(pair::<H>);
    let mut scale = SCALE.lock();
    if let Some(now) = now
        && !scale.fits(now)
    {
        leave(&mut scale, now);
    }
    let time = match now {
        Some(now) if !scale.parts.is_empty() && COUNTS.load(Ordering::Relaxed) => scale.time(now.count),
        _ => system() + scale.ahead,
    };
    drop(scale);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX).wrapping_sub(time)
}

fn leave(scale: &mut Scale, now: Pair) {
    if COUNTS.swap(false, Ordering::Relaxed) {
        scale.leave(now);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A counter that goes on with so many counts in 1000 ns.
    fn pair(time: u64, counts: u64) -> Pair {
        Pair { count: 7_000 + time * counts / 1000, time }
    }

    fn counting(counts: u64) -> Scale {
        Scale { start: Some(pair(0, counts)), ..Scale::new() }
    }

    #[test]
    fn counts_become_nanoseconds() {
        let mut scale = counting(2450);
        assert!(scale.measure(pair(SECOND, 2450)));
        for time in [0, 1000, SECOND / 2, SECOND, 3600 * SECOND] {
            assert!(scale.time(pair(time, 2450).count).abs_diff(time) <= 1 + time / SECOND, "{time}");
        }
    }

    #[test]
    fn what_was_said_of_a_count_stays_true_when_the_rate_is_known_better() {
        let mut scale = counting(2450);
        let early = pair(FIRST_SPAN / 2, 2450).count;
        assert!(scale.measure(pair(FIRST_SPAN - 1, 2450)) && scale.parts.is_empty(), "too early to say");
        // Somebody was slow to read the second clock.
        let late = Pair { time: FIRST_SPAN + 500, ..pair(FIRST_SPAN, 2450) };
        assert!(scale.measure(late));
        let known = [early, late.count].map(|count| scale.time(count));
        let mut before = 0;
        for second in [1, 20, 300, 4000] {
            let now = pair(second * SECOND, 2450);
            assert!(scale.fits(now));
            assert!(scale.time(now.count) > before);
            before = scale.time(now.count);
            assert_eq!([early, late.count].map(|count| scale.time(count)), known);
        }
        assert_eq!(scale.parts.len(), 5);
        let hour =
            |time| scale.time(pair(time + 3600 * SECOND, 2450).count) - scale.time(pair(time, 2450).count);
        assert!(hour(4000 * SECOND).abs_diff(3600 * SECOND) < 10_000, "the last rate is nearly exact");
    }

    #[test]
    fn a_counter_that_goes_back_or_jumps_or_gets_another_rate_does_not_fit() {
        let known = || {
            let mut scale = counting(2450);
            assert!(scale.fits(pair(10 * SECOND, 2450)) && scale.fits(pair(11 * SECOND, 2450)));
            scale
        };
        assert!(!known().fits(Pair { count: 3, time: 12 * SECOND }), "it has begun anew");
        let asleep = Pair { count: pair(60 * SECOND, 2450).count, time: 12 * SECOND };
        assert!(!known().fits(asleep), "it went on while the clock stood");
        assert!(!known().fits(pair(20 * SECOND, 2000)), "it is another processor's");
        assert!(!known().fits(Pair { time: 300 * SECOND, ..pair(20 * SECOND, 2450) }));
    }

    #[test]
    fn readings_after_a_counter_was_left_alone_are_later_than_all_counts() {
        let mut scale = counting(2450);
        assert!(scale.fits(pair(10 * SECOND, 2450)));
        let asleep = Pair { count: pair(60 * SECOND, 2450).count, time: 12 * SECOND };
        scale.leave(asleep);
        let reading = NANOSECONDS | (12 * SECOND + 5);
        assert!(reading > asleep.count);
        assert_eq!(scale.time(reading), scale.time(asleep.count) + 5);
        assert!(scale.time(asleep.count).abs_diff(60 * SECOND) < 1000);
        let mut scale = counting(2450);
        assert!(scale.fits(pair(10 * SECOND, 2450)));
        scale.leave(Pair { count: 3, time: 12 * SECOND });
        assert_eq!(scale.time(NANOSECONDS | (12 * SECOND)), 12 * SECOND);
    }

    #[test]
    fn without_a_counter_readings_are_nanoseconds() {
        let mut scale = Scale::new();
        assert!(scale.measure(pair(SECOND, 1)) && scale.fits(pair(2 * SECOND, 1)));
        assert_eq!(scale.time(NANOSECONDS | 5), 5);
    }
}
