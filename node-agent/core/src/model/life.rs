//! A guest from one reading to the next: what goes on, what begins anew, and what is only not seen for a while.

use std::time::Duration;

use super::{Context, Origin, Track, words};
use crate::conduct::Seen;
use crate::dealings::Force;
use crate::eligibility::BOOT_GRACE;
use crate::evidence::{self, Evidence};
use crate::policy::Adaptive;
use crate::sample::{Balloon, GuestSample, Incarnation, RunState, Sample, Untouchable};
use crate::turns::Seat;
use crate::units::{Bytes, Monotonic};

/// A stamp so far ahead of the clock is of before the clock was set back: both are whole seconds of one host.
const CLOCKS_DIFFER: Duration = Duration::from_secs(2);

/// Swap has room, and the limits of its pod as well.
pub(super) fn host_swaps(guest: &GuestSample, sample: &Sample) -> bool {
    !sample.host.memory.swap_free.is_zero() && guest.facts.swappable != Some(Bytes::ZERO)
}

impl Track {
    /// The first statistics of a guest: their stamp is compared with the wall clock, once.
    pub(super) fn first_statistics(&mut self, balloon: &Balloon, sample: &Sample, adaptive: &Adaptive) {
        if let Some(stamp) = balloon.last_update.filter(|s| *s > 0) {
            let stamped = Duration::from_secs(stamp);
            let at = sample.at.since_origin().saturating_sub(sample.wall.saturating_sub(stamped));
            self.last_update = Some(stamp);
            // The clock was set back since: nobody knows how old they are.
            let is_known = stamped <= sample.wall.saturating_add(CLOCKS_DIFFER);
            self.last_update_at = is_known.then_some(Monotonic::new(at));
            self.rebooted &= !is_known;
        }
        self.weigh(balloon, true, sample.at, adaptive);
    }

    /// What the policy and the loop's own doing make of it.
    pub(super) fn place(&mut self, context: Context<'_>) {
        let Context { roster, dealings, observing, .. } = context;
        let membership = roster.membership(&self.sample);
        if self.membership.as_ref() != membership {
            self.membership = membership.cloned();
        }
        let dealing = dealings.of(&self.sample.id);
        let full = self.sample.config.full;
        self.ceiling = dealing.and_then(|d| d.original).map_or(full, |original| original.target.min(full));
        let target = dealing.and_then(|d| if observing { d.shadow } else { d.target });
        self.origin = match target {
            None => Origin::Found,
            Some(_) if dealing.is_some_and(|d| d.force == Force::Supposed) => Origin::Supposed,
            Some(_) => Origin::Ours,
        };
        // By now the loop may have told it to.
        self.moves &= self.origin == Origin::Found;
        self.target = target.unwrap_or(self.actual);
        self.asked = dealing.and_then(|d| d.asked).filter(|_| !observing);
        self.contested = dealing.and_then(|d| d.contest.contested()).filter(|_| !observing && !self.rebooted);
    }

    /// Judges whether it does what takes expect of it.
    pub(super) fn watch(&mut self, now: Monotonic, Context { observing, asked, .. }: Context<'_>) {
        let seen = Seen { asked, ..self.seen(now) };
        let looked_at = self.sample.balloon.is_some()
            && self.sample.run_state == RunState::Running
            && self.origin != Origin::Supposed;
        self.followed_within = None;
        if !looked_at {
            self.conduct.look_away();
        } else if !self.rebooted && !observing {
            self.followed_within = self.conduct.observe(&seen);
        }
    }

