//! What a guest's own statistics say of it: whether it hurts, what it needs, what it uses.

use std::time::Duration;

use super::Track;
use crate::evidence::{self, Evidence};
use crate::floor::Headroom;
use crate::policy::Adaptive;
use crate::reason::Pain;
use crate::sample::Balloon;
use crate::units::{Bytes, Monotonic, Permille};

/// Usable memory below this part of the guest's total is distress; KubeVirt alerts at the same line
/// (`KubeVirtVMGuestMemoryPressure`, 5 %).
pub(crate) const DISTRESS_USABLE_PERCENT: u64 = 5;
/// Reading back this much per second from swap is pain, not noise.
const DISTRESS_SWAP_IN: Bytes = Bytes::from_kib(256);
/// Major faults per second that hurt; below it is start-up of programs.
const DISTRESS_MAJOR_FAULTS: u64 = 100;
/// Major faults mean pain only while little is usable; with plenty they are ordinary file reads.
const FAULTS_COUNT_BELOW_USABLE_PERCENT: u64 = 25;
/// Pain is believed this long after it was last seen: statistics come in whole seconds, pain in bursts.
const PAIN_HOLD: Duration = Duration::from_secs(10);
/// How far ahead a guest that grows is looked: its next statistics come after a second, and its balloon follows within
/// another.
pub(super) const AHEAD_SECONDS: u64 = 2;
/// A demand once seen fades by this part with each new statistics, so that a cap does not become its own proof; not with each
/// turn: those that others bring about are no word of this guest.
const DEMAND_FADE: u64 = 16;
/// The same while the host can swap, so that half of it is left after three minutes: nothing is at stake then but work, and a guest whose
/// use goes up and down within minutes loses more of that each time it has to swap by itself than its neighbours gain.
const SLOW_DEMAND_FADE: u64 = 256;
/// No two statistics of a guest are closer: its timer starts anew with each that comes, and counts whole seconds
/// (`virtio_balloon_receive_stats`, `balloon_stats_change_timer`, hw/virtio/virtio-balloon.c in QEMU).
const CLOSEST: Duration = Duration::from_secs(1);

impl Track {
    /// Judges what the guest says, which is new or was heard before. Who gets its memory back is asked as seldom as it was
    /// before: that a longer period allows older words makes those no younger that were too old already.
    pub(super) fn weigh(&mut self, balloon: &Balloon, new: bool, at: Monotonic, adaptive: &Adaptive) {
        let age = self.last_update_at.map(|came| at.since(came));
        let was_stale = matches!(self.evidence, Evidence::Stale { .. });
        self.evidence = match (evidence::judge(balloon, age), age) {
            _ if balloon.actual > self.sample.config.full => Evidence::Impossible,
            (Evidence::Fresh(_), Some(age)) if was_stale && !new => Evidence::Stale { age },
            (judged, _) => judged,
        };
        if self.pain_at.is_some_and(|felt| at.since(felt) > PAIN_HOLD) {
            self.pain = None;
            self.pain_at = None;
        }
        let Some(used) = self.used() else { return };
        let need = match self.pain {
            Some(_) => self.ceiling,
            None => with_headroom(used, adaptive.headroom).max(self.soon(used)),
        };
        let need = need.max(self.lost(at));
        let slowness = if self.host_swaps { SLOW_DEMAND_FADE } else { DEMAND_FADE };
        let fade = if new { self.demand.minus(need).scaled(1, slowness) } else { Bytes::ZERO };
        // What a guest grows by in a moment, carried on, may be more than there is: nobody needs more than it may have.
        self.demand = self.demand.minus(fade).max(need).min(self.ceiling);
    }

    /// Judges new statistics against the last ones, which came `elapsed` before at least.
    pub(super) fn feel(
        &mut self,
        old: &Balloon,
        new: &Balloon,
        elapsed: Option<Duration>,
        at: Monotonic,
        adaptive: &Adaptive,
    ) {
        let (Some(total), Some(usable)) = (new.available, new.usable.or(new.unused)) else { return };
        let percent = |n: u64| total.scaled(n, 100);
        let millis = elapsed.map_or(0, |e| u64::try_from(e.as_millis()).unwrap_or(u64::MAX));
        let per_second = |grown: u64| grown.saturating_mul(1000).checked_div(millis).unwrap_or(0);
        self.lost = self.lost_between(old, new, elapsed, at);
        self.rise = Bytes::new(per_second(grown(used(old).map(Bytes::get), used(new).map(Bytes::get))));
        let swap_in = Bytes::new(per_second(grown(old.swap_in.map(Bytes::get), new.swap_in.map(Bytes::get))));
        self.swaps = grown(old.swap_out.map(Bytes::get), new.swap_out.map(Bytes::get)) > 0;
        let faults = per_second(grown(old.major_faults, new.major_faults));
        // Who is left less by its policy reads its files with less, and is not hurt by that.
        let few = percent(FAULTS_COUNT_BELOW_USABLE_PERCENT).min(total.share(adaptive.headroom));
        let pain = if usable < percent(DISTRESS_USABLE_PERCENT) {
            Some(Pain::LowUsable { usable })
        } else if swap_in >= DISTRESS_SWAP_IN {
            Some(Pain::SwapIn { per_second: swap_in })
        } else if faults >= DISTRESS_MAJOR_FAULTS && usable < few {
            Some(Pain::MajorFaults { per_second: faults })
        } else {
            None
        };
        if pain.is_some() {
            self.pain = pain;
            self.pain_at = Some(at);
        }
    }

