//! The worlds in which controllers are compared: guests, what they do, and how little memory there is for all of them.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use overcommit_tests::guests::{Balloon, GuestSpec, Load};
use serde::{Deserialize, Serialize};

use crate::density::MOST;

/// MiB of a guest.
const SIZE: u64 = 512;
/// Between these a Memknobs buffer grows and shrinks, in MiB: a guest's kernel leaves a little more than the larger.
const MEMKNOBS: (u64, u64) = (60, 400);
/// A service: all its files fit into a guest that nothing is taken from.
const CLOUDY: Cloudy = Cloudy { data_mib: 280, heap_mib: 64, per_second: 16 };
/// What a guest holds whose pages could be merged, or could not, in MiB.
const HELD: u64 = 200;
/// A guest that has a swap has this much, in MiB: all that it could ever put there.
const GUEST_SWAP: u64 = 1024;
/// Swap of a host that has one, in MiB.
const HOST_SWAP: u64 = 4096;

/// What an emulator needs beside its guest's memory, in MiB.
const EMULATOR: u64 = 128;
/// What the machine needs for itself and for what runs the guests, in MiB.
const TOOLS: u64 = 2048;

/// What a service has, and how much it has to do: as many requests as the article's (16 a second).
struct Cloudy {
    data_mib: u64,
    heap_mib: u64,
    per_second: u64,
}

/// Which world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// The article's: Memknobs, a host with swap, no free page reporting.
    A,
    /// The same with free page reporting.
    B,
    /// Two thirds idle with full page caches, one third works; a host with swap.
    C,
    /// Cloudy: services whose files are in their page caches as far as there is memory; a host with swap.
    D,
    /// Memknobs, and memory for all.
    E,
    /// How Kubernetes nodes run: Memknobs, a host without swap, guests with.
    F,
    /// The same, and guests without swap either.
    FNoSwap,
    /// All grow at once and shrink again; a host without swap, guests with.
    G,
    /// The same, and guests without swap either.
    GNoSwap,
    /// Half of the guests hold the same pages, and little is left; a host without swap.
    H,
    /// Memknobs on a host without swap: how many guests it carries.
    Density,
}