    pub(super) fn renew(&mut self, guest: &GuestSample, sample: &Sample, adaptive: &Adaptive) {
        let (facts, incarnation) = (self.sample.facts, self.sample.incarnation);
        if guest.incarnation.is_some() {
            self.sample.clone_from(guest);
        } else {
            let untouchable = std::mem::take(&mut self.sample.config.untouchable);
            self.sample.clone_from(guest);
            self.keep_what_the_host_showed(incarnation, untouchable);
        }
        self.host_total = sample.host.memory.total;
        self.host_at = sample.host_at();
        self.sample.facts = guest.facts.or(&facts);
        self.shown_at = guest.shown_at(sample.at).or(self.shown_at);
        let Some(balloon) = guest.balloon else {
            self.age(sample.at);
            return;
        };
        let mut old = self.last_balloon.replace(balloon).unwrap_or_default();
        let held = std::mem::replace(&mut self.actual, guest.holds(&balloon));
        self.moves = self.origin == Origin::Found && held != self.actual;
        if rebooted(&old, &balloon) {
            self.begin_life_anew(sample.at);
            // What the last kernel said last is nothing that this one lost or grew by.
            old = Balloon::default();
        }
        let stamp = balloon.last_update.filter(|s| *s > 0);
        if self.last_update.is_none() {
            // Known for a while, heard of for the first time: how old these are nobody saw.
            self.first_statistics(&balloon, sample, adaptive);
            return;
        }
        let came = stamp.is_some() && stamp != self.last_update;
        if came {
            let elapsed =
                self.last_update_at.map(|at| words::apart(self.last_update, stamp, sample.at.since(at)));
            self.last_update = stamp;
            self.last_update_at = Some(sample.at);
            self.notice_total(&balloon, sample.at);
            self.feel(&old, &balloon, elapsed, sample.at, adaptive);
            self.learn_reserved(&old, &balloon);
        }
        self.weigh(&balloon, came, sample.at, adaptive);
    }

    /// What the host could not show this time holds on: it is the same guest until another process is seen. What its
    /// definition says by now comes on top.
    fn keep_what_the_host_showed(&mut self, process: Option<Incarnation>, untouchable: Vec<Untouchable>) {
        self.sample.incarnation = process;
        let now = std::mem::replace(&mut self.sample.config.untouchable, untouchable);
        for fact in now {
            if !self.sample.config.untouchable.contains(&fact) {
                self.sample.config.untouchable.push(fact);
            }
        }
    }

    /// After a reboot the device says what the last kernel's balloon held until the new one's driver inflates; until
    /// then its `MemTotal` is larger than that. Plugged memory, which is in it, is gone after a reboot and comes back: for
    /// as long as that takes nothing can be told.
    fn notice_total(&mut self, balloon: &Balloon, at: Monotonic) {
        let Some(total) = balloon.available else { return };
        let plugged = self.plugged();
        let settled = plugged.is_zero() || at.since(self.alive_since) >= BOOT_GRACE;
        let within = settled && total.minus(plugged) <= balloon.actual;
        self.total_follows |= within && balloon.actual < self.sample.config.full;
        self.rebooted &= !within && self.total_follows;
    }

    pub(super) fn begin_life_anew(&mut self, at: Monotonic) {
        self.rebooted = true;
        self.actual_at_reboot = Some(self.actual);
        self.reboots = self.reboots.saturating_add(1);
        self.alive_since = at;
        self.last_update_at = None;
        (self.pain, self.rereads_at) = (None, None);
        self.demand = Bytes::ZERO;
        (self.swaps, self.turn) = (false, None);
        self.seat = self.seat.map(Seat::begin_life_anew);
        (self.rise, self.lost) = (Bytes::ZERO, None);
        self.conduct.begin_life_anew();
    }

    fn age(&mut self, at: Monotonic) {
        if let (Some(came), Evidence::Fresh(_) | Evidence::Stale { .. }) =
            (self.last_update_at, self.evidence)
        {
            let age = at.since(came);
            let period = self.last_balloon.and_then(|b| b.period);
            if age > evidence::patience(period) {
                self.evidence = Evidence::Stale { age };
            }
        }
    }

    pub(super) fn is_process_of(&self, guest: &GuestSample) -> bool {
        guest.may_be(self.sample.incarnation)
    }
}

/// Counters that ran backwards: a new kernel counts from zero. (Minor faults grow in any living guest, so they
/// notice a reboot that swaps nothing.)
fn rebooted(old: &Balloon, new: &Balloon) -> bool {
    let backwards = |old: Option<u64>, new: Option<u64>| matches!((old, new), (Some(o), Some(n)) if n < o);
    backwards(old.minor_faults, new.minor_faults)
        || backwards(old.major_faults, new.major_faults)
        || backwards(old.swap_in.map(Bytes::get), new.swap_in.map(Bytes::get))
}
