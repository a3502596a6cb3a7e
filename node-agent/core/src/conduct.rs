//! Whether a guest does what a take expects of it: its balloon follows, its process lets the memory go, it goes on
//! reporting, and it does not hurt (design §6.6 and §6.7).
//!
//! A take opens a trial on that guest alone; takes in a row extend it. A trial that fails asks for an [`Undo`] and
//! makes the guest back off for twice as long each time; only time without a failure makes that shorter again, for a guest
//! that lets each take succeed and deflates afterwards would be taken from for ever. A balloon that deflates by itself
//! fails without a trial.

mod movement;
#[cfg(test)]
mod tests;
mod trial;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::reason::{Failure, Pain};
use crate::units::{Bytes, Monotonic};

pub use movement::FOLLOW_TOLERANCE;
use movement::{Deflation, Following};
pub use trial::Underway;
use trial::{SETTLE, Trial, excess, hurt};

/// First back-off; doubled with each failure.
const BACK_OFF: Duration = Duration::from_secs(30);
/// The seventh failure in a row has the longest back-off: 32 min (30 s × 2⁶). More make nothing longer, and are not counted: a guest
/// that is repaired after a day of them would be known for hours by what it was.
const MOST_STRIKES: u32 = 7;
/// Of takes that hurt the tenth: 4 h 16 min (30 s × 2⁹). Nobody repairs a guest that needs what it has, and where the needs of all do
/// not fit it would be hurt each half hour for ever, in vain.
const MOST_PAINS: u32 = 10;
/// One failure is forgotten for each such time without another after the end of its back-off; the kubelet forgets a
/// container's after as long a time, from the failure on (twice its longest back-off of 5 min: client-go,
/// `util/flowcontrol/backoff.go`, `hasExpired`). That a take hurt is remembered for twice the back-off that it had, if that is
/// longer: where several may be taken from in turn, each is left alone for longer than ten minutes beyond its back-off.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// How one guest behaved so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conduct {
    trial: Option<Trial>,
    undo: Option<Undo>,
    last_failure: Option<Failure>,
    /// Failures that count, but for takes that hurt.
    strikes: u32,
    /// Those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pains: u32,
    until: Option<Monotonic>,
    trust: Trust,
    /// The least target that `actual` reached, and what it was really given since.
    reached: Option<Bytes>,
    deflation: Option<Deflation>,
    follow: Option<Following>,
    /// It was not looked at since it last reported: its silence may not be its own.
    unseen: bool,
    /// What its process held beyond what its balloon left it, when that was known last and no take was under observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    excess: Option<Bytes>,
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

/// What has to be given back because an expectation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The target to go back to.
    pub to: Bytes,
    /// Which expectation failed.
    pub failure: Failure,
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
    /// It waits its turn: that it hurts is expected.
    pub waits: bool,
    /// What its processes hold beside their overhead, by the host's kernel; absent while unknown.
    pub held: Option<Bytes>,
    /// How it hurts, if it does.
    pub pain: Option<Pain>,
    /// When the statistics came that are in use; absent while there are none worth anything.
    pub heard: Option<Monotonic>,
    /// All guests were asked just before this: silence is theirs. Between two ticks it may be the loop that stood still.
    pub asked: bool,
}

impl Conduct {
    /// A new life, or a balloon that only shadows moved for a while: what is under observation says nothing any more, but
    /// failures count. Nor is it believed more than before: that it rebooted is its own word too.
    pub fn begin_life_anew(&mut self) {
        let Self { last_failure, strikes, pains, until, trust, .. } = *self;
        *self = Self { last_failure, strikes, pains, until, trust, ..Self::default() };
    }

