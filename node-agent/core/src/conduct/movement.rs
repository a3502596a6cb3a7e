//! Whether a balloon moves, and where to: towards its target, or away by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Conduct, Seen};
use crate::units::{Bytes, Monotonic};

/// Difference between target and actual that is no disobedience.
pub const FOLLOW_TOLERANCE: Bytes = Bytes::from_mib(4);
/// A balloon that did not move for this long although it should is not following: a thrashing guest inflates slowly,
/// but it does move.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(30);
/// A device reset shows the full size for a moment before the statistics tell of a reboot; a deflation that lasts, and of
/// whose guest something is heard, is the guest's own.
const DEFLATE_PATIENCE: Duration = Duration::from_secs(10);

/// More memory in the hands of a guest than it was left with and given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Deflation {
    pub(super) since: Monotonic,
    pub(super) by: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Following {
    pub(super) actual: Bytes,
    pub(super) inflates: bool,
    pub(super) moved: Monotonic,
}

impl Conduct {
    /// The balloon stayed away from its target for too long without moving, up or down.
    pub fn is_stuck(&self, now: Monotonic) -> bool {
        self.follow.is_some_and(|f| now.since(f.moved) > FOLLOW_PATIENCE)
    }

    pub(super) fn watch_movement(&mut self, seen: &Seen) {
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
    pub(super) fn ignores_its_target(&self, seen: &Seen) -> bool {
        let apart = seen.actual > seen.target.plus(FOLLOW_TOLERANCE);
        seen.squeezed && apart && self.is_stuck(seen.at)
    }

    /// It holds lastingly more than it was left with and given: by how much. That its target went after it is no excuse:
    /// in distress it is given what it has taken.
    pub(super) fn deflates_by_itself(&mut self, seen: &Seen) -> Option<Bytes> {
        let more = self.reached.map(|reached| seen.actual.minus(reached)).filter(|by| *by > FOLLOW_TOLERANCE);
        let known =
            self.deflation.or_else(|| seen.squeezed.then_some(Deflation { since: seen.at, by: Bytes::ZERO }));
        self.deflation = known.zip(more).map(|(known, more)| Deflation { by: known.by.max(more), ..known });
        let known = self.deflation?;
        let heard = seen.heard.is_some_and(|heard| heard > known.since);
        (heard && seen.at.since(known.since) >= DEFLATE_PATIENCE).then_some(known.by)
    }
}
