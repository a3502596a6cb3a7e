//! What is known of every guest, folded from one sample after the other.

mod kills;
mod life;
mod promise;
mod words;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::conduct::{Conduct, FOLLOW_TOLERANCE, Seen};
use crate::contest::Contested;
use crate::dealings::{Beneath, Dealings};
use crate::evidence::Evidence;
use crate::policy::Adaptive;
use crate::reason::Pain;
use crate::roster::{Membership, Roster};
use crate::sample::{Balloon, GuestId, GuestSample, RunState, Sample};
use crate::turns::{Place, Seat};
use crate::units::{Bytes, Monotonic};

use kills::Lost;
use life::host_swaps;
pub use promise::ASSUMED_OVERHEAD;
pub(crate) use words::DISTRESS_USABLE_PERCENT;

/// What the kernel said of a guest longer than this before the host was read is of another moment.
const OF_ONE_MOMENT: Duration = Duration::from_secs(1);
/// By then the host's kernel has shown a guest's process, or something keeps it from that: all are looked at once each control
/// period, and a node with 110 guests that thrashes took seconds.
pub(crate) const FIRST_LOOK: Duration = Duration::from_secs(30);

/// Whose doing a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The guest was found with it.
    Found,
    /// A predecessor's, and it may not be the one in force.
    Supposed,
    /// Ours.
    Ours,
}

/// One guest over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and none excludes another")]
pub struct Track {
    /// The last reading.
    pub sample: GuestSample,
    /// What the roster says; absent if it is not listed.
    pub membership: Option<Membership>,
    /// What may be given back at most: what it held when it was adopted.
    pub ceiling: Bytes,
    /// Balloon target in force.
    pub target: Bytes,
    /// A larger target that it is being told, and may have by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Bytes>,
    /// Whose doing that target is.
    pub origin: Origin,
    /// What the guest holds; the last known while its hypervisor is silent.
    pub actual: Bytes,
    /// Its `MemTotal` was seen to shrink with its balloon (a guest whose balloon deflates on OOM keeps it).
    total_follows: bool,
    /// `MemTotal` of the host.
    host_total: Bytes,
    /// When the host was read.
    host_at: Monotonic,
    /// When the host's kernel showed its process last.
    pub shown_at: Option<Monotonic>,
    /// It was not touched, and its balloon moves all the same: somebody else is at it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moves: bool,
    /// Somebody else keeps lowering its balloon below its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contested: Option<Contested>,
    /// What its statistics are worth.
    pub evidence: Evidence,
    /// When its life began as far as the loop knows: first seen, or rebooted.
    pub alive_since: Monotonic,
    /// It rebooted and has not reported since.
    pub rebooted: bool,
    /// What its device said that it holds when that was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actual_at_reboot: Option<Bytes>,
    reboots: u32,
    /// How it hurts, if it does.
    pub pain: Option<Pain>,
    /// What it needs, remembered.
    pub demand: Bytes,
    /// It swapped out between its last two statistics: it has a swap, and that has room.
    #[serde(default)]
    pub swaps: bool,
    /// The host can still swap of it, and nobody evicts for that: what others lack need not be taken from it.
    #[serde(default)]
    pub host_swaps: bool,
    /// Whose turn it is, while guests need more than there is.
    pub turn: Option<Place>,
    /// What it had of its turns.
    pub(crate) seat: Option<Seat>,
    /// By how much more it used per second from its last but one statistics to its last.
    pub rise: Bytes,
    /// What it lost when its own kernel killed in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<Lost>,
    /// Memory of the guest's kernel that its `MemTotal` does not show.
    pub reserved: Bytes,
    /// `last_update` of the statistics that are in use.
    pub last_update: Option<u64>,
    /// Whether it does what takes expect of it.
    pub conduct: Conduct,
    /// How long its balloon took to follow, when it has just done so.
    pub followed_within: Option<Duration>,
    last_update_at: Option<Monotonic>,
    /// The last one that was read: a guest may reboot while its hypervisor is silent.
    last_balloon: Option<Balloon>,
    pain_at: Option<Monotonic>,
    /// When it was seen last to go on reading files with all its memory full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rereads_at: Option<Monotonic>,
}

/// All guests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    tracks: BTreeMap<GuestId, Track>,
}

