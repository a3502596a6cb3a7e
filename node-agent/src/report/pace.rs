//! How often a status is written. Pure: time is an argument.

use std::time::Duration;

use overcommit_crds::condition::{Condition, ConditionStatus};
use overcommit_crds::names::condition::DEGRADED;
use overcommit_crds::node::NodeOvercommitStatus;
use tokio::time::Instant;

use super::material::{changed, turned};

/// Between two writes of what changed.
const SPACING: Duration = Duration::from_secs(30);
/// Between two writes of state changes: people and the operator wait for these.
const URGENT_SPACING: Duration = Duration::from_secs(2);
/// State changes that are written at once before they come as slowly as everything else; as many are earned again by
/// one for each [`SPACING`]. What flaps writes, and sends events, no oftener than what wanders.
const BURST: u32 = 6;
/// A status without change is written again within this time, so that its age says that the agent lives.
const REFRESH: Duration = Duration::from_mins(5);
/// Degraded ends this long after its cause: one that comes and goes is one.
const HOLD: Duration = Duration::from_secs(30);

/// When to write next.
#[derive(Debug)]
pub(crate) struct Pace {
    refresh: Duration,
    last: Option<Instant>,
    failures: u32,
    /// State changes that may be written at once, as of `last`.
    burst: u32,
    /// When Degraded was true last, and what it said.
    degraded: Option<(Instant, Condition)>,
}

impl Pace {
    /// The pace of a node's agent. Full jitter, from the node's name: 5,000 agents must not refresh together.
    pub(crate) fn new(node: &str) -> Self {
        let spread = node.bytes().fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b))) % 120;
        let refresh = REFRESH.saturating_sub(Duration::from_secs(u64::from(spread)));
        Self { refresh, last: None, failures: 0, burst: BURST, degraded: None }
    }

    /// When a status without change is due.
    pub(crate) fn refresh_at(&self, now: Instant) -> Instant {
        self.last.unwrap_or(now) + self.refresh
    }

    /// Keeps Degraded for a moment after its cause is gone.
    pub(crate) fn settle(&mut self, fresh: &mut NodeOvercommitStatus, now: Instant) {
        let Some(said) = fresh.conditions.iter_mut().find(|c| c.type_ == DEGRADED) else { return };
        match &self.degraded {
            _ if said.status == ConditionStatus::True => self.degraded = Some((now, said.clone())),
            Some((since, held)) if now.saturating_duration_since(*since) < HOLD => {
                *said = Condition { observed_generation: said.observed_generation, ..held.clone() };
            }
            _ => self.degraded = None,
        }
    }

    /// True if `fresh` is to be written now over `old`, which is absent if it is not known what stands; `last` says
    /// that there is no later occasion.
    pub(crate) fn is_due(
        &self,
        old: Option<&NodeOvercommitStatus>,
        fresh: &NodeOvercommitStatus,
        last: bool,
        now: Instant,
    ) -> bool {
        let Some(since) = self.last.map(|at| now.saturating_duration_since(at)) else { return true };
        match old {
            None => since >= URGENT_SPACING * (1 << self.failures.min(4)),
            Some(old) if turned(old, fresh) => {
                let wait = if self.tokens(now) > 0 { URGENT_SPACING } else { SPACING };
                last || since >= wait
            }
            Some(old) if changed(old, fresh) => since >= SPACING,
            Some(_) => since >= self.refresh,
        }
    }

    /// A write was tried.
    pub(crate) fn wrote(&mut self, well: bool, turned: bool, now: Instant) {
        self.burst = self.tokens(now).saturating_sub(u32::from(turned));
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        self.last = Some(now);
    }

    /// Writes that have failed since the last one that did not.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    fn tokens(&self, now: Instant) -> u32 {
        let earned =
            self.last.map_or(0, |at| now.saturating_duration_since(at).as_secs() / SPACING.as_secs());
        self.burst.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(degraded: bool, generation: i64) -> NodeOvercommitStatus {
        let (status, reason) = if degraded { (true, "Trouble") } else { (false, "AsExpected") };
        let at = jiff::Timestamp::UNIX_EPOCH;
        let said = Condition::renewed(&[], at, DEGRADED, status.into(), reason, "", Some(generation));
        NodeOvercommitStatus { conditions: vec![said], ..NodeOvercommitStatus::default() }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Writes in so many seconds, each of which shows what `at` says of it.
    fn writes(length: u64, at: impl Fn(u64) -> NodeOvercommitStatus) -> usize {
        let (start, mut pace, mut old, mut count) = (Instant::now(), Pace::new("a"), None, 0);
        for second in 0..length {
            let now = start + seconds(second);
            let mut fresh = at(second);
            pace.settle(&mut fresh, now);
            if pace.is_due(old.as_ref(), &fresh, false, now) {
                let turns = old.as_ref().is_none_or(|old| turned(old, &fresh));
                pace.wrote(true, turns, now);
                old = Some(fresh);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_status_without_change_is_refreshed_within_five_minutes() {
        let count = writes(3600, |_| status(false, 1));
        assert!((12..=21).contains(&count), "{count}");
    }

    #[test]
    fn degraded_that_comes_and_goes_is_one() {
        let steady = writes(3600, |_| status(true, 1));
        assert!(writes(3600, |second| status(second % 10 < 2, 1)) <= steady + 1);
    }

    #[test]
    fn what_turns_all_the_time_is_written_as_rarely_as_anything() {
        let count = writes(3600, |second| status(false, i64::try_from(second).unwrap()));
        assert!(count <= 3600 / 30 + usize::try_from(BURST).unwrap() + 1, "{count}");
    }

    #[test]
    fn single_turns_are_written_at_once_and_failures_wait() {
        let (start, mut pace) = (Instant::now(), Pace::new("a"));
        let (old, new) = (status(false, 1), status(false, 2));
        assert!(pace.is_due(None, &old, false, start));
        pace.wrote(true, true, start);
        assert!(!pace.is_due(Some(&old), &new, false, start + seconds(1)));
        assert!(pace.is_due(Some(&old), &new, true, start + seconds(1)), "no later occasion");
        assert!(pace.is_due(Some(&old), &new, false, start + seconds(2)));
        pace.wrote(false, true, start);
        pace.wrote(false, true, start);
        assert!(!pace.is_due(None, &new, false, start + seconds(7)));
        assert!(pace.is_due(None, &new, false, start + seconds(8)));
    }
}
