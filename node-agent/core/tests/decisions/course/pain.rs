//! Whether new statistics say that a guest hurts (design §3), worked out once more from the statistics themselves.

use std::time::Duration;

use overcommit_core::sample::Balloon;
use overcommit_core::units::{Bytes, Monotonic, Permille};

/// It is believed to hurt so long after it last said so.
pub const LASTS: Duration = Duration::from_secs(10);
/// Reading back so much per second from its swap hurts.
const SWAPPED_IN: u64 = 256 << 10;
/// So many major faults per second hurt, where little is usable.
const FAULTS: u64 = 100;

/// Time between the statistics of two stamps, of which the first was seen at `before`, at least.
pub fn between(before: Option<Monotonic>, stamps: (u64, u64), now: Monotonic) -> Option<Duration> {
    let whole = Duration::from_secs(stamps.1.saturating_sub(stamps.0).saturating_sub(1));
    before.map(|before| now.since(before).max(whole).max(Duration::from_secs(1)))
}

/// New statistics against what was read before; nothing is known of rates where it is not known how much time passed.
pub fn hurts(old: &Balloon, new: &Balloon, passed: Option<Duration>, headroom: Permille) -> bool {
    let (Some(total), Some(usable)) = (new.available, new.usable.or(new.unused)) else { return false };
    let below = |permille: u32| {
        let line = u128::from(total.get()) * u128::from(permille) / 1000;
        u128::from(usable.get()) < line
    };
    let rate = |old: Option<u64>, new: Option<u64>| {
        let grown = new.unwrap_or(0).saturating_sub(old.unwrap_or(u64::MAX));
        passed.map_or(0, |passed| u128::from(grown) * 1000 / passed.as_millis().max(1))
    };
    let swapped = rate(old.swap_in.map(Bytes::get), new.swap_in.map(Bytes::get));
    let faults = rate(old.major_faults, new.major_faults);
    below(50)
        || swapped >= u128::from(SWAPPED_IN)
        || (faults >= u128::from(FAULTS) && below(headroom.get().min(250)))
}
