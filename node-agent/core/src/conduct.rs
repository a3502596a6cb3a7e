//! Whether a guest does what a take expects of it: its balloon follows, its process lets the memory go, it goes on
//! reporting, and it does not hurt (design §6.6 and §6.7).
//!
//! A take opens a trial on that guest alone; takes in a row extend it. A trial that fails asks for an [`Undo`] and
//! makes the guest back off for twice as long each time. A balloon that deflates by itself fails without a trial.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::reason::{Failure, Pain};
use crate::units::{Bytes, Monotonic};

/// Difference between target and actual that is no disobedience.
pub const FOLLOW_TOLERANCE: Bytes = Bytes::from_mib(4);
/// A balloon that did not move for this long although it should is not following: a thrashing guest inflates slowly,
/// but it does move.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(30);
/// A device reset shows the full size for a moment before the statistics tell of a reboot; a deflation that lasts, and of
/// whose guest something is heard, is the guest's own.
const DEFLATE_PATIENCE: Duration = Duration::from_secs(10);
/// After the balloon has followed, pain that the take caused shows within this time: some statistics at 1 to 2 s.
const SETTLE: Duration = Duration::from_secs(10);
/// First back-off; doubled with each failure.
const BACK_OFF: Duration = Duration::from_secs(30);
/// Longest back-off.
const BACK_OFF_MAX: Duration = Duration::from_mins(32);
/// What khugepaged may put back beneath an inflated balloon during a trial: 4,096 pages each 10 s
/// (`pages_to_scan`, `scan_sleep_millisecs`, mm/khugepaged.c) for half a minute, and measurements that are not of one moment.
const CREEP: Bytes = Bytes::from_mib(64);

/// How one guest behaved so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conduct {
    trial: Option<Trial>,
    undo: Option<Undo>,
    last_failure: Option<Failure>,
    strikes: u32,
    until: Option<Monotonic>,
    trust: Trust,
    /// The least target that `actual` reached, and what it was really given since.
    reached: Option<Bytes>,
    deflation: Option<Deflation>,
    follow: Option<Following>,
    /// It was not looked at since it last reported: its silence may not be its own.
    unseen: bool,
}

/// Whether a guest's balloon is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// It did what was expected, or was never tried.
    #[default]
    Trusted,
    /// Its balloon does not do what it is told: charged at full size.
    Unresponsive,
    /// Its balloon says what its process denies: charged at full size.
    Untrusted,
}

/// One take, or several in a row, under observation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Trial {
    began: Monotonic,
    /// When the last of its takes was carried out.
    asked: Monotonic,
    from: Bytes,
    to: Bytes,
    /// What the process held beyond what the balloon left it, before.
    excess: Option<Bytes>,
    /// It hurt already when the trial began.
    pained: bool,
    followed: Option<Monotonic>,
    /// Since when its process holds too much for what the balloon says.
    over: Option<Monotonic>,
}

/// More memory in the hands of a guest than it was left with and given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Deflation {
    since: Monotonic,
    by: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Following {
    actual: Bytes,
    inflates: bool,
    moved: Monotonic,
}

/// What has to be given back because an expectation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The target to go back to.
    pub to: Bytes,
    /// Which expectation failed.
    pub failure: Failure,
}

/// A take under observation, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underway {
    /// The target before it.
    pub from: Bytes,
    /// The target after it.
    pub to: Bytes,
    /// How long ago it began.
    pub age: Duration,
    /// The balloon has followed.
    pub followed: bool,
}

/// What is seen of the guest now.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When.
    pub at: Monotonic,
    /// Balloon target in force.
    pub target: Bytes,
    /// What the balloon device says that the guest holds.
    pub actual: Bytes,
    /// The target is less than it may have.
    pub squeezed: bool,
    /// What its processes hold beside their overhead, by the host's kernel; absent while unknown.
    pub held: Option<Bytes>,
    /// How it hurts, if it does.
    pub pain: Option<Pain>,
    /// When the statistics came that are in use; absent while there are none worth anything.
    pub heard: Option<Monotonic>,
}

impl Conduct {
    /// A new life: what the former one did says nothing about the present kernel, but its failures count. Nor is it
    /// believed more than before: that it rebooted is its own word too.
    pub fn begin_life_anew(&mut self) {
        let (strikes, until, trust, last_failure) = (self.strikes, self.until, self.trust, self.last_failure);
        *self = Self { last_failure, strikes, until, trust, ..Self::default() };
    }

