//! The counter of the processor, if it is what the system takes for its clock.

/// Whether there is one.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) fn is_there() -> bool {
    // The system knows whether it goes on at one rate, is the same on all cores, and stops for nothing.
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    source.is_ok_and(|source| source.trim() == "tsc")
}

/// What it says.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn count() -> u64 {
    // SAFETY: all processors of this kind can do it, and a system that takes it for its clock lets programs do it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(crate) fn is_there() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(crate) fn count() -> u64 {
    0
}
