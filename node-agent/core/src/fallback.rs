//! What is done when deciding itself fails: without a model, a policy or an engine, what was taken is given back as far
//! as the host's kernel says that there is memory. Nothing here takes, and nothing here remembers.

use crate::plan::Command;
use crate::sample::{GuestId, HostMemory};
use crate::units::{Bytes, Permille};

/// Kept free beyond the kubelet's eviction line: what everything that is no guest may grow meanwhile.
const KEPT: Permille = Permille::new(50);

/// A guest from which something was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which guest.
    pub id: GuestId,
    /// What it had before.
    pub original: Bytes,
    /// What it holds now, or was told to hold if that is more.
    pub holds: Bytes,
}

/// The commands that give back to `guests` what there is, each getting the same part of what it lacks.
///
/// `MemAvailable` is a poor budget (see the ledger), but it needs no account, and what it overlooks is reserved
/// beforehand. `untouched` is what all guests may touch and have not: it is still in `MemAvailable`, what was given the
/// last time above all.
pub fn give_back(guests: &[Held], host: &HostMemory, untouched: Bytes, eviction: Bytes) -> Vec<Command> {
    let kept = [untouched, eviction, host.total.share(KEPT)];
    let there = kept.into_iter().fold(host.available, Bytes::minus);
    let lacking: Bytes = guests.iter().map(Held::lacks).sum();
    let mut left = there.min(lacking);
    let all = left;
    let mut commands = Vec::new();
    for guest in guests {
        let share = guest.lacks().scaled(all.get(), lacking.get().max(1)).min(left);
        let to = guest.holds.plus(share).to_balloon_page_floor();
        if to > guest.holds {
            left = left.minus(share);
            commands.push(Command::SetTarget { id: guest.id.clone(), from: guest.holds, to });
        }
    }
    commands
}

impl Held {
    fn lacks(&self) -> Bytes {
        self.original.minus(self.holds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(available: u64) -> HostMemory {
        HostMemory {
            total: Bytes::from_mib(10_000),
            available: Bytes::from_mib(available),
            ..HostMemory::default()
        }
    }

    fn held(id: &str, original: u64, holds: u64) -> Held {
        Held { id: GuestId::new(id), original: Bytes::from_mib(original), holds: Bytes::from_mib(holds) }
    }

    fn given(commands: &[Command]) -> Vec<u64> {
        let to = |command: &Command| match command {
            Command::SetTarget { to, .. } => Some(to.to_mib_floor()),
            Command::SetPeriod { .. } => None,
        };
        commands.iter().filter_map(to).collect()
    }

    #[test]
    fn all_is_given_back_where_there_is_enough_and_the_same_part_where_there_is_not() {
        let guests = [held("a", 1000, 600), held("b", 500, 300), held("c", 400, 400)];
        assert_eq!(given(&give_back(&guests, &host(5000), Bytes::ZERO, Bytes::from_mib(100))), [1000, 500]);
        assert_eq!(given(&give_back(&guests, &host(900), Bytes::ZERO, Bytes::from_mib(100))), [800, 400]);
        assert!(give_back(&guests, &host(600), Bytes::ZERO, Bytes::from_mib(100)).is_empty());
        assert!(give_back(&[], &host(5000), Bytes::ZERO, Bytes::ZERO).is_empty());
    }

    #[test]
    fn what_was_given_and_not_touched_yet_is_not_given_again() {
        let (before, after) = ([held("a", 1000, 600)], [held("a", 1000, 800)]);
        let (host, none) = (host(700), Bytes::ZERO);
        assert_eq!(given(&give_back(&before, &host, none, none)), [800]);
        assert!(give_back(&after, &host, Bytes::from_mib(200), none).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_taken_nor_more_given_than_there_is(
            guests in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..20),
            available: u64, total: u64, untouched: u64, eviction: u64,
        ) {
            let held: Vec<Held> = guests.iter().enumerate().map(|(n, (original, holds))| Held {
                id: GuestId::new(n.to_string()), original: Bytes::new(*original), holds: Bytes::new(*holds),
            }).collect();
            let (available, total) = (Bytes::new(available), Bytes::new(total));
            let host = HostMemory { total, available, ..HostMemory::default() };
            let mut sum = Bytes::ZERO;
            for command in give_back(&held, &host, Bytes::new(untouched), Bytes::new(eviction)) {
                let Command::SetTarget { id, from, to } = command else { panic!("{command:?}") };
                let guest = held.iter().find(|g| g.id == id).unwrap();
                prop_assert!(to > from && from == guest.holds && to <= guest.original);
                sum = sum.plus(to.minus(from));
            }
            prop_assert!(sum <= available.minus(Bytes::new(eviction)).minus(Bytes::new(untouched)));
        }
    }
}
