//! What is to be done with a loop that ended, and whether one hangs. Pure: time is an argument.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::args::Only;

/// A loop that has not beaten yet reads its files and connects; libvirt and the API server are waited for by others.
pub(crate) const BEGINS_WITHIN: Duration = Duration::from_mins(1);
/// A loop that is late by more hangs. Its turns wait for nobody and take milliseconds; a guest that grows by 20 MiB/s
/// has used up the reserve of a small node by then.
pub(crate) const SLACK: Duration = Duration::from_secs(10);
/// A look that comes later than this after the last one: it was this process that stood still, with all of its pod
/// (a frozen cgroup, a suspended machine), and nothing can be said of the loop.
const STOOD_STILL: Duration = Duration::from_secs(4);
/// So many failures within [`WINDOW`] are no accident.
const FAILURES: usize = 3;
const WINDOW: Duration = Duration::from_mins(2);
/// How long a loop that keeps failing rests; doubled each time, up to [`REST_MAX`]: less than the chart's liveness probe
/// has patience (six times 10 s), for nobody answers it meanwhile.
const REST: Duration = Duration::from_secs(10);
const REST_MAX: Duration = Duration::from_secs(40);
/// A loop that ran for longer than this was well.
const WELL: Duration = Duration::from_mins(5);

/// How a loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// As it was told to, or by its own will, with this code.
    Told(u8),
    /// Its arguments or its state directory are of no use.
    Refused,
    /// There was no process.
    NotStarted,
    /// It failed.
    Failed(String),
}

impl Ended {
    /// That is what was wanted.
    pub(super) fn is_meant(&self) -> bool {
        matches!(self, Self::Told(_))
    }

    /// For the shell.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Told(code) => *code,
            Self::Refused => 2,
            Self::NotStarted | Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(_) => f.write_str("as it was told to"),
            Self::Refused => f.write_str("it refused to start"),
            Self::NotStarted => f.write_str("it could not be started"),
            Self::Failed(how) => f.write_str(how),
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The keeper ends too.
    End(u8),
    /// The loop is started.
    Start,
    /// Guests are made safe for a time without a loop.
    HandOver,
    /// This is done, and the keeper ends too.
    Last(Only),
    /// Nothing for a time, then the loop again.
    Rest {
        /// For so long.
        time: Duration,
        /// What was to be done before was done.
        handed_over: bool,
    },
}

/// Remembers failures.
#[derive(Debug)]
pub(super) struct Judge {
    /// It never worked yet.
    first: bool,
    failures: VecDeque<Instant>,
    rest: Duration,
    last: Option<String>,
}

impl Default for Judge {
    fn default() -> Self {
        Self { first: true, failures: VecDeque::new(), rest: REST, last: None }
    }
}

impl Judge {
    /// How the loop failed last.
    pub(super) fn last_failure(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// A loop that began at `began` ended now, and nobody had told it to.
    pub(super) fn ended(&mut self, ended: &Ended, began: Instant, now: Instant) -> Next {
        let first = std::mem::take(&mut self.first);
        match ended {
            Ended::Told(code) => return Next::End(*code),
            // Whoever starts it is to see that at once; a loop that worked before is not given up for it.
            Ended::Refused if first => return Next::End(ended.code()),
            Ended::Refused | Ended::NotStarted | Ended::Failed(_) => {}
        }
        self.last = Some(ended.to_string());
        self.failures.push_back(now);
        self.failures.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        if now.saturating_duration_since(began) > WELL {
            self.rest = REST;
        }
        if self.failures.len() < FAILURES { Next::Start } else { Next::HandOver }
    }

    /// A hand-over ended, well or not: there is nothing more that could be done now.
    pub(super) fn handed_over(&mut self, ended: &Ended) -> Next {
        self.failures.clear();
        let time = self.rest;
        self.rest = time.saturating_mul(2).min(REST_MAX);
        Next::Rest { time, handed_over: *ended == Ended::Told(0) }
    }
}

/// Whether one loop hangs.
#[derive(Debug)]
pub(super) struct Watch {
    due: Instant,
    looked: Instant,
    beaten: bool,
}

impl Watch {
    /// Of a loop that starts now.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now + BEGINS_WITHIN, looked: now, beaten: false }
    }

    /// It turned, and will again within this time.
    pub(super) fn beat(&mut self, within: Duration, now: Instant) {
        self.beaten = true;
        // What was said may have been said since the last look.
        self.due = now.checked_add(within).unwrap_or(now + BEGINS_WITHIN);
    }

