//! The two clocks of a sample.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use overcommit_core::units::Monotonic;
use rustix::time::{ClockId, clock_gettime};

/// Time since boot, suspended time included: comparable with process start times, never goes back.
pub(crate) fn now() -> Monotonic {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Monotonic::new(Duration::new(seconds, nanos.min(999_999_999)))
}

/// Wall clock since 1970; zero before.
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
