//! The kernel's clocks, as the kernel itself stamps its messages.

use std::mem::zeroed;

/// Microseconds since 1970.
pub fn realtime_micros() -> i64 {
    read(libc::CLOCK_REALTIME)
}

/// Microseconds since the system has started.
pub fn monotonic_micros() -> i64 {
    read(libc::CLOCK_MONOTONIC)
}

fn read(clock: libc::clockid_t) -> i64 {
    // SAFETY: all-zero is a valid timespec, and it lives through the call; both clocks exist on every Linux.
    let time = unsafe {
        let mut time: libc::timespec = zeroed();
        libc::clock_gettime(clock, &mut time);
        time
    };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}