impl Scenario {
    /// What it shows, in a few words.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::A => "Memknobs on a host with swap, no free page reporting",
            Self::B => "Memknobs on a host with swap",
            Self::C => "two thirds idle with full caches, one third works; a host with swap",
            Self::D => "services with files in their page caches; a host with swap",
            Self::E => "Memknobs, and memory for all",
            Self::F => "Memknobs on a host without swap",
            Self::FNoSwap => "Memknobs, and nobody has swap",
            Self::G => "all surge at once on a host without swap",
            Self::GNoSwap => "all surge at once, and nobody has swap",
            Self::H => "half of the guests hold the same pages, on a host without swap",
            Self::Density => "how many guests a host without swap carries",
        }
    }

    /// How many guests there are, at most.
    pub(crate) fn guests(self) -> u64 {
        match self {
            Self::C => 6,
            Self::Density => MOST,
            _ => 8,
        }
    }

    /// MiB that are left for all guests with their emulators; absent where nothing is squeezed.
    pub(crate) fn room_mib(self) -> Option<u64> {
        match self {
            Self::C => Some(2560),
            Self::E => None,
            Self::A | Self::B | Self::D | Self::F | Self::FNoSwap | Self::G | Self::GNoSwap => Some(3072),
            Self::H | Self::Density => Some(4096),
        }
    }

    /// MiB of memory of a machine on which all guests fit without a squeeze, beside what runs them.
    pub(crate) fn needs_mib(self) -> u64 {
        self.guests() * (SIZE + EMULATOR) + TOOLS
    }

    /// MiB of swap of the host.
    pub(crate) fn host_swap_mib(self) -> Option<u64> {
        matches!(self, Self::A | Self::B | Self::C | Self::D).then_some(HOST_SWAP)
    }

    /// Guests hold pages that others hold too.
    pub(crate) fn has_equal_pages(self) -> bool {
        matches!(self, Self::H)
    }

    /// What its guests do is answer requests, rather than write memory.
    pub(crate) fn answers(self) -> bool {
        matches!(self, Self::D)
    }

    /// What is counted of its work.
    pub(crate) fn unit(self) -> &'static str {
        if self.answers() { "requests/s" } else { "MiB/s" }
    }

    /// How long the guests work before it counts: a service is measured once it is warm.
    pub(crate) fn warm_up(self) -> Option<Duration> {
        self.answers().then_some(Duration::from_secs(45))
    }

    /// How long the work counts.
    pub(crate) fn window(self) -> Duration {
        match self {
            Self::G | Self::GNoSwap => Duration::from_secs(140),
            // ksmtuned decides each minute, and goes faster each time.
            Self::H => Duration::from_mins(4),
            _ => Duration::from_secs(150),
        }
    }

    /// The guest of this number (from 0), idle until it is told what to do.
    pub(crate) fn guest(self, number: u64) -> GuestSpec {
        let spec = GuestSpec::new(format!("g{number}"), SIZE);
        let spec = match self {
            Self::A => spec.balloon(Balloon::Present { free_page_reporting: false, stats_period_s: 10 }),
            _ => spec,
        };
        match self {
            Self::FNoSwap | Self::GNoSwap => spec,
            Self::D => spec.swap_mib(GUEST_SWAP).data_mib(CLOUDY.data_mib),
            _ => spec.swap_mib(GUEST_SWAP),
        }
    }

    /// What that guest does while the work counts; the same for the same seed.
    pub(crate) fn load(self, number: u64, seed: u64) -> Load {
        let equal = seed;
        let seed = seed.wrapping_mul(1000).wrapping_add(number);
        let (low_mib, high_mib) = MEMKNOBS;
        match self {
            Self::C if !number.is_multiple_of(3) => Load::Idle { cache_mib: SIZE },
            Self::H if number.is_multiple_of(2) => Load::Equal { mib: HELD, seed: equal },
            Self::H => Load::Hold { mib: HELD },
            Self::D => {
                let Cloudy { data_mib, heap_mib, per_second } = CLOUDY;
                Load::Cloudy { data_mib, heap_mib, per_second, seed }
            }
            Self::G | Self::GNoSwap => Load::Steps(vec![(100, 30), (400, 40), (100, 70)]),
            _ => Load::Memknobs { low_mib, high_mib, seed },
        }
    }
}

/// The scenarios that a machine of so many MiB can run, in words.
pub(crate) fn fitting(have_mib: u64) -> String {
    let fit = |scenario: &&Scenario| scenario.needs_mib() <= have_mib;
    let names: Vec<_> = Scenario::value_variants().iter().filter(fit).map(Scenario::to_string).collect();
    if names.is_empty() { "none fits".to_owned() } else { format!("these fit: {}", names.join(", ")) }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_has_a_demand_of_its_own_that_its_seed_repeats() {
        let demand = |number, seed| Scenario::F.load(number, seed).to_string();
        assert_eq!(demand(3, 1), demand(3, 1));
        assert_ne!(demand(3, 1), demand(4, 1));
        assert_ne!(demand(3, 1), demand(3, 2));
    }

    #[test]
    fn a_machine_that_is_too_small_is_told_what_fits() {
        assert_eq!(fitting(Scenario::C.needs_mib()), "these fit: c");
        assert_eq!(fitting(100), "none fits");
    }

    #[test]
    fn half_of_the_guests_hold_the_same_and_the_others_what_nobody_else_does() {
        let words = |number| Scenario::H.load(number, 3).to_string();
        assert!(words(0) == words(2) && words(0).starts_with("equal:"));
        assert!((1..8).step_by(2).all(|number| words(number).starts_with("hold:")));
    }

    #[test]
    fn one_in_three_works_where_most_are_idle() {
        let works = |number: &u64| !matches!(Scenario::C.load(*number, 1), Load::Idle { .. });
        assert_eq!((0..Scenario::C.guests()).filter(works).count(), 2);
    }
}
