//! Keeps each guest near what it uses. Usage under a cap follows the cap, so a guest that once swaps looks satisfied: what a
//! first loop of anybody does, and what the test bed showed to cost nineteen of twenty of all work.

use overcommit_core::plan::Command;
use overcommit_core::ports::Reading;
use overcommit_core::units::Bytes;

use super::{Every, period, target};
use crate::plant::Plant;

/// What a guest is left of what it uses.
const ROOM: (u64, u64) = (6, 5);
/// Least part of its size.
const LEAST: (u64, u64) = (1, 8);

#[derive(Debug)]
pub(crate) struct Naive {
    look: Every,
}

impl Default for Naive {
    fn default() -> Self {
        Self { look: Every::seconds(5) }
    }
}

impl Naive {
    pub(crate) fn work(&mut self, plant: &mut Plant) -> Vec<Command> {
        if !self.look.strikes(plant.time()) {
            return Vec::new();
        }
        let mut commands = Vec::new();
        for guest in &plant.read(Reading::Fresh).guests {
            commands.extend(period(guest, 1));
            let Some(balloon) = guest.balloon else { continue };
            let Some((total, usable)) = balloon.available.zip(balloon.usable) else { continue };
            let full = guest.config.full;
            let used = total.minus(usable).scaled(ROOM.0, ROOM.1);
            let to: Bytes = used.max(full.scaled(LEAST.0, LEAST.1)).min(full);
            commands.extend(target(guest, balloon.actual, to));
        }
        commands
    }
}
