//! How fast this machine is while a window lasts, for machines drift by a quarter and more from one window to the next: short fixed
//! computations now and then, and what other machines took from it meanwhile (steal).

use std::fs;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Between two computations.
const EACH: Duration = Duration::from_secs(5);
/// Steps of one: some 10 ms of a processor even as built for tests, a thousandth of what the guests could have.
const STEPS: u32 = 1 << 20;

/// How fast it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// Millions of steps a second of a processor: the median, less what was stolen.
    pub(crate) steps: f64,
    /// Part of the processors' time that the machine did not get though it wanted it.
    pub(crate) steal_percent: f64,
}

/// Computes until it is asked for what came out.
#[derive(Debug)]
pub(crate) struct Watch {
    end: Sender<()>,
    samples: JoinHandle<Vec<f64>>,
    before: Times,
}

impl Watch {
    /// Begins with the first computation.
    pub(crate) fn begin() -> Self {
        let before = times();
        let first = sample();
        let (end, ended) = channel();
        let samples = thread::spawn(move || {
            let mut samples = vec![first];
            while ended.recv_timeout(EACH) == Err(RecvTimeoutError::Timeout) {
                samples.push(sample());
            }
            samples
        });
        Self { end, samples, before }
    }

    /// Ends it.
    pub(crate) fn end(self) -> Pace {
        drop(self.end);
        Pace::of(self.samples.join().unwrap_or_default(), self.before, times())
    }
}

impl Pace {
    fn of(mut samples: Vec<f64>, before: Times, after: Times) -> Self {
        samples.sort_by(f64::total_cmp);
        let median = samples.get(samples.len() / 2).copied().unwrap_or_default();
        let (all, stolen) = (after.all - before.all, after.stolen - before.stolen);
        let part = if all > 0.0 { (stolen / all).clamp(0.0, 1.0) } else { 0.0 };
        Self { steps: median * (1.0 - part), steal_percent: part * 100.0 }
    }
}

/// Millions of steps a second of this thread's own processor time: how many others want the processor does not count, nor, in kernels
/// that account for it, what is stolen.
fn sample() -> f64 {
    let used = || {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or_default())
    };
    let (began, mut x) = (used(), 0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..STEPS {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    // The compiler must not know that nobody asks for it.
    std::hint::black_box(x);
    f64::from(STEPS) / 1e6 / used().saturating_sub(began).as_secs_f64().max(1e-9)
}

/// Ticks of all processors since boot.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    all: f64,
    stolen: f64,
}

fn times() -> Times {
    parse(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default()
}

/// The line `cpu` of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; what follows is in the first two.
fn parse(stat: &str) -> Option<Times> {
    let words = stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace();
    let ticks = words.take(8).map(|word| word.parse::<f64>().ok()).collect::<Option<Vec<_>>>()?;
    Some(Times { all: ticks.iter().sum(), stolen: ticks.get(7).copied()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_the_median_of_its_computations_less_what_was_stolen() {
        let before = parse("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n").unwrap();
        let after = parse("cpu  60 0 20 90 0 0 0 30 50 0\n").unwrap();
        let pace = Pace::of(vec![400.0, 10.0, 300.0], before, after);
        assert!((pace.steal_percent - 20.0).abs() < 1e-9, "{pace:?}");
        assert!((pace.steps - 240.0).abs() < 1e-9, "{pace:?}");
    }

    #[test]
    fn a_pace_is_known_at_once() {
        let pace = Watch::begin().end();
        assert!(pace.steps > 0.0 && (0.0..=100.0).contains(&pace.steal_percent), "{pace:?}");
    }
}
