//! A balloon that is below its target and stays there, or comes back there, although the target is set again: another controller
//! lowers it, or somebody at a shell, or its guest's driver does not do what it is told. Once may be a command that came
//! late. From the second time on the loop yields and says so: nothing is taken from that guest, and its target is set again
//! less and less often, unless it hurts.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Monotonic};

/// A target is set again this often while its guest holds less, or nobody answers: deflation takes well under a second.
pub const AGAIN: Duration = Duration::from_secs(10);
/// The longest that somebody else's word stands. As long as the longest back-off of a guest whose takes fail.
const AGAIN_MAX: Duration = Duration::from_mins(32);
/// Less often it may have been anything.
const NO_ACCIDENT: u32 = 2;
/// More make nothing longer: 10 s × 2⁸ is more than [`AGAIN_MAX`].
const MOST: u32 = 9;
/// A balloon that stays for so long where it was told to be is nobody else's any more.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// What became of one guest's targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contest {
    /// A target that was reached or set again last, and what the guest held then.
    last: Option<(Bytes, Bytes)>,
    /// Since when its balloon is where it was told to be; absent while it is not.
    since: Option<Monotonic>,
    /// How often its target had to be set again, although nothing else was wanted of it meanwhile.
    times: u32,
}

/// Somebody else keeps lowering a balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contested {
    /// How often, as far as that changes anything.
    pub times: u32,
    /// How long that stands before the target is set again, while the guest does not hurt.
    pub wait: Duration,
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its balloon does not stay at its target: another controller or somebody at a shell lowers it, or its driver does \
             not give memory back. Where that happens again, the target is set again after {} s, sooner if the guest hurts; nothing \
             is taken from it",
            self.wait.as_secs()
        )
    }
}

impl Contest {
    /// Its balloon is at `target`, where it was told to be.
    pub(crate) fn arrived(&mut self, target: Bytes, at: Monotonic) {
        let since = *self.since.get_or_insert(at);
        if at.since(since) >= FORGOTTEN {
            self.times = 0;
        }
        self.last = Some((target, target));
    }

    /// Its balloon is not.
    pub(crate) fn lags(&mut self) {
        self.since = None;
    }

    /// `target` is set again, while the guest holds `actual`. One that gets more, if slowly, is on its way.
    pub(crate) fn set_again(&mut self, target: Bytes, actual: Bytes) {
        if self.last.is_some_and(|(was, held)| was == target && actual <= held) {
            self.times = self.times.saturating_add(1).min(MOST);
        }
        self.last = Some((target, actual));
    }

    /// Why the balloon is where it is says nothing of anybody else: which target is in force is not known, or the guest
    /// cannot follow it, or is not heard of.
    pub(crate) fn look_away(&mut self) {
        (self.last, self.since) = (None, None);
    }

    /// That somebody else keeps lowering the balloon, where that is so.
    pub fn contested(&self) -> Option<Contested> {
        (self.times >= NO_ACCIDENT).then(|| Contested { times: self.times, wait: self.wait() })
    }

    fn wait(&self) -> Duration {
        AGAIN.saturating_mul(1 << self.times.saturating_sub(1).min(MOST)).min(AGAIN_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Bytes = Bytes::from_mib(400);

    fn second(second: u64) -> Monotonic {
        Monotonic::new(Duration::from_secs(second))
    }

    const LESS: Bytes = Bytes::from_mib(300);

    /// Lowered and set again so often, and come back each time.
    fn lowered(times: u64) -> Contest {
        let mut contest = Contest::default();
        for time in 0..times {
            contest.arrived(TARGET, second(time.saturating_mul(20)));
            contest.lags();
            contest.set_again(TARGET, LESS);
        }
        contest
    }

    #[test]
    fn who_is_lowered_again_and_again_is_contested_and_each_time_for_longer() {
        assert_eq!(lowered(1).contested(), None);
        let waits = |times| lowered(times).contested().map(|contested| contested.wait.as_secs());
        assert_eq!([2, 3, 8, 9, 40].map(waits), [20, 40, 1280, 1920, 1920].map(Some));
    }

    #[test]
    fn who_is_lowered_so_soon_that_nobody_sees_it_come_back_is_contested_too() {
        let mut contest = Contest::default();
        contest.set_again(TARGET, LESS);
        contest.set_again(TARGET, LESS);
        assert_eq!(contest.contested(), None);
        contest.set_again(TARGET, LESS);
        assert!(contest.contested().is_some());
    }

    #[test]
    fn a_balloon_on_its_way_to_a_new_target_or_slowly_to_its_own_is_lowered_by_nobody() {
        let mut contest = Contest::default();
        for time in 0..10 {
            contest.arrived(TARGET, second(20 * time));
            let target = TARGET.plus(Bytes::from_mib(time + 10));
            contest.lags();
            for held in 0..5 {
                contest.set_again(target, TARGET.plus(Bytes::from_mib(held)));
            }
        }
        assert_eq!(contest.contested(), None);
    }

    #[test]
    fn where_a_command_may_have_had_effect_nobody_else_is_accused() {
        let mut contest = Contest::default();
        for time in 0..10 {
            contest.arrived(TARGET, second(20 * time));
            contest.look_away();
            contest.set_again(TARGET, LESS);
        }
        assert_eq!(contest.contested(), None);
    }

    #[test]
    fn it_is_over_once_the_balloon_stays_where_it_is_told_to_be() {
        let mut contest = lowered(3);
        contest.arrived(TARGET, second(60));
        // A balloon that goes with its targets stays, too.
        contest.arrived(TARGET.minus(Bytes::from_mib(9)), second(600));
        assert!(contest.contested().is_some());
        contest.arrived(TARGET, second(660));
        assert_eq!(contest.contested(), None);
    }
}