    /// It has turned at least once.
    pub(super) fn has_beaten(&self) -> bool {
        self.beaten
    }

    /// By how much it is late, if it hangs.
    pub(super) fn late(&mut self, now: Instant) -> Option<Duration> {
        let pause = now.saturating_duration_since(self.looked);
        self.looked = now;
        if pause > STOOD_STILL {
            self.due += pause;
        }
        Some(now.saturating_duration_since(self.due)).filter(|late| *late > SLACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Ended {
        Ended::Failed("it was ended by signal 9".to_owned())
    }

    /// Fails so often, a second apart, after runs of no length; what comes of the last.
    fn fail(judge: &mut Judge, how: &Ended, times: u32) -> Next {
        let now = Instant::now();
        (0..times).map(|n| judge.ended(how, now, now + Duration::from_secs(1) * n)).last().unwrap()
    }

    #[test]
    fn a_loop_that_dies_is_started_at_once_and_one_that_keeps_dying_hands_over_and_rests() {
        let mut judge = Judge::default();
        for how in [failed(), Ended::NotStarted] {
            assert_eq!(fail(&mut judge, &how, 2), Next::Start);
            assert_eq!(fail(&mut judge, &how, 1), Next::HandOver);
            let Next::Rest { .. } = judge.handed_over(&Ended::Told(0)) else { panic!("no rest") };
        }
    }

    #[test]
    fn a_hand_over_that_failed_does_not_pass_for_one() {
        for (ended, well) in [
            (Ended::Told(0), true),
            (Ended::Told(1), false),
            (Ended::Refused, false),
            (Ended::NotStarted, false),
            (failed(), false),
        ] {
            let next = Judge::default().handed_over(&ended);
            assert_eq!(next, Next::Rest { time: REST, handed_over: well }, "{ended:?}");
        }
    }

    #[test]
    fn each_rest_is_longer_than_the_last_until_a_loop_was_well() {
        let mut judge = Judge::default();
        let rests: Vec<Next> = (0..4)
            .map(|_| {
                fail(&mut judge, &failed(), 3);
                judge.handed_over(&Ended::Told(0))
            })
            .collect();
        let rest = |seconds| Next::Rest { time: Duration::from_secs(seconds), handed_over: true };
        assert_eq!(rests, [10, 20, 40, 40].map(rest));
        let began = Instant::now();
        judge.ended(&failed(), began, began + Duration::from_hours(1));
        assert_eq!(judge.handed_over(&Ended::Told(0)), Next::Rest { time: REST, handed_over: true });
    }

    #[test]
    fn failures_that_are_rare_are_forgotten() {
        let start = Instant::now();
        let mut judge = Judge::default();
        for hour in 1..100 {
            assert_eq!(judge.ended(&failed(), start, start + Duration::from_hours(hour)), Next::Start);
        }
        assert_eq!(judge.last_failure(), Some("it was ended by signal 9"));
    }

    #[test]
    fn bad_input_ends_the_first_start_and_no_later_one() {
        assert_eq!(fail(&mut Judge::default(), &Ended::Refused, 1), Next::End(2));
        let mut judge = Judge::default();
        fail(&mut judge, &failed(), 1);
        assert_eq!(fail(&mut judge, &Ended::Refused, 1), Next::Start);
    }

    #[test]
    fn an_end_by_its_own_will_ends_the_keeper_with_the_same_code() {
        for code in [0, 1] {
            assert_eq!(fail(&mut Judge::default(), &Ended::Told(code), 1), Next::End(code));
        }
    }

    #[test]
    fn a_loop_hangs_once_it_is_late_by_more_than_its_slack() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let mut late = |from: u64, to: u64| {
            (from..=to).find(|second| watch.late(start + Duration::from_secs(*second)).is_some())
        };
        assert_eq!(late(1, 100), Some(71), "a minute to begin, and the slack");
        let mut watch = Watch::new(start);
        watch.beat(Duration::from_secs(5), start);
        let hangs = (1..100).find(|second| watch.late(start + Duration::from_secs(*second)).is_some());
        assert_eq!(hangs, Some(16));
    }

    #[test]
    fn a_keeper_that_stood_still_itself_blames_nobody() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        watch.beat(Duration::from_secs(1), start);
        assert_eq!(watch.late(start + Duration::from_hours(1)), None);
        assert_eq!(watch.late(start + Duration::from_hours(1) + Duration::from_secs(1)), None);
    }
}