    /// A take was carried out.
    pub fn took(&mut self, from: Bytes, to: Bytes, seen: &Seen) {
        // Facts may be of another moment just now; what it held too much before any take is the same.
        let excess = excess(seen).or(self.excess);
        self.undo = None;
        let pained = hurt(seen).is_some() || seen.waits;
        let new =
            Trial { began: seen.at, asked: seen.at, from, to, excess, pained, followed: None, over: None };
        self.trial = Some(self.trial.map_or(new, |running| Trial {
            to,
            asked: seen.at,
            followed: None,
            pained: running.pained || seen.waits,
            ..running
        }));
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
        let Some(mut trial) = self.trial else {
            self.excess = excess(seen).or(self.excess);
            return None;
        };
        let follows = seen.actual <= trial.to.plus(FOLLOW_TOLERANCE);
        let too_much = trial.too_much(seen);
        trial.over = too_much.and(trial.over.or(Some(seen.at)));
        self.trial = Some(trial);
        let silent = seen.heard.is_none() && seen.asked && !self.unseen;
        if !follows && (silent || self.is_stuck(seen.at)) {
            // It gave nothing lately: if it hurts, then not by this. A driver that is gone is silent as well.
            let missing = seen.actual.minus(trial.to);
            self.fail(Failure::NotFollowed { missing }, seen.actual, seen.at);
        } else if silent {
            self.fail(Failure::Silent, trial.from, seen.at);
        } else if let Some(pain) = hurt(seen).filter(|_| !trial.pained) {
            self.fail(Failure::Hurt(pain), trial.from, seen.at);
        } else if let Some(excess) =
            too_much.filter(|_| trial.over.is_some_and(|since| seen.at.since(since) >= SETTLE))
        {
            self.fail(Failure::NotFreed { excess }, trial.from, seen.at);
        } else if follows && trial.followed.is_none() {
            self.trial = Some(Trial { followed: Some(seen.at), ..trial });
            return Some(seen.at.since(trial.asked));
        } else if follows && too_much.is_none() && trial.has_settled(seen) {
            self.excess = excess(seen).or(self.excess);
            self.succeed(trial.is_verified(seen));
        }
        None
    }

    /// It holds no more than it was left with and given: where that is more than its target, its balloon goes there yet.
    pub fn is_on_its_way(&self, actual: Bytes) -> bool {
        self.reached.is_some_and(|reached| actual <= reached.plus(FOLLOW_TOLERANCE))
    }

    /// Nobody can tell whether it moves: it is paused, has a job under way, or its hypervisor is silent.
    pub fn look_away(&mut self) {
        self.follow = None;
        self.deflation = None;
        self.unseen = true;
        self.trial = self.trial.map(|trial| Trial { over: None, ..trial });
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

    /// Nothing speaks against the take. Where the host's kernel did not say what the process held before it or holds now, only
    /// the guest speaks for it: who is not believed is not believed for that.
    fn succeed(&mut self, verified: bool) {
        self.trial = None;
        if verified || self.trust != Trust::Untrusted {
            self.trust = Trust::Trusted;
            self.last_failure = None;
        }
    }

    /// What still counts of so many failures, the last of which is remembered for so long, and so on.
    fn remembered(&self, mut count: u32, at: Monotonic, lasts: impl Fn(u32) -> Duration) -> u32 {
        let mut quiet = self.until.map_or(Duration::ZERO, |until| at.since(until));
        while let Some(fewer) = count.checked_sub(1) {
            let Some(left) = quiet.checked_sub(lasts(fewer)) else { break };
            (quiet, count) = (left, fewer);
        }
        count
    }

    fn fail(&mut self, failure: Failure, back_to: Bytes, at: Monotonic) {
        let twice = |fewer| back_off(fewer, MOST_PAINS).saturating_mul(2);
        let strikes = self.remembered(self.strikes, at, |_| FORGOTTEN);
        let pains = self.remembered(self.pains, at, |fewer| FORGOTTEN.max(twice(fewer)));
        (self.strikes, self.pains) = (strikes, pains);
        let (count, most) = match failure {
            Failure::Hurt(_) => (&mut self.pains, MOST_PAINS),
            _ => (&mut self.strikes, MOST_STRIKES),
        };
        let wait = back_off(*count, most);
        *count = count.saturating_add(1).min(most);
        self.trial = None;
        self.reached = None;
        self.deflation = None;
        self.undo = Some(Undo { to: back_to, failure });
        self.last_failure = Some(failure);
        self.until = Some(at.after(wait));
        self.trust = match failure {
            // Who was found out is not believed again for doing something else.
            _ if self.trust == Trust::Untrusted => Trust::Untrusted,
            Failure::NotFollowed { .. } | Failure::Deflated { .. } => Trust::Unresponsive,
            Failure::NotFreed { .. } => Trust::Untrusted,
            Failure::Silent | Failure::Hurt(_) => self.trust,
        };
    }
}

/// After so many failures that count, of which `most` have the longest.
fn back_off(count: u32, most: u32) -> Duration {
    BACK_OFF.saturating_mul(1 << count.min(most.saturating_sub(1)))
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