/// What folding needs beside the sample.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Which guests the policy covers.
    pub roster: &'a Roster,
    /// What was done to guests: one without a target follows nothing but its `actual`, one without an original may have
    /// its full size.
    pub dealings: &'a Dealings,
    /// The balloons are shadows, which do all that is expected of them.
    pub observing: bool,
    /// All guests were asked just before.
    pub asked: bool,
    /// What guests are to be left.
    pub adaptive: &'a Adaptive,
    /// A kubelet evicts where the kernel would swap.
    pub evicts: bool,
}

impl Model {
    /// The guests in the order of their identities.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.values()
    }

    /// One guest.
    pub fn track(&self, id: &GuestId) -> Option<&Track> {
        self.tracks.get(id)
    }

    /// Pain that was seen from outside at `at`.
    pub fn note_pain(&mut self, id: &GuestId, pain: Pain, at: Monotonic) {
        if let Some(track) = self.tracks.get_mut(id) {
            if let Pain::Rereads { .. } = pain {
                track.rereads_at = Some(at);
                // What the host's kernel would swap out for it is touched less than the files that it reads again and again.
                if track.host_swaps {
                    track.demand = track.ceiling;
                }
                return;
            }
            track.demand = track.ceiling;
            // What is foreseen hides nothing that hurts already.
            if pain.is_foreseen() && track.pain.is_some_and(|known| !known.is_foreseen()) {
                return;
            }
            track.pain = Some(pain);
            track.pain_at = Some(at);
        }
    }

    /// The same, to be changed.
    pub(crate) fn tracks_mut(&mut self) -> impl Iterator<Item = &mut Track> {
        self.tracks.values_mut()
    }

    /// One guest, to be changed.
    pub(crate) fn track_mut(&mut self, id: &GuestId) -> Option<&mut Track> {
        self.tracks.get_mut(id)
    }

    /// False if `guest` is known as another process: it shares nothing with the former one but its identity.
    pub fn is_same_process(&self, guest: &GuestSample) -> bool {
        self.track(&guest.id).is_none_or(|track| track.is_process_of(guest))
    }

    /// The end of observing: what shadow balloons held says nothing of the real ones, which held `beneath`. What is known of
    /// those from before goes on: a balloon that does not follow is no better for having been watched.
    pub fn forget_shadows(&mut self, dealings: &Dealings) {
        for track in self.tracks.values_mut() {
            let held = dealings.of(&track.sample.id).map_or_else(Beneath::default, |dealing| dealing.beneath);
            track.actual = track.actual.max(track.sample.config.full).max(held.actual);
            track.sample.facts = held.facts.or(&track.sample.facts);
            track.conduct.begin_life_anew();
        }
    }

    /// A balloon target was set at `at`.
    pub fn note_target(&mut self, id: &GuestId, from: Bytes, to: Bytes, at: Monotonic) {
        let Some(track) = self.tracks.get_mut(id) else { return };
        let seen = track.seen(at);
        if to < from {
            track.conduct.took(from, to, &seen);
        } else if to > from {
            track.conduct.gave(from, to, &seen);
        }
        track.target = to;
    }

    /// Takes a sample in. A guest that is no longer listed is forgotten.
    pub fn fold(&mut self, sample: &Sample, context: Context<'_>) {
        for guest in &sample.guests {
            let track = match self.tracks.entry(guest.id.clone()) {
                Entry::Occupied(known) => {
                    let track = known.into_mut();
                    if track.is_process_of(guest) {
                        track.renew(guest, sample, context.adaptive);
                    } else {
                        *track = Track::new(guest, sample, context.adaptive);
                    }
                    track
                }
                Entry::Vacant(place) => place.insert(Track::new(guest, sample, context.adaptive)),
            };
            track.host_swaps = !context.evicts && host_swaps(&track.sample, sample);
            track.place(context);
            track.watch(sample.at, context);
        }
        // There are dealings with those of the sample alone: whoever has none is gone.
        if self.tracks.len() > context.dealings.count() {
            self.tracks.retain(|id, _| context.dealings.of(id).is_some());
        }
    }
}