    /// A take was carried out.
    pub fn took(&mut self, from: Bytes, to: Bytes, seen: &Seen) {
        let excess = excess(seen);
        self.undo = None;
        let pained = seen.pain.is_some();
        let new =
            Trial { began: seen.at, asked: seen.at, from, to, excess, pained, followed: None, over: None };
        self.trial =
            Some(self.trial.map_or(new, |running| Trial { to, asked: seen.at, followed: None, ..running }));
    }

    /// Something was given: the rest of a trial is judged from there, and a paid undo is over. A target that only goes to
    /// where the guest is already gives nothing.
    pub fn gave(&mut self, from: Bytes, to: Bytes, seen: &Seen) {
        self.trial = self.trial.filter(|trial| to < trial.from).map(|trial| Trial { to, ..trial });
        self.undo = self.undo.filter(|undo| to < undo.to);
        let given = to.minus(from.max(seen.actual));
        self.reached = self.reached.map(|reached| reached.plus(given));
    }

    /// Looks at the guest; returns how long its balloon took to follow when it has just done so.
    pub fn observe(&mut self, seen: &Seen) -> Option<Duration> {
        self.undo = self.undo.filter(|undo| undo.to > seen.target);
        self.watch_movement(seen);
        self.unseen &= seen.heard.is_none();
        if let Some(by) = self.deflates_by_itself(seen) {
            self.fail(Failure::Deflated { by }, seen.actual, seen.at);
            return None;
        }
        if self.trial.is_none() && self.trust == Trust::Trusted && self.ignores_its_target(seen) {
            let missing = seen.actual.minus(seen.target);
            self.fail(Failure::NotFollowed { missing }, seen.actual, seen.at);
            return None;
        }
        let mut trial = self.trial?;
        let follows = seen.actual <= trial.to.plus(FOLLOW_TOLERANCE);
        let too_much = trial.too_much(seen);
        trial.over = too_much.and(trial.over.or(Some(seen.at)));
        self.trial = Some(trial);
        let silent = seen.heard.is_none() && !self.unseen;
        if !follows && (silent || self.is_stuck(seen.at)) {
            // It gave nothing lately: if it hurts, then not by this. A driver that is gone is silent as well.
            let missing = seen.actual.minus(trial.to);
            self.fail(Failure::NotFollowed { missing }, seen.actual, seen.at);
        } else if silent {
            self.fail(Failure::Silent, trial.from, seen.at);
        } else if let Some(pain) = seen.pain.filter(|_| !trial.pained) {
            self.fail(Failure::Hurt(pain), trial.from, seen.at);
        } else if let Some(excess) =
            too_much.filter(|_| trial.over.is_some_and(|since| seen.at.since(since) >= SETTLE))
        {
            self.fail(Failure::NotFreed { excess }, trial.from, seen.at);
        } else if follows && trial.followed.is_none() {
            self.trial = Some(Trial { followed: Some(seen.at), ..trial });
            return Some(seen.at.since(trial.asked));
        } else if follows && too_much.is_none() && trial.has_settled(seen) {
            self.succeed();
        }
        None
    }

    /// Nobody can tell whether it moves: it is paused, has a job under way, or its hypervisor is silent.
    pub fn look_away(&mut self) {
        self.follow = None;
        self.deflation = None;
        self.unseen = true;
        self.trial = self.trial.map(|trial| Trial { over: None, ..trial });
    }

    /// The balloon stayed away from its target for too long without moving, up or down.
    pub fn is_stuck(&self, now: Monotonic) -> bool {
        self.follow.is_some_and(|f| now.since(f.moved) > FOLLOW_PATIENCE)
    }

    /// What is still to be given back because an expectation failed.
    pub fn undo(&self) -> Option<Undo> {
        self.undo
    }

    /// How long nothing is taken yet, and why; absent when it may be tried again.
    pub fn back_off(&self, now: Monotonic) -> Option<(Duration, Failure)> {
        let until = self.until.filter(|until| *until > now)?;
        Some((until.since(now), self.last_failure?))
    }

    /// The take that is under observation.
    pub fn underway(&self, now: Monotonic) -> Option<Underway> {
        let Trial { began, from, to, followed, .. } = self.trial?;
        Some(Underway { from, to, age: now.since(began), followed: followed.is_some() })
    }

    /// Whether its balloon is believed.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The expectation that failed last; absent since a trial succeeded.
    pub fn last_failure(&self) -> Option<Failure> {
        self.last_failure
    }

    fn succeed(&mut self) {
        self.trial = None;
        self.trust = Trust::Trusted;
        self.strikes = self.strikes.saturating_sub(1);
        self.last_failure = None;
    }

