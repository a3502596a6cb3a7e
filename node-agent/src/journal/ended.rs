//! Guests that ended while they lacked something: one that is restored from a file goes on with its balloon as it was.

use std::collections::BTreeMap;

use overcommit_core::conduct::FOLLOW_TOLERANCE;
use overcommit_core::dealings::Original;
use overcommit_core::sample::{GuestId, GuestSample, RunState};
use overcommit_core::step::State;

use super::{Entry, Journal};

/// So many guests that ended are remembered.
const ENDED: usize = 128;

impl Journal {
    /// A guest ended, of which this was written.
    pub(super) fn end(&mut self, id: &GuestId, entry: Entry) {
        if may_be_restored(id, &entry) {
            self.ended.retain(|(ended, _)| ended != id);
            self.ended.push((id.clone(), entry));
        }
    }

    /// What guests had that were restored from a file, of those that `state` knows as the same process or not at all, each once. A
    /// guest that starts anew has all of its memory; who holds no less than what the last process was left with, and less than
    /// that had, is no new one.
    pub(crate) fn restored<'a>(
        &mut self,
        guests: &'a [GuestSample],
        state: &State,
    ) -> Vec<(&'a GuestSample, Original)> {
        let mut restored = Vec::new();
        if self.judged.len() > guests.len() {
            self.judged.retain(|id, _| guests.iter().any(|guest| guest.id == *id));
        }
        for guest in guests {
            let (Some(process), Some(balloon)) = (guest.incarnation, guest.balloon) else { continue };
            if !state.model().is_same_process(guest) || self.is_judged(guest) {
                continue;
            }
            let holds = guest.holds(&balloon).plus(FOLLOW_TOLERANCE);
            let is_restored = |entry: &&Entry| holds >= entry.target && holds < entry.original.target;
            let original = self.before(guest).filter(is_restored).map(|entry| entry.original);
            // While it is being restored its device says that it has all of its memory.
            if original.is_none() && guest.run_state != RunState::Running {
                continue;
            }
            self.ended.retain(|(id, _)| *id != guest.id);
            self.judged.insert(guest.id.clone(), process);
            restored.extend(original.map(|original| (guest, original)));
        }
        restored
    }

    /// True if it cannot be told yet of one of them whether it is restored: it was seen just now, or its hypervisor is silent.
    pub(crate) fn doubts(&self, guests: &[GuestSample], state: &State) -> bool {
        let is_told = |guest: &GuestSample| guest.balloon.is_some() && state.model().is_same_process(guest);
        guests.iter().any(|guest| !self.is_judged(guest) && !is_told(guest) && self.before(guest).is_some())
    }

    /// It is known of its process whether it is restored.
    fn is_judged(&self, guest: &GuestSample) -> bool {
        guest.incarnation.is_some_and(|process| self.judged.get(&guest.id) == Some(&process))
    }

    /// What is known of the last process of a guest, if that lacked something.
    fn before(&self, guest: &GuestSample) -> Option<&Entry> {
        let of_another = |entry: &&Entry| {
            let (process, other) = (guest.incarnation, entry.incarnation);
            process.is_some() && other.is_some() && process != other && entry.lacks()
        };
        let ended = self.ended.iter().find(|(id, _)| *id == guest.id).map(|(_, entry)| entry);
        ended.or_else(|| self.written.guests.get(&guest.id).filter(of_another))
    }

    /// Guests that ended, also those that are written as if they ran, and `go_on` not.
    pub(super) fn ended_by(&self, state: &State, go_on: &BTreeMap<GuestId, Entry>) -> Vec<(GuestId, Entry)> {
        let is_over = |(id, entry): &(&GuestId, &Entry)| {
            let had = state.dealings().of(id).and_then(|dealing| dealing.original);
            let runs = state.model().track(id).is_some_and(|track| match track.sample.incarnation {
                Some(process) => Some(process) == entry.incarnation,
                // Whose process is not shown yet is another if it had something else.
                None => had.is_some_and(|had| had.target == entry.original.target),
            });
            let judged = self.judged.get(*id).is_some_and(|process| Some(*process) != entry.incarnation);
            may_be_restored(id, entry) && !runs && !go_on.contains_key(*id) && !judged
        };
        let over: Vec<_> = self.written.guests.iter().filter(is_over).collect();
        let before = self.ended.iter().filter(|(id, _)| !over.iter().any(|(other, _)| *other == id));
        let all = before.cloned().chain(over.iter().map(|(id, entry)| ((*id).clone(), (*entry).clone())));
        let mut all: Vec<_> = all.collect();
        all.drain(..all.len().saturating_sub(ENDED));
        all
    }
}

/// A pod's guest has a pod of its own each time, and comes back from no file.
pub(super) fn may_be_restored(id: &GuestId, entry: &Entry) -> bool {
    id.pod().is_none() && entry.lacks()
}