impl Track {
    fn new(guest: &GuestSample, sample: &Sample, adaptive: &Adaptive) -> Self {
        let mut track = Self {
            sample: guest.clone(),
            membership: None,
            ceiling: guest.config.full,
            target: guest.config.full,
            asked: None,
            origin: Origin::Found,
            actual: guest.config.full,
            total_follows: false,
            host_total: sample.host.memory.total,
            host_at: sample.host_at(),
            shown_at: guest.shown_at(sample.at),
            moves: false,
            contested: None,
            evidence: Evidence::Missing,
            alive_since: sample.at,
            rebooted: false,
            actual_at_reboot: None,
            reboots: 0,
            pain: None,
            demand: Bytes::ZERO,
            swaps: false,
            host_swaps: false,
            turn: None,
            seat: None,
            rise: Bytes::ZERO,
            lost: None,
            reserved: Bytes::ZERO,
            last_update: None,
            conduct: Conduct::default(),
            followed_within: None,
            last_update_at: None,
            last_balloon: guest.balloon,
            pain_at: None,
            rereads_at: None,
        };
        if let Some(balloon) = guest.balloon {
            track.actual = guest.holds(&balloon);
            track.first_statistics(&balloon, sample, adaptive);
        }
        track
    }

    fn seen(&self, at: Monotonic) -> Seen {
        let (target, actual, pain) = (self.target, self.actual, self.pain);
        // What it held before it was asked says nothing about what it gave.
        let held = self.held().filter(|_| !self.is_dated()).map(|held| held.minus(self.plugged()));
        let heard = self.last_update_at.filter(|_| self.evidence.fresh().is_some());
        let (squeezed, waits) = (self.is_squeezed(), self.waits());
        Seen { at, target, actual, squeezed, waits, held, pain, heard, asked: false }
    }

    /// What is known of its processes is older than what is known of the host: what they hold may be more or less by now.
    pub fn is_dated(&self) -> bool {
        let of_one_moment = |shown: Monotonic| self.host_at.since(shown) <= OF_ONE_MOMENT;
        self.sample.facts.anon.is_some() && !self.shown_at.is_some_and(of_one_moment)
    }

    /// The host's kernel has not shown its process yet, and may be about to: what it holds looks like memory of the node's own.
    pub fn is_unseen(&self) -> bool {
        self.sample.facts.anon.is_none() && self.host_at.since(self.alive_since) < FIRST_LOOK
    }

    /// Its target is our doing, or our predecessor's.
    pub fn is_ours(&self) -> bool {
        self.origin != Origin::Found
    }

    /// It holds less than it may have, by our doing; a take that was thought to have failed may have had effect.
    pub fn is_squeezed(&self) -> bool {
        self.target < self.ceiling || (self.is_ours() && self.actual.plus(FOLLOW_TOLERANCE) < self.ceiling)
    }

    /// It holds less than its target: a command may have been lost, or come late.
    pub fn lags_behind(&self) -> bool {
        self.origin == Origin::Ours && self.is_reachable() && !self.has_arrived()
    }

    /// It holds what its target leaves it, or more. After a reboot the device may go on saying what the last kernel's balloon
    /// held, for a driver that finds nothing to do says nothing (`virtballoon_probe`, `update_balloon_size_func` in
    /// `drivers/virtio/virtio_balloon.c`): as long as that does not change, it says nothing.
    pub fn has_arrived(&self) -> bool {
        let is_the_last_ones = self.rebooted && self.actual_at_reboot == Some(self.actual);
        is_the_last_ones || self.actual.plus(FOLLOW_TOLERANCE) >= self.target
    }

    /// Its target is in force, it runs, and its driver was heard of: if it does not follow, somebody keeps it from that.
    pub fn follows_if_it_can(&self) -> bool {
        let runs = self.sample.run_state == RunState::Running && !self.rebooted;
        runs && self.origin == Origin::Ours && self.evidence.fresh().is_some()
    }

    /// Others are served, and it keeps what it was promised.
    pub fn waits(&self) -> bool {
        self.turn == Some(Place::Waits)
    }

    /// It rebooted since it was first seen.
    pub fn rebooted_ever(&self) -> bool {
        self.reboots > 0
    }

    /// Its hypervisor answers.
    pub fn is_reachable(&self) -> bool {
        self.sample.run_state != RunState::Unreachable
    }
}