    /// What it needs so that it is not squeezed before it is heard and helped, if it goes on growing as it did between its
    /// last two statistics. A quarter that is usable is filled within a second by a guest that reads or allocates at full
    /// speed: without this it is killed by its own kernel before its next words come.
    /// Then it should still have usable what its floor keeps for it.
    pub(super) fn soon(&self, used: Bytes) -> Bytes {
        self.grown(used, Headroom::Regular)
    }

    fn grown(&self, used: Bytes, headroom: Headroom) -> Bytes {
        headroom.around(used.plus(self.rise.scaled(AHEAD_SECONDS, 1)))
    }

    /// The same, of what it uses now, with that headroom; nothing while nobody knows.
    pub(crate) fn foreseen(&self, headroom: Headroom) -> Bytes {
        self.used().map_or(Bytes::ZERO, |used| self.grown(used, headroom))
    }

    /// While the balloon rests, `actual` less `MemTotal` is what the guest's kernel keeps for itself.
    pub(super) fn learn_reserved(&mut self, old: &Balloon, new: &Balloon) {
        if old.actual == new.actual
            && let Some(total) = new.available
        {
            let eighth = self.sample.config.full.scaled(1, 8);
            self.reserved = self.reserved.max(new.actual.minus(total).min(eighth));
        }
    }

    /// It lacks nothing but room for files that it goes on reading.
    pub(crate) fn rereads(&self, now: Monotonic) -> bool {
        let lately = self.rereads_at.is_some_and(|seen| now.since(seen) <= PAIN_HOLD);
        lately && self.pain.is_none() && self.turn.is_none() && self.evidence.fresh().is_some()
    }

    /// What the guest cannot do without, by its own words: everything that is not usable. Plugged memory is no substitute
    /// for what a balloon can take: a kernel keeps nothing of its own there.
    pub fn used(&self) -> Option<Bytes> {
        let statistics = self.evidence.fresh()?;
        Some(statistics.total.minus(statistics.usable).plus(self.reserved))
    }

    /// What the guest has something in: everything that is not free.
    pub fn filled(&self) -> Option<Bytes> {
        let statistics = self.evidence.fresh()?;
        Some(statistics.total.minus(statistics.unused).plus(self.reserved))
    }

    /// How old its last statistics are; absent if none came.
    pub fn statistics_age(&self, now: Monotonic) -> Option<Duration> {
        self.last_update_at.map(|came| now.since(came))
    }
}

/// What of its total is not usable.
pub(super) fn used(balloon: &Balloon) -> Option<Bytes> {
    Some(balloon.available?.minus(balloon.usable.or(balloon.unused)?))
}

/// What a guest should have that uses so much, for that part of it to be usable.
fn with_headroom(used: Bytes, headroom: Permille) -> Bytes {
    let whole = Permille::from_percent(100);
    let busy = u64::from(whole.get().saturating_sub(headroom.get()));
    // Where nothing may be used nobody has enough.
    if busy == 0 { Bytes::MAX } else { used.scaled(u64::from(whole.get()), busy) }
}

/// Time between statistics of these stamps that were seen so long after each other, at least: the first may have been seen
/// late, and stamps are whole seconds.
pub(super) fn apart(old: Option<u64>, new: Option<u64>, seen: Duration) -> Duration {
    let stamps = new.zip(old).map_or(0, |(new, old)| new.saturating_sub(old));
    seen.max(Duration::from_secs(stamps.saturating_sub(1))).max(CLOSEST)
}

pub(super) fn grown(old: Option<u64>, new: Option<u64>) -> u64 {
    match (old, new) {
        (Some(old), Some(new)) => new.saturating_sub(old),
        _ => 0,
    }
}
