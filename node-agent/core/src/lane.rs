//! The fast lane's eyes: what a poll between two decisions looks at, and when it is worth a turn out of schedule.
//!
//! Cheap by design: counters that the kernel keeps anyway, no call to a hypervisor.
//!
//! What fills is seen by pages that become resident, so only where they were not. Without free page reporting a guest that
//! once touched its memory refills what it freed, and what its page cache held, while its process stays as large as it is:
//! of that its own words tell alone, each second.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::emergency;
use crate::ledger::Ledger;
use crate::model::{DISTRESS_USABLE_PERCENT, Track};
use crate::reason::Pain;
use crate::sample::{GuestId, HostSample};
use crate::units::{Bytes, Monotonic, Permille};

/// How often the host and squeezed guests are looked at between two decisions.
pub const POLL: Duration = Duration::from_millis(200);
/// A loss of available memory below this part of the host's is noise.
const LOSS: Permille = Permille::new(10);
/// A guest's processes hold this much of what its balloon leaves it: it has nothing untouched left.
const SATURATED: Permille = Permille::new(950);
/// Reading this much per second from its disks while saturated is what refaults and swap-in look like from outside: a
/// cache-heavy start reads more, but not while nothing is usable.
const READ_BURST: Bytes = Bytes::from_mib(4);
/// Where the host can swap instead, reading so much per second again and again is worth as much memory as it takes: as much as hurts when
/// it is read back from swap.
const READ_AGAIN: Bytes = Bytes::from_kib(256);
/// A guest that said lately that this part of its memory is usable is reading files, not suffering.
const USABLE: Permille = Permille::new(200);
/// A guest that would fill what it says is usable within this is helped before it hurts: at full speed that is over
/// before its next statistics come. The command takes one poll, donors and its balloon take most of the rest
/// (`docs/measurements.md`).
const AHEAD_MILLIS: u64 = 1000;
/// Filling that is slower is heard in time from the statistics of each second.
const FILLING: Bytes = Bytes::from_mib(32);
/// Who goes on hurting is decided on again after it. What one turn gave takes as long to show, and who thrashes may send no words.
const AGAIN: Duration = Duration::from_secs(1);
/// Reading that lasts so long, with no longer pause than this, is no start of a program.
const GOES_ON: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// A guest whose kernel has less than this part free has filled what it has: kernels keep that much for themselves.
const FREE: Permille = Permille::new(50);
/// Rates over less than this are noise.
const SHORTEST: Duration = Duration::from_millis(100);

/// What the host's kernel says of a guest's process between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glimpse {
    /// Resident size.
    pub resident: Bytes,
    /// Bytes read from storage since its start.
    pub read: Bytes,
}

/// True if the host lost enough since the last decision that it should decide now.
pub fn host_alarm(before: &HostSample, now: &HostSample, last: &Ledger, eviction: Bytes) -> bool {
    let (old, new) = (&before.memory, &now.memory);
    let line = old.total.share(LOSS);
    let pools = new.hugetlb.minus(old.hugetlb).plus(old.total.minus(new.total));
    let gone = old.available.minus(new.available);
    let strained = gone > last.spare.scaled(1, 2).max(line);
    let turned = emergency::distressed(now, eviction) && !emergency::distressed(before, eviction);
    pools > line || strained || turned
}

/// Remembers what was last seen of each guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    last: BTreeMap<GuestId, Seen>,
}

/// A look at a guest, and the one before its last statistics were known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    at: Monotonic,
    glimpse: Glimpse,
    words: Option<u64>,
    at_words: Glimpse,
    /// What its balloon left it when it spoke.
    actual_at_words: Bytes,
    /// When its pain was last worth a turn.
    told: Option<Monotonic>,
    /// Since when it reads with all its memory full, and when it did last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reads: Option<(Monotonic, Monotonic)>,
}

/// What a look at a guest shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Felt {
    /// How it hurts.
    pub pain: Pain,
    /// It is worth a turn now.
    pub news: bool,
}

impl Lane {
    /// Looks at one squeezed guest; says how it hurts if that can be seen from outside.
    pub fn look(&mut self, track: &Track, glimpse: Glimpse, at: Monotonic) -> Option<Felt> {
        let words = track.last_update;
        let at_words = glimpse;
        let new =
            Seen { at, glimpse, words, at_words, actual_at_words: track.actual, told: None, reads: None };
        let last = self.last.entry(track.sample.id.clone()).or_insert(new);
        // What it took since it was looked at last may be newer than its words.
        let (at_words, actual_at_words) = if last.words == words {
            (last.at_words, last.actual_at_words)
        } else {
            (last.glimpse, track.actual)
        };
        let reads = last.reads.filter(|(_, then)| at.since(*then) < GOES_ON.1);
        let mut seen = Seen { at_words, actual_at_words, told: last.told, reads, ..new };
        let (rate, pain) = (seen.reading(last, track), seen.pain(last, track));
        if rate.is_some() {
            seen.reads = Some((reads.map_or(at, |(since, _)| since), at));
        }
        *last = seen;
        let again = seen.told.is_none_or(|told| at.since(told) >= AGAIN);
        // That others have memory of no use to them waits for the next tick.
        let goes_on = seen.reads.is_some_and(|(since, _)| at.since(since) >= GOES_ON.0);
        let rereads = rate.filter(|_| goes_on && again).map(|per_second| Pain::Rereads { per_second });
        let news = pain.is_some() && (track.pain.is_none() || again);
        let pain = pain.or(rereads)?;
        if news || matches!(pain, Pain::Rereads { .. }) {
            last.told = Some(at);
        }
        Some(Felt { pain, news })
    }

