//! Each guest gets the same part of its size, so that all of them fit however much they touch; what an administrator does who
//! writes `currentMemory` into each domain.

use overcommit_core::plan::Command;
use overcommit_core::ports::Reading;
use overcommit_core::units::Bytes;

use super::{Every, target};
use crate::plant::Plant;

/// Of the host's memory, what is kept for what may come.
const KEPT_PERCENT: u64 = 5;

#[derive(Debug)]
pub(crate) struct Fixed {
    look: Every,
}

impl Default for Fixed {
    fn default() -> Self {
        // A guest that is new or was started again is set as soon.
        Self { look: Every::seconds(5) }
    }
}

impl Fixed {
    pub(crate) fn work(&mut self, plant: &mut Plant) -> Vec<Command> {
        if !self.look.strikes(plant.time()) {
            return Vec::new();
        }
        let overheads: Bytes = plant.guests.iter().map(|guest| guest.group.overhead.0).sum();
        let sizes: Bytes = plant.guests.iter().map(|guest| guest.memory.size).sum();
        let kept = plant.host.memory().scaled(KEPT_PERCENT, 100);
        let room = plant.host.for_guests().minus(overheads).minus(kept).min(sizes);
        plant
            .read(Reading::Fresh)
            .guests
            .iter()
            .filter_map(|guest| {
                let full = guest.config.full;
                // It is not looked at again: what its balloon was told is what it holds.
                let untouched = guest.balloon?.actual >= full;
                let to = full.scaled(room.get(), sizes.get().max(1));
                untouched.then(|| target(guest, full, to))?
            })
            .collect()
    }
}
