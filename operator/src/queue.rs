//! When a write may start: one at a time for each thing, with pauses after success and growing ones after failure. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::plan::Key;

/// First pause after a failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause after failures that may pass by themselves.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause after a refusal that only an administrator can end. It grows too: an API server that has just started
/// refuses everything until it has read its roles.
const FORBIDDEN_PAUSE: Duration = Duration::from_mins(1);
/// Things that nobody wants to write any more are forgotten after this: longer than any pause.
const MEMORY: Duration = Duration::from_mins(3);
/// Writes under way at once.
const LIMIT: usize = 16;

/// How a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may work next time; the server may have said when.
    Passing(Option<Duration>),
    /// Missing permission.
    Forbidden,
}

#[derive(Debug)]
struct Entry {
    running: bool,
    failures: u32,
    not_before: Instant,
    written: Option<Instant>,
    touched: Instant,
}

/// All that is known of past writes.
#[derive(Debug, Default)]
pub(crate) struct Queue(HashMap<Key, Entry>);

/// Whether a write may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Now; it counts as under way.
    Now,
    /// At that time at the earliest.
    At(Instant),
    /// When one that is under way has ended.
    AfterOthers,
}

impl Queue {
    /// Asks to start a write that wants `pause` since the last one of the same key.
    pub(crate) fn start(&mut self, key: &Key, pause: Duration, now: Instant) -> Turn {
        let full = self.running() >= LIMIT;
        let fresh = || Entry { running: false, failures: 0, not_before: now, written: None, touched: now };
        let entry = self.0.entry(key.clone()).or_insert_with(fresh);
        entry.touched = now;
        let due = entry.written.map_or(entry.not_before, |at| entry.not_before.max(at + pause));
        match (entry.running || full, due > now) {
            (true, _) => Turn::AfterOthers,
            (false, true) => Turn::At(due),
            (false, false) => {
                entry.running = true;
                Turn::Now
            }
        }
    }

    /// A write has succeeded.
    pub(crate) fn succeeded(&mut self, key: &Key, now: Instant) {
        if let Some(entry) = self.0.get_mut(key) {
            *entry = Entry { running: false, failures: 0, not_before: now, written: Some(now), touched: now };
        }
    }

    /// A write has failed; returns the pause before the next try.
    pub(crate) fn failed(&mut self, key: &Key, failure: Failure, now: Instant) -> Duration {
        let Some(entry) = self.0.get_mut(key) else { return FIRST_PAUSE };
        let growing = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(entry.failures.min(16)));
        let pause = match failure {
            Failure::Passing(asked) => growing.max(asked.unwrap_or_default()).min(LONGEST_PAUSE),
            Failure::Forbidden => growing.min(FORBIDDEN_PAUSE),
        };
        entry.running = false;
        entry.failures = entry.failures.saturating_add(1);
        entry.not_before = now + pause;
        entry.touched = now;
        pause
    }

    /// Forgets what was not asked for in a while.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, entry| entry.running || now.duration_since(entry.touched) < MEMORY);
    }

    /// How many writes are under way.
    pub(crate) fn running(&self) -> usize {
        self.0.values().filter(|entry| entry.running).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> Key {
        Key { kind: "status", name: name.into() }
    }

    #[test]
    fn one_write_at_a_time_for_each_thing() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert_eq!(queue.start(&key("a"), SECOND, now), Turn::Now);
        assert_eq!(queue.start(&key("a"), SECOND, now), Turn::AfterOthers);
        assert_eq!(queue.start(&key("b"), SECOND, now), Turn::Now);
        queue.succeeded(&key("a"), now);
        assert_eq!(queue.start(&key("a"), SECOND, now), Turn::At(now + SECOND));
        assert_eq!(queue.start(&key("a"), SECOND, now + SECOND), Turn::Now);
    }

    #[test]
    fn pauses_grow_with_failures_and_end_with_success() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut fail = |failure| {
            queue.start(&key("a"), Duration::ZERO, now + Duration::from_hours(1));
            queue.failed(&key("a"), failure, now)
        };
        assert_eq!(fail(Failure::Passing(None)), FIRST_PAUSE);
        assert_eq!(fail(Failure::Passing(None)), FIRST_PAUSE * 2);
        assert_eq!(fail(Failure::Passing(Some(SECOND))), SECOND);
        assert_eq!(fail(Failure::Forbidden), FIRST_PAUSE * 8);
        for _ in 0..40 {
            assert!(fail(Failure::Forbidden) <= FORBIDDEN_PAUSE);
            assert!(fail(Failure::Passing(None)) <= LONGEST_PAUSE);
        }
        queue.succeeded(&key("a"), now);
        assert_eq!(queue.start(&key("a"), Duration::ZERO, now), Turn::Now);
    }

    #[test]
    fn no_more_than_the_limit_run_at_once() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for n in 0..LIMIT {
            assert_eq!(queue.start(&key(&n.to_string()), SECOND, now), Turn::Now);
        }
        assert_eq!(queue.start(&key("more"), SECOND, now), Turn::AfterOthers);
        queue.succeeded(&key("0"), now);
        assert_eq!(queue.start(&key("more"), SECOND, now), Turn::Now);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.start(&key("a"), SECOND, now);
        queue.succeeded(&key("a"), now);
        queue.forget(now + MEMORY);
        assert!(queue.0.is_empty());
    }
}