    /// Forgets guests that are not looked at any more.
    pub fn keep(&mut self, still: impl Fn(&GuestId) -> bool) {
        self.last.retain(|id, _| still(id));
    }
}

impl Seen {
    /// Milliseconds since the look before; absent where they are too few to tell, or nothing was taken.
    fn judged_over(&self, before: &Self, track: &Track) -> Option<u64> {
        let elapsed = self.at.since(before.at);
        let is_judged = elapsed >= SHORTEST && track.is_squeezed();
        is_judged.then(|| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// What it read per second since then.
    fn read_since(&self, before: &Self, millis: u64) -> Bytes {
        self.glimpse.read.minus(before.glimpse.read).scaled(1000, millis)
    }

    /// What it reads per second while all its memory is full of files, by its own words.
    fn reading(&self, before: &Self, track: &Track) -> Option<Bytes> {
        let read = self.read_since(before, self.judged_over(before, track)?);
        let full = track.evidence.fresh().is_some_and(|words| words.unused < words.total.share(FREE));
        let line = if track.host_swaps { READ_AGAIN } else { READ_BURST };
        Some(read).filter(|read| full && says_usable(track) && *read >= line)
    }

    /// How the guest hurts, by what changed since the look before. That it waits for what the host swapped out is no such pain: its
    /// balloon has not taken that, and cannot give it back.
    fn pain(&self, before: &Self, track: &Track) -> Option<Pain> {
        let (old, new) = (&before.glimpse, &self.glimpse);
        let millis = self.judged_over(before, track)?;
        let filling = filled(old, new).scaled(1000, millis);
        let taken = if track.is_bound() { self.actual_at_words.minus(track.target) } else { Bytes::ZERO };
        if will_hurt(track, filling, filled(&self.at_words, new), taken) {
            return Some(Pain::Filling { per_second: filling });
        }
        if says_usable(track) {
            return None;
        }
        let read = self.read_since(before, millis);
        let guest = new.resident.minus(track.overhead());
        let all = track.actual.plus(track.plugged());
        (guest >= all.share(SATURATED) && read >= READ_BURST).then_some(Pain::DiskReads { per_second: read })
    }
}

/// What came into its processes that it did not read from somewhere: page cache is no need.
fn filled(old: &Glimpse, new: &Glimpse) -> Bytes {
    new.resident.minus(old.resident).minus(new.read.minus(old.read))
}

/// What was usable when it spoke last is gone soon. What is `taken` from it since then, or will have been once its balloon
/// has followed, counts twice: that is gone, and as much may have been filled unseen, for the balloon made its process
/// smaller meanwhile. Where it fills no faster than its balloon grows, its own words tell.
fn will_hurt(track: &Track, filling: Bytes, since_words: Bytes, taken: Bytes) -> bool {
    let Some(words) = track.evidence.fresh() else { return false };
    let line = words.total.scaled(DISTRESS_USABLE_PERCENT, 100);
    let left = words.usable.minus(since_words).minus(taken.scaled(2, 1)).minus(line);
    filling >= FILLING && left < filling.scaled(AHEAD_MILLIS, 1000)
}

fn says_usable(track: &Track) -> bool {
    track.evidence.fresh().is_some_and(|s| s.usable > s.total.share(USABLE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{HostMemory, Pressure};

    fn host(available: u64, hugetlb: u64, stalled: u32) -> HostSample {
        let (total, mib) = (Bytes::from_mib(10_000), Bytes::from_mib);
        let memory =
            HostMemory { total, available: mib(available), hugetlb: mib(hugetlb), ..HostMemory::default() };
        let pressure = Some(Pressure { some_avg10: 0, full_avg10: stalled });
        HostSample { memory, pressure, ..HostSample::default() }
    }

    #[test]
    fn a_loss_that_the_spare_memory_does_not_cover_twice_is_an_alarm() {
        let ledger = Ledger { spare: Bytes::from_mib(1000), ..Ledger::default() };
        let alarm = |now: &HostSample| host_alarm(&host(5000, 0, 0), now, &ledger, Bytes::from_mib(100));
        assert!(!alarm(&host(4500, 0, 0)), "half of the spare memory");
        assert!(alarm(&host(4499, 0, 0)));
        assert!(alarm(&host(5000, 200, 0)), "a huge page pool grew");
        assert!(alarm(&host(550, 0, 0)), "gone");
        assert!(!alarm(&host(6000, 0, 0)));
    }
}
