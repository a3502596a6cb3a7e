//! Knows what each guest needs now and will need in a moment, from a second plant that is ahead and has memory without end. No
//! statistics, limits or floors bind it; balloons and disks do.

use std::time::Duration;

use overcommit_core::plan::Command;
use overcommit_core::ports::Reading;
use overcommit_core::units::Bytes;

use super::{Every, target};
use crate::plant::Plant;
use crate::scenario::{Scenario, Size};

/// How far ahead it sees: a balloon takes what is free within a second, and what is in use as fast as a swap writes.
const AHEAD: Duration = Duration::from_secs(15);
/// More than any scenario needs.
const WITHOUT_END: Bytes = Bytes::from_gib(1 << 20);
/// A kernel that has this much more than its programs need lacks nothing: its watermarks, and a little.
const ROOM: (u64, u64, Bytes) = (1, 128, Bytes::from_mib(8));
/// What is kept of the host's memory: at 1 % it stands still (`plant/host.rs`).
const KEPT: (u64, u64) = (11, 1000);
/// What a guest that waits is left of its size: its kernel, and what it needs to go on swapping.
const WAITS_WITH: (u64, u64) = (1, 8);
/// A change that is worth a command, of a guest's size.
const WORTH: (u64, u64) = (1, 256);

pub(crate) struct Oracle {
    future: Plant,
    look: Every,
    step: Duration,
    /// Who was satisfied last; it stays so where there is not enough for all.
    served: Vec<bool>,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    place: usize,
    needs: Bytes,
    size: Bytes,
    /// No less than what it waits with.
    gets: Bytes,
}

impl Oracle {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut endless = scenario.clone();
        endless.host.memory = Size(WITHOUT_END);
        let (future, step) = (Plant::new(&endless), scenario.step.0);
        let served = vec![false; future.guests.len()];
        Self { future, look: Every::seconds(1), step, served }
    }

    pub(crate) fn work(&mut self, plant: &mut Plant) -> Vec<Command> {
        if !self.look.strikes(plant.time()) {
            return Vec::new();
        }
        while self.future.time() < plant.time().saturating_add(AHEAD) {
            self.future.pass(self.step);
        }
        let mut seats = self.seats(plant);
        let overheads: Bytes =
            seats.iter().filter_map(|seat| plant.guests.get(seat.place)).map(|g| g.group.overhead.0).sum();
        let comes = self.future.host.others().minus(plant.host.others());
        let kept = plant.host.memory().scaled(KEPT.0, KEPT.1).plus(comes);
        let room = plant.host.for_guests().minus(overheads).minus(kept);
        self.divide(&mut seats, room);
        command(plant, &seats, room)
    }

    fn seats(&self, plant: &Plant) -> Vec<Seat> {
        let both = plant.guests.iter().zip(&self.future.guests).enumerate();
        both.filter(|(_, (guest, _))| guest.is_here())
            .map(|(place, (guest, future))| {
                let size = guest.memory.size;
                let needs = guest.need().max(future.need());
                let needs = needs.plus(size.scaled(ROOM.0, ROOM.1).max(ROOM.2)).min(size);
                // What its swap does not take its kernel kills.
                let kept = needs.minus(guest.memory.swap.scaled(9, 10));
                let waits_with = size.scaled(WAITS_WITH.0, WAITS_WITH.1).max(kept).min(needs);
                Seat { place, needs, size, gets: waits_with }
            })
            .collect()
    }

    /// Satisfies whole as many as can be, those first who were; what is left goes to all by their size.
    fn divide(&mut self, seats: &mut [Seat], room: Bytes) {
        let mut left = room.minus(seats.iter().map(|seat| seat.gets).sum());
        let was = |seat: &Seat| self.served.get(seat.place).copied().unwrap_or_default();
        seats.sort_by_key(|seat| (!was(seat), seat.needs));
        self.served.fill(false);
        for seat in seats.iter_mut() {
            let lacks = seat.needs.minus(seat.gets);
            if lacks <= left {
                (seat.gets, left) = (seat.needs, left.minus(lacks));
                if let Some(served) = self.served.get_mut(seat.place) {
                    *served = true;
                }
            }
        }
        let open: Bytes = seats.iter().map(|seat| seat.size.minus(seat.gets)).sum();
        let whole = left.min(open);
        for seat in seats.iter_mut() {
            let part = whole.scaled(seat.size.minus(seat.gets).get(), open.get().max(1));
            seat.gets = seat.gets.plus(part);
        }
    }
}

/// Takes at once, and gives what is there: donors pay before takers are promised.
fn command(plant: &mut Plant, seats: &[Seat], room: Bytes) -> Vec<Command> {
    let held: Vec<(Bytes, Bytes)> = plant.guests.iter().map(|g| (g.holds(), g.target())).collect();
    let of = |seat: &Seat| held.get(seat.place).copied().unwrap_or_default();
    let mut spare = room.minus(seats.iter().map(|seat| of(seat).0.max(of(seat).1.min(seat.gets))).sum());
    let mut wanted = Vec::new();
    for seat in seats {
        let (holds, told) = of(seat);
        let worth = seat.size.scaled(WORTH.0, WORTH.1);
        if seat.gets.plus(worth) < told {
            wanted.push((seat.place, told, seat.gets));
        } else if seat.gets > told && (seat.gets.minus(told) > worth || seat.gets == seat.size) {
            let reach = holds.max(told);
            let to = seat.gets.min(reach.plus(spare));
            spare = spare.minus(to.minus(reach));
            wanted.push((seat.place, told, to));
        }
    }
    let places: Vec<_> =
        wanted.into_iter().filter_map(|(place, from, to)| Some((plant.id(place)?, from, to))).collect();
    let sample = plant.read(Reading::Fresh);
    let find = |id| sample.guests.iter().find(|guest| guest.id == id);
    places.into_iter().filter_map(|(id, from, to)| target(find(id)?, from, to)).collect()
}
