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
/// A minor fault brings a page of 4 KiB (`PGFAULT`, mm/memory.c); one that brings a huge page counts as one as well, and tells
/// nothing here.
const FAULT: u64 = 4096;
/// Who filled so much of what it had usable was about to run out; of what it filled less than the rest is left.
const FILLED: (u64, u64) = (3, 4);

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
    pub(super) fn lost_between(&self, old: &Balloon, new: &Balloon, at: Monotonic) -> Option<Lost> {
        let had = old.available.unwrap_or_default();
        if let Some(was) = self.killed_for(old, new) {
            return Some(Lost { need: self.soon(was.plus(self.reserved)), had, at });
        }
        let lost = self.lost.filter(|lost| at.since(lost.at) < LOST_HOLD)?;
        if killed_again(old, new) {
            let need = lost.need.max(had.plus(self.reserved)).scaled(MORE.0, MORE.1);
            return Some(Lost { need: need.min(self.ceiling), had, at });
        }
        // Who lives with more than it was killed for tells by itself what it needs.
        used(new).is_none_or(|is| is <= lost.had).then_some(lost)
    }

    /// What it used when its kernel killed in it between these two statistics: it was about to run out, or filled all that it
    /// had, and most of what it used is gone.
    fn killed_for(&self, old: &Balloon, new: &Balloon) -> Option<Bytes> {
        let (was, is, left) = (used(old)?, used(new)?, old.usable.or(old.unused)?);
        let line = old.available?.scaled(DISTRESS_USABLE_PERCENT, 100);
        let near = left < line.max(self.rise.scaled(AHEAD_SECONDS, 1));
        ((near || filled_all(old, new)) && is < was.scaled(1, 2)).then_some(was)
    }

    /// What it needed when its own kernel killed in it, as long as that counts.
    pub(crate) fn lost(&self, at: Monotonic) -> Bytes {
        let lost = self.lost.filter(|lost| at.since(lost.at) < LOST_HOLD);
        lost.map_or(Bytes::ZERO, |lost| lost.need.min(self.ceiling))
    }
}

/// Between these two statistics it filled what it had usable, and uses hardly more than before: what filled it is gone. Programs
/// that come and go fill as much, so this is a sign only in one whose kernel was seen to kill lately.
fn killed_again(old: &Balloon, new: &Balloon) -> bool {
    let Some((was, is)) = used(old).zip(used(new)) else { return false };
    let usable = old.usable.or(old.unused).unwrap_or_default();
    filled_all(old, new) && is.minus(was) < usable.minus(usable.scaled(FILLED.0, FILLED.1))
}

/// As far as faults tell, it filled what it had usable.
fn filled_all(old: &Balloon, new: &Balloon) -> bool {
    let filled = Bytes::new(grown(old.minor_faults, new.minor_faults).saturating_mul(FAULT));
    let usable = old.usable.or(old.unused).unwrap_or_default();
    filled >= usable.scaled(FILLED.0, FILLED.1)
}