    fn fail(&mut self, failure: Failure, back_to: Bytes, at: Monotonic) {
        let wait = BACK_OFF.saturating_mul(1 << self.strikes.min(16)).min(BACK_OFF_MAX);
        self.trial = None;
        self.reached = None;
        self.deflation = None;
        self.undo = Some(Undo { to: back_to, failure });
        self.last_failure = Some(failure);
        self.strikes = self.strikes.saturating_add(1);
        self.until = Some(at.after(wait));
        self.trust = match failure {
            Failure::NotFollowed { .. } | Failure::Deflated { .. } => Trust::Unresponsive,
            Failure::NotFreed { .. } => Trust::Untrusted,
            Failure::Silent | Failure::Hurt(_) => self.trust,
        };
    }

    fn watch_movement(&mut self, seen: &Seen) {
        let apart = seen.actual.minus(seen.target).max(seen.target.minus(seen.actual));
        if apart <= FOLLOW_TOLERANCE {
            self.follow = None;
            let here = seen.target.max(seen.actual);
            let lasts = self.reached.filter(|_| seen.squeezed || self.deflation.is_some());
            self.reached = Some(lasts.map_or(here, |reached| reached.min(here)));
            return;
        }
        // A target that moves on in the same direction is no excuse.
        let inflates = seen.target < seen.actual;
        let still = self.follow.filter(|f| f.actual == seen.actual && f.inflates == inflates);
        self.follow = still.or(Some(Following { actual: seen.actual, inflates, moved: seen.at }));
    }

    /// It holds more than its target without moving, and no trial is under way: since a reboot, or from before the loop.
    fn ignores_its_target(&self, seen: &Seen) -> bool {
        let apart = seen.actual > seen.target.plus(FOLLOW_TOLERANCE);
        seen.squeezed && apart && self.is_stuck(seen.at)
    }

    /// It holds lastingly more than it was left with and given: by how much. That its target went after it is no excuse:
    /// in distress it is given what it has taken.
    fn deflates_by_itself(&mut self, seen: &Seen) -> Option<Bytes> {
        let more = self.reached.map(|reached| seen.actual.minus(reached)).filter(|by| *by > FOLLOW_TOLERANCE);
        let known =
            self.deflation.or_else(|| seen.squeezed.then_some(Deflation { since: seen.at, by: Bytes::ZERO }));
        self.deflation = known.zip(more).map(|(known, more)| Deflation { by: known.by.max(more), ..known });
        let known = self.deflation?;
        let heard = seen.heard.is_some_and(|heard| heard > known.since);
        (heard && seen.at.since(known.since) >= DEFLATE_PATIENCE).then_some(known.by)
    }
}

impl Trial {
    /// Pain that it caused would have shown: it followed some time ago, and reported since.
    fn has_settled(&self, seen: &Seen) -> bool {
        let Some(since) = self.followed else { return false };
        seen.at.since(since) >= SETTLE && seen.heard.is_some_and(|heard| heard > since)
    }

    /// What its process holds more than before in excess of its balloon: at least half of what was taken, or it is creep.
    fn too_much(&self, seen: &Seen) -> Option<Bytes> {
        let (after, before) = (excess(seen)?, self.excess?);
        let allowed = self.from.minus(self.to).scaled(1, 2).plus(CREEP);
        Some(after.minus(before)).filter(|grown| *grown > allowed)
    }
}

