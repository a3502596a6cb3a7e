//! How soon the guests are at work again as before, once a surge is over.

use overcommit_tests::guests::Load;

use crate::outcome::Outcome;

/// The rate is that of so many seconds.
const OVER_S: u64 = 5;
/// Back is who has this part of the rate from before.
const PART: f64 = 0.9;

/// After the surge of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// So many seconds later.
    After(u64),
    /// Not before the window ended.
    Never,
}

impl Recovery {
    /// Absent where the guests do not surge and shrink again. What all did in the first third of the time before the surge does not
    /// count: buffers are filled then.
    pub(crate) fn of(outcome: &Outcome) -> Option<Self> {
        let Load::Steps(steps) = outcome.key.scenario.load(0, outcome.key.seed) else { return None };
        let &[(_, before), (_, lasts), ..] = steps.as_slice() else { return None };
        let (ends, window) = (before + lasts, outcome.key.scenario.window().as_secs());
        let usual = rate(outcome, before / 3, before);
        let is_back = |at: &u64| rate(outcome, *at, at + OVER_S) >= usual * PART;
        let back =
            (ends..=window.saturating_sub(OVER_S)).find(is_back).filter(|_| outcome.livelock().is_none());
        Some(back.map_or(Self::Never, |at| Self::After(at - ends)))
    }
}

/// What all guests did in a second, on average between these two.
fn rate(outcome: &Outcome, from: u64, to: u64) -> f64 {
    let by = |second: u64| -> u64 {
        let until = std::time::Duration::from_secs(second).as_secs_f64() + 0.5;
        let of = |guest: &crate::outcome::GuestOutcome| {
            guest.course.iter().rev().find(|moment| moment.at <= until).map_or(0, |moment| moment.done)
        };
        outcome.guests.iter().map(of).sum()
    };
    let done = u32::try_from(by(to) - by(from)).unwrap_or(u32::MAX);
    f64::from(done) / std::time::Duration::from_secs(to - from).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Controller;
    use crate::outcome::tests::{outcome, relief};
    use crate::outcome::{GuestMoment, Key};
    use crate::scenario::Scenario;
    use overcommit_tests::valve::Cause;

    /// One guest that does this much in each second.
    fn guest(scenario: Scenario, does: impl Fn(u64) -> u64) -> Outcome {
        let mut of = outcome(Controller::Ours, 1, &[0]);
        of.key = Key { scenario, ..of.key };
        let mut done = 0;
        for second in 1..=140 {
            done += does(second);
            let at = std::time::Duration::from_millis(second * 1000 + 20).as_secs_f64();
            of.guests[0].course.push(GuestMoment { at, done, resident_mib: 1 });
        }
        of
    }

    #[test]
    fn it_is_told_how_soon_after_a_surge_the_rate_is_that_of_before() {
        let back_at = |back: u64| {
            guest(Scenario::G, move |second| if second <= 30 || second > back { 100 } else { 10 })
        };
        assert_eq!(Recovery::of(&back_at(70)), Some(Recovery::After(0)));
        assert_eq!(Recovery::of(&back_at(90)), Some(Recovery::After(20)));
        assert_eq!(Recovery::of(&back_at(137)), Some(Recovery::Never));
        let stood = Outcome { relief: Some(relief(100.0, Cause::Livelock)), ..back_at(70) };
        assert_eq!(Recovery::of(&stood), Some(Recovery::Never));
    }

    #[test]
    fn where_nobody_surges_there_is_nothing_to_recover_from() {
        assert_eq!(Recovery::of(&guest(Scenario::F, |_| 1)), None);
    }
}
