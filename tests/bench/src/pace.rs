//! How fast this machine is at the moment: a fixed computation on all processors, for machines drift by a quarter and more
//! from one window to the next.

use std::thread;
use std::time::{Duration, Instant};

/// How long it is computed.
const LASTS: Duration = Duration::from_secs(1);
/// Steps between two looks at the clock.
const STEPS: u32 = 1 << 16;

/// Millions of steps a second, of all processors together.
pub(crate) fn index() -> f64 {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let all = thread::scope(|scope| {
        let running: Vec<_> = (0..processors).map(|_| scope.spawn(steps)).collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).sum::<u32>()
    });
    f64::from(all) * f64::from(STEPS) / 1e6 / LASTS.as_secs_f64()
}

/// How many times [`STEPS`] of one generator (xorshift64) are made in the time.
fn steps() -> u32 {
    let (began, mut x, mut count) = (Instant::now(), 0x9E37_79B9_7F4A_7C15_u64, 0);
    while began.elapsed() < LASTS {
        for _ in 0..STEPS {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        // The compiler must not know that nobody asks for it.
        std::hint::black_box(x);
        count += 1;
    }
    count
}
