//! What a guest's own kernel killed in it, as far as its statistics let that be guessed: those that libvirt hands on do not
//! tell it, and who was killed says that it uses next to nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Track;
use super::words::{AHEAD_SECONDS, DISTRESS_USABLE_PERCENT, grown, used};
use crate::sample::Balloon;
use crate::units::{Bytes, Monotonic};

/// What was needed when a guest's own kernel killed is needed again by then if something starts it anew: at once (systemd's
/// `RestartSec` is 100 ms) or with a back-off of a minute; and who starts it anew is killed within a moment where it is not
/// there, before any statistics tell of it. Not longer, for who ended by himself while memory was scarce looks the same.
const LOST_HOLD: Duration = Duration::from_mins(2);
/// Who was killed again needs more than it had, nobody saw how much more: a quarter each time.
const MORE: (u64, u64) = (5, 4);
/// What fills a page of 4 KiB is a fault, but not each fault fills one: pages that are shared count as well, and one that
/// brings a huge page counts once (`PGFAULT`, mm/memory.c). So faults are no more than a hint.
const FAULT: u64 = 4096;
/// Who filled so much of what it had usable was about to run out; of what it filled less than the rest is left.
const FILLED: (u64, u64) = (3, 4);
/// Statistics that are further apart tell nothing by faults: within minutes everybody fills as much as it has.
const SOON: Duration = Duration::from_secs(3);

/// What a guest needed when its own kernel killed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lost {
    need: Bytes,
    /// What it had when that was not enough.
    #[serde(default)]
    had: Bytes,
    at: Monotonic,
}

impl Track {
    /// What it needs by what its kernel killed in it, after these two statistics.
    pub(super) fn lost_between(
        &self,
        old: &Balloon,
        new: &Balloon,
        elapsed: Option<Duration>,
        at: Monotonic,
    ) -> Option<Lost> {
        let had = old.available.unwrap_or_default();
        let filled_all = elapsed.is_some_and(|elapsed| elapsed <= SOON) && filled_all(old, new);
        if let Some(was) = self.killed_for(old, new, filled_all) {
            return Some(Lost { need: self.soon(was.plus(self.reserved)), had, at });
        }
        let lost = self.lost.filter(|lost| at.since(lost.at) < LOST_HOLD)?;
        if filled_all && !grew(old, new) {
            let need = lost.need.max(had.plus(self.reserved)).scaled(MORE.0, MORE.1);
            return Some(Lost { need: need.min(self.ceiling), had, at });
        }
        // Who lives with more than it was killed for tells by itself what it needs.
        used(new).is_none_or(|is| is <= lost.had).then_some(lost)
    }

    /// What it used when its kernel killed in it between these two statistics: it was about to run out, or filled all that it
    /// had, and most of what it used is gone.
    fn killed_for(&self, old: &Balloon, new: &Balloon, filled_all: bool) -> Option<Bytes> {
        let (was, is) = used(old).zip(used(new))?;
        let line = old.available?.scaled(DISTRESS_USABLE_PERCENT, 100);
        let near = usable(old) < line.max(self.rise.scaled(AHEAD_SECONDS, 1));
        ((near || filled_all) && is < was.scaled(1, 2)).then_some(was)
    }

    /// What it needed when its own kernel killed in it, as long as that counts.
    pub(crate) fn lost(&self, at: Monotonic) -> Bytes {
        let lost = self.lost.filter(|lost| at.since(lost.at) < LOST_HOLD);
        lost.map_or(Bytes::ZERO, |lost| lost.need.min(self.ceiling))
    }
}

/// As far as faults tell, it filled what it had usable between these two statistics. Programs that come and go fill as much: it
/// is a sign only where most of what was used is gone as well, or where a kernel was seen to kill lately.
fn filled_all(old: &Balloon, new: &Balloon) -> bool {
    let filled = Bytes::new(grown(old.minor_faults, new.minor_faults).saturating_mul(FAULT));
    filled >= usable(old).scaled(FILLED.0, FILLED.1)
}

/// What it filled is still there, or some of it.
fn grew(old: &Balloon, new: &Balloon) -> bool {
    let Some((was, is)) = used(old).zip(used(new)) else { return true };
    is.minus(was) > usable(old).minus(usable(old).scaled(FILLED.0, FILLED.1))
}

fn usable(balloon: &Balloon) -> Bytes {
    balloon.usable.or(balloon.unused).unwrap_or_default()
}
