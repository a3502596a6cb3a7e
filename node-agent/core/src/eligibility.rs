//! Whether a guest may be touched at all, and whether anything may be taken from it now (invariants 2 and 5).

use std::time::Duration;

use crate::conduct::Trust;
use crate::evidence::Evidence;
use crate::model::{Origin, Track};
use crate::policy::{Class, Policy};
use crate::reason::{Hold, Reason};
use crate::roster::OptOut;
use crate::sample::RunState;
use crate::units::Monotonic;

/// A guest that has just booted still grows: nothing is taken before this.
pub const BOOT_GRACE: Duration = Duration::from_secs(30);
/// The host's kernel is asked each control period: that it missed three is no accident.
const FACTS_PERIODS: u32 = 3;
/// However short the period, a busy node may be late by some seconds.
const SHORTEST_FACTS_PATIENCE: Duration = Duration::from_secs(10);

/// What may be done with a guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing<'a> {
    /// Never touched; whatever was taken is given back.
    Exempt(Reason),
    /// Nothing may be taken now; giving goes on.
    GiveOnly(&'a Class, Hold),
    /// May give.
    Open(&'a Class),
}

impl<'a> Standing<'a> {
    /// The guest's class, unless it is exempt.
    pub fn class(&self) -> Option<&'a Class> {
        match self {
            Self::Exempt(_) => None,
            Self::GiveOnly(class, _) | Self::Open(class) => Some(class),
        }
    }
}

/// What may be done with `track` at `now`.
pub fn standing<'a>(track: &Track, policy: &'a Policy, now: Monotonic) -> Standing<'a> {
    match exemption(track) {
        Some(reason) => Standing::Exempt(reason),
        None => match class_of(track, policy) {
            None => Standing::Exempt(Reason::Unlisted),
            Some(class) if class.exclude => Standing::Exempt(Reason::OptOut(OptOut::Class)),
            Some(class) => match hold(track, policy, now) {
                Some(hold) => Standing::GiveOnly(class, hold),
                None => Standing::Open(class),
            },
        },
    }
}

fn class_of<'a>(track: &Track, policy: &'a Policy) -> Option<&'a Class> {
    policy.class(track.membership.as_ref()?.class.as_ref()?)
}

fn exemption(track: &Track) -> Option<Reason> {
    if let Some(opt_out) = track.membership.as_ref().and_then(|m| m.opt_out) {
        return Some(Reason::OptOut(opt_out));
    }
    if let Some(fact) = track.sample.config.untouchable.first() {
        return Some(Reason::Untouchable(*fact));
    }
    if !track.sample.config.has_balloon {
        return Some(Reason::NoBalloon);
    }
    if track.membership.is_none() {
        return Some(Reason::Unlisted);
    }
    None
}

fn hold(track: &Track, policy: &Policy, now: Monotonic) -> Option<Hold> {
    match track.sample.run_state {
        RunState::Unreachable | RunState::Busy => return Some(Hold::Busy),
        RunState::Paused => return Some(Hold::Paused),
        RunState::Running => {}
    }
    // Its hypervisor answers, and not about its balloon: what is known of it is of another turn.
    if track.sample.balloon.is_none() {
        return Some(Hold::AwaitingStatistics);
    }
    if track.membership.as_ref().is_some_and(|m| m.migrating) {
        return Some(Hold::Migrating);
    }
    // Less than a target that is not in force may be more than it holds.
    if track.origin == Origin::Supposed {
        return Some(Hold::Adopting);
    }
    if track.sample.config.plugging {
        return Some(Hold::Plugging);
    }
    if !is_proven(track) {
        return Some(Hold::Unproven);
    }
    let facts_age = track.shown_at.map_or(Duration::ZERO, |shown| now.since(shown));
    if facts_age > facts_patience(policy.interval) {
        return Some(Hold::OldFacts { age: facts_age });
    }
    match track.evidence {
        Evidence::Missing if track.rebooted => return Some(Hold::Booting),
        Evidence::Missing => return Some(Hold::NoStatistics),
        Evidence::Stale { age } => return Some(Hold::StaleStatistics { age }),
        Evidence::Impossible => return Some(Hold::ImpossibleStatistics),
        Evidence::Fresh(_) => {}
    }
    if now.since(born(track)) < BOOT_GRACE {
        return Some(Hold::Booting);
    }
    if let Some((left, failure)) = track.conduct.back_off(now) {
        return Some(Hold::BackingOff { left, failure });
    }
    // Nothing is to be had from it, whatever it says: it is not even tried.
    if track.conduct.trust() == Trust::Untrusted {
        return Some(Hold::Untrusted);
    }
    if track.contested.is_some() {
        return Some(Hold::BalloonMoves);
    }
    track.conduct.is_stuck(now).then_some(Hold::NotFollowing)
}

/// In a cluster a floor and an exemption rest on what the kernel says of the pod: without that nothing is taken. Elsewhere
/// it must at least have been asked, and have answered.
fn is_proven(track: &Track) -> bool {
    let in_cluster = track.sample.name.namespace.is_some();
    let shown = || track.sample.incarnation.is_some() && track.sample.facts.request.is_some();
    track.sample.facts_age.is_some() && (!in_cluster || shown())
}

/// How old what the kernel says of a guest may be for a take, at the given control period: its floor, its limit and what
/// the take is to free are judged by it.
pub fn facts_patience(interval: Duration) -> Duration {
    interval.saturating_mul(FACTS_PERIODS).max(SHORTEST_FACTS_PATIENCE)
}

/// When the guest's present life began: its last reboot, or the start of its process where that is known.
fn born(track: &Track) -> Monotonic {
    match track.sample.incarnation {
        Some(process) if !track.rebooted_ever() => process.started(),
        _ => track.alive_since,
    }
}