/// What the process holds beyond what the balloon leaves the guest.
fn excess(seen: &Seen) -> Option<Bytes> {
    seen.held.map(|held| held.minus(seen.actual))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: fn(u64) -> Bytes = Bytes::from_mib;

    fn seen(second: u64, target: u64, actual: u64, held: u64) -> Seen {
        let at = Monotonic::new(Duration::from_secs(second));
        Seen {
            at,
            target: MIB(target),
            actual: MIB(actual),
            squeezed: true,
            held: Some(MIB(held)),
            pain: None,
            heard: Some(at),
        }
    }

    /// A guest that was taken from 512 to 400 MiB at second 0, all of it resident.
    fn taken() -> Conduct {
        let mut conduct = Conduct::default();
        let before = seen(0, 512, 512, 512);
        conduct.observe(&before);
        conduct.took(MIB(512), MIB(400), &before);
        conduct
    }

    #[test]
    fn a_balloon_that_follows_and_frees_without_pain_is_trusted() {
        let mut conduct = taken();
        assert_eq!(conduct.observe(&seen(2, 400, 400, 400)), Some(Duration::from_secs(2)));
        conduct.observe(&seen(12, 400, 400, 400));
        assert_eq!((conduct.trial, conduct.undo(), conduct.trust()), (None, None, Trust::Trusted));
    }

    #[test]
    fn a_balloon_that_does_not_move_is_unresponsive_and_its_target_goes_back_to_what_it_holds() {
        let mut conduct = taken();
        for second in 1..=32 {
            conduct.observe(&seen(second, 400, 470, 470));
        }
        assert_eq!(conduct.trust(), Trust::Unresponsive);
        let undo = Undo { to: MIB(470), failure: Failure::NotFollowed { missing: MIB(70) } };
        assert_eq!(conduct.undo(), Some(undo));
    }

    #[test]
    fn a_guest_that_falls_silent_after_a_take_failed_it_unless_nobody_looked() {
        let silent = |second, actual| Seen { heard: None, ..seen(second, 400, actual, actual) };
        let mut conduct = taken();
        conduct.observe(&silent(11, 512));
        let missing = MIB(112);
        assert_eq!(conduct.undo().unwrap(), Undo { to: MIB(512), failure: Failure::NotFollowed { missing } });
        assert_eq!(conduct.trust(), Trust::Unresponsive);

        let mut conduct = taken();
        conduct.observe(&seen(1, 400, 400, 400));
        conduct.observe(&silent(11, 400));
        assert_eq!(conduct.undo().unwrap(), Undo { to: MIB(512), failure: Failure::Silent });
        assert_eq!(conduct.trust(), Trust::Trusted);

        let mut conduct = taken();
        conduct.look_away();
        conduct.observe(&silent(11, 512));
        assert_eq!(conduct.undo(), None);
        conduct.observe(&seen(12, 400, 400, 400));
        conduct.observe(&silent(22, 400));
        assert_eq!(conduct.undo().unwrap().failure, Failure::Silent);
    }

    #[test]
    fn a_take_is_no_success_before_the_guest_has_spoken_about_it() {
        let mut conduct = taken();
        conduct.observe(&seen(2, 400, 400, 400));
        let before = Some(seen(2, 0, 0, 0).at);
        conduct.observe(&Seen { heard: before, ..seen(12, 400, 400, 400) });
        assert!(conduct.trial.is_some());
        conduct.observe(&seen(13, 400, 400, 400));
        assert_eq!((conduct.trial, conduct.undo()), (None, None));
    }

    #[test]
    fn a_reboot_neither_ends_a_back_off_nor_restores_trust() {
        let mut conduct = taken();
        for second in 1..=32 {
            conduct.observe(&seen(second, 400, 470, 470));
        }
        conduct.begin_life_anew();
        assert_eq!(conduct.trust(), Trust::Unresponsive);
        assert!(conduct.back_off(seen(33, 400, 470, 470).at).is_some());
    }

    #[test]
    fn a_balloon_that_moves_slowly_is_waited_for() {
        let mut conduct = taken();
        for second in 1..=100 {
            conduct.observe(&seen(second, 400, 512 - second, 512 - second));
        }
        assert_eq!((conduct.undo(), conduct.is_stuck(seen(101, 400, 412, 412).at)), (None, false));
    }

    #[test]
    fn a_driver_that_says_it_gave_and_did_not_is_untrusted() {
        let mut conduct = Conduct::default();
        let before = seen(0, 1024, 1024, 1024);
        conduct.took(MIB(1024), MIB(700), &before);
        conduct.observe(&seen(1, 700, 700, 1020));
        conduct.observe(&seen(11, 700, 700, 1020));
        assert_eq!(conduct.trust(), Trust::Untrusted);
        assert_eq!(conduct.undo().unwrap().to, MIB(1024));
    }

    #[test]
    fn memory_that_was_never_resident_need_not_be_freed() {
        let mut conduct = Conduct::default();
        conduct.took(MIB(1024), MIB(700), &seen(0, 1024, 1024, 200));
        conduct.observe(&seen(1, 700, 700, 200));
        conduct.observe(&seen(11, 700, 700, 210));
        assert_eq!((conduct.trust(), conduct.undo()), (Trust::Trusted, None));
    }

    #[test]
    fn pain_that_begins_with_a_take_undoes_it_and_pain_from_before_does_not() {
        let pain = Some(Pain::MajorFaults { per_second: 500 });
        let mut conduct = taken();
        conduct.observe(&Seen { pain, ..seen(3, 400, 405, 405) });
        assert_eq!(conduct.undo().unwrap().to, MIB(512));
        assert_eq!(conduct.trust(), Trust::Trusted);
        let mut conduct = Conduct::default();
        conduct.took(MIB(512), MIB(400), &Seen { pain, ..seen(0, 512, 512, 512) });
        conduct.observe(&Seen { pain, ..seen(3, 400, 405, 405) });
        assert_eq!(conduct.undo(), None);
    }

    #[test]
    fn a_balloon_that_deflates_by_itself_is_noticed_without_a_take() {
        let mut conduct = taken();
        conduct.observe(&seen(1, 400, 400, 400));
        conduct.observe(&seen(11, 400, 400, 400));
        conduct.observe(&seen(20, 400, 500, 500));
        assert_eq!(conduct.undo(), None, "a device reset looks the same for a moment");
        conduct.observe(&seen(30, 400, 500, 500));
        assert_eq!(conduct.undo().unwrap().failure, Failure::Deflated { by: MIB(100) });
        assert_eq!(conduct.trust(), Trust::Unresponsive);
    }

    #[test]
    fn a_balloon_that_deflates_while_it_is_watched_has_not_succeeded() {
        let mut conduct = taken();
        conduct.fail(Failure::Silent, MIB(512), seen(0, 0, 0, 0).at);
        conduct.took(MIB(512), MIB(400), &seen(0, 512, 512, 512));
        conduct.observe(&seen(1, 400, 400, 400));
        conduct.observe(&seen(5, 400, 400, 400));
        for second in 6..=16 {
            conduct.observe(&seen(second, 400, 512, 512));
        }
        assert_eq!(conduct.undo().unwrap().failure, Failure::Deflated { by: MIB(112) });
        assert_eq!(conduct.strikes, 2);
    }

    #[test]
    fn what_a_balloon_gave_back_by_itself_is_no_give_though_the_target_goes_after_it() {
        let mut conduct = taken();
        conduct.observe(&seen(1, 400, 400, 400));
        conduct.observe(&seen(11, 400, 400, 400));
        for second in 12..=23 {
            let (before, now) = (400 + 3 * (second - 12), 400 + 3 * (second - 11));
            conduct.observe(&seen(second, before, now, 400));
            if second < 23 {
                conduct.gave(MIB(before), MIB(now), &seen(second, before, now, 400));
            }
        }
        let failure = conduct.undo().unwrap().failure;
        assert!(matches!(failure, Failure::Deflated { by } if by >= MIB(30)), "{failure:?}");
    }

    #[test]
    fn small_gives_in_a_row_are_no_deflation() {
        let mut conduct = taken();
        conduct.observe(&seen(1, 400, 400, 400));
        for second in 2..=40 {
            conduct.gave(
                MIB(397 + second),
                MIB(398 + second),
                &seen(second, 397 + second, 397 + second, 400),
            );
            conduct.observe(&seen(second, 398 + second, 398 + second, 400));
        }
        assert_eq!(conduct.undo(), None);
    }

    #[test]
    fn a_give_is_no_deflation() {
        let mut conduct = taken();
        conduct.observe(&seen(1, 400, 400, 400));
        conduct.gave(MIB(400), MIB(500), &seen(1, 400, 400, 400));
        conduct.observe(&seen(2, 500, 450, 450));
        conduct.observe(&seen(20, 500, 500, 500));
        assert_eq!(conduct.undo(), None);
    }

    #[test]
    fn each_failure_doubles_the_back_off_and_a_success_halves_it() {
        let pain = Some(Pain::MajorFaults { per_second: 500 });
        let mut conduct = Conduct::default();
        let mut waits = Vec::new();
        for round in 0..3_u64 {
            let now = seen(round * 1000, 512, 512, 512);
            conduct.took(MIB(512), MIB(400), &now);
            conduct.observe(&Seen { pain, ..now });
            waits.push(conduct.back_off(now.at).unwrap().0.as_secs());
        }
        assert_eq!(waits, [30, 60, 120]);
        conduct.took(MIB(512), MIB(400), &seen(5000, 512, 512, 512));
        conduct.observe(&seen(5001, 400, 400, 400));
        conduct.observe(&seen(5011, 400, 400, 400));
        assert_eq!(conduct.back_off(seen(5011, 0, 0, 0).at), None);
        assert_eq!(conduct.strikes, 2);
    }

    #[test]
    fn a_paid_undo_is_over() {
        let mut conduct = taken();
        conduct.observe(&Seen { pain: Some(Pain::LowUsable { usable: MIB(1) }), ..seen(3, 400, 405, 405) });
        conduct.gave(MIB(400), MIB(450), &seen(3, 400, 405, 405));
        assert!(conduct.undo().is_some());
        conduct.gave(MIB(450), MIB(512), &seen(4, 450, 450, 450));
        assert_eq!(conduct.undo(), None);
    }
}
