//! The plant: what the loop sees of a scenario, and what its commands do there.
//!
//! Pure: no clock, no chance but the seed's. What it cannot tell (throughput, huge pages, several NUMA nodes) stands in
//! `docs/simulator.md`.

mod guest;
mod host;
mod ksmd;
mod memory;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use overcommit_core::ksm::Write;
use overcommit_core::lane::Glimpse;
use overcommit_core::plan::Command;
use overcommit_core::ports::Reading;
use overcommit_core::sample::{GuestConfig, GuestId, GuestName, GuestSample, HostSample, Sample};
use overcommit_core::units::{Bytes, Monotonic};

pub(crate) use guest::Guest;
pub(crate) use host::End;
use host::Host;

use crate::course::Course;
use crate::moment::Moment;
use crate::scenario::Scenario;

/// Up for an hour when a scenario begins, so that ages can be told.
const START: Duration = Duration::from_hours(1);
/// The wall clock then; any second will do.
const WALL: Duration = Duration::from_hours(500_000);

/// Host and guests in the middle of a scenario.
pub(crate) struct Plant {
    pub(crate) host: Host,
    pub(crate) guests: Vec<Guest>,
    ids: Vec<GuestId>,
    places: BTreeMap<GuestId, usize>,
    now: Duration,
    /// The sample of the last reading: most of it stays as it is.
    sample: Sample,
    /// Which guests are in it.
    shown: Vec<usize>,
    facts_at: Duration,
}

impl Plant {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut chance = Rng::with_seed(scenario.seed);
        let host = Host::new(&scenario.host, Course::new(&scenario.host.other, &mut chance));
        let mut guests = Vec::new();
        for group in &scenario.guests {
            let shared = Arc::new(group.clone());
            for number in 0..group.count {
                let name =
                    if group.count == 1 { group.name.clone() } else { format!("{}-{number}", group.name) };
                let index = u32::try_from(guests.len()).unwrap_or(u32::MAX);
                guests.push(Guest::new(Arc::from(name), &shared, index, &mut chance));
            }
        }
        let ids: Vec<GuestId> =
            (0..guests.len()).map(|index| GuestId::new(format!("{}/vm", pod(index)))).collect();
        let places = ids.iter().cloned().zip(0..).collect();
        let sample = Sample {
            at: Monotonic::default(),
            wall: WALL,
            host_age: Duration::ZERO,
            host: HostSample::default(),
            guests: Vec::new(),
            strangers: Vec::new(),
        };
        Self { host, guests, ids, places, now: Duration::ZERO, sample, shown: Vec::new(), facts_at: START }
    }

    /// Time since the scenario began.
    pub(crate) fn time(&self) -> Duration {
        self.now
    }

    /// The same on the loop's clock.
    pub(crate) fn clock(&self) -> Monotonic {
        Monotonic::new(START.saturating_add(self.now))
    }

    /// Time passes; whom the node ended, if anybody.
    pub(crate) fn pass(&mut self, time: Duration) -> Option<(usize, End)> {
        self.now = self.now.saturating_add(time);
        let wall = WALL.saturating_add(self.now).as_secs();
        let stalled = self.host.stalled;
        for guest in &mut self.guests {
            guest.live(self.now, time, wall, stalled);
        }
        self.host.live(self.now, time, &mut self.guests)
    }

    pub(crate) fn host(&self) -> HostSample {
        self.host.sample(&self.guests)
    }

    /// Reads everything, or but statistics: then host and processes are as they were when they were read last.
    pub(crate) fn read(&mut self, reading: Reading) -> &Sample {
        let clock = self.clock();
        if reading == Reading::Fresh {
            self.facts_at = clock.since_origin();
            self.sample.host = self.host.sample(&self.guests);
            self.list();
        }
        let age = clock.since(Monotonic::new(self.facts_at));
        self.sample.at = clock;
        self.sample.wall = WALL.saturating_add(self.now);
        self.sample.host_age = age;
        for (shown, index) in self.sample.guests.iter_mut().zip(&self.shown) {
            let Some(guest) = self.guests.get(*index) else { continue };
            shown.balloon = guest.is_here().then(|| guest.balloon());
            shown.run_state = guest.run_state();
            shown.facts_age = Some(age);
            if reading == Reading::Fresh {
                shown.facts = guest.facts();
                shown.incarnation = Some(guest.process());
            }
        }
        &self.sample
    }

    /// Guests come and go; one that went since the last list is silent until the next.
    fn list(&mut self) {
        let here = |index: &usize| self.guests.get(*index).is_some_and(Guest::is_here);
        let listed: Vec<usize> = (0..self.guests.len()).filter(here).collect();
        if listed != self.shown {
            self.sample.guests = listed.iter().filter_map(|index| self.first_sight(*index)).collect();
            self.shown = listed;
        }
    }

    fn first_sight(&self, index: usize) -> Option<GuestSample> {
        let guest = self.guests.get(index)?;
        Some(GuestSample {
            id: self.ids.get(index)?.clone(),
            name: name(guest),
            incarnation: Some(guest.process()),
            config: GuestConfig {
                full: guest.memory.size,
                plugged: Bytes::ZERO,
                plugging: false,
                has_balloon: true,
                free_page_reporting: guest.group.free_page_reporting,
                untouchable: Vec::new(),
                vcpus: None,
            },
            run_state: guest.run_state(),
            balloon: None,
            facts: guest.facts(),
            facts_age: None,
            trouble: None,
        })
    }

    pub(crate) fn carry_out(&mut self, command: &Command) {
        let now = self.now;
        let Some(guest) = self.place(command.id()).and_then(|index| self.guests.get_mut(index)) else {
            return;
        };
        match command {
            Command::SetTarget { to, .. } => guest.set_target(*to, now),
            Command::SetPeriod { seconds, .. } => guest.set_period(*seconds, now),
        }
    }

    /// A knob of the kernel's merging is written.
    pub(crate) fn write(&mut self, write: Write) {
        self.host.ksmd.write(write);
    }

    /// Who is at this place.
    pub(crate) fn id(&self, place: usize) -> Option<GuestId> {
        self.ids.get(place).cloned()
    }

    pub(crate) fn place(&self, id: &GuestId) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// What the host's kernel shows of one guest's process.
    pub(crate) fn glimpse(&self, place: usize) -> Option<Glimpse> {
        self.guests.get(place).filter(|guest| guest.is_here()).map(Guest::glimpse)
    }

    /// The stamp of one guest's last statistics.
    pub(crate) fn stamp(&self, place: usize) -> Option<u64> {
        self.guests.get(place).filter(|guest| guest.is_here()).and_then(Guest::stamp)
    }

    /// What one guest needs.
    pub(crate) fn need(&self, place: usize) -> Bytes {
        self.guests.get(place).map_or(Bytes::ZERO, Guest::need)
    }

    /// All guests as they are now.
    pub(crate) fn moments(&self) -> impl Iterator<Item = Moment> {
        self.guests.iter().map(Guest::moment)
    }

    /// All that may ever be on the node: name and full size.
    pub(crate) fn names(&self) -> impl Iterator<Item = (String, Bytes)> {
        self.guests.iter().map(|guest| (name(guest).to_string(), guest.memory.size))
    }

    /// Every pod that may ever be on the node, and whose it is.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (Arc<str>, GuestName, &Guest)> {
        self.guests.iter().enumerate().map(|(index, guest)| (Arc::from(pod(index)), name(guest), guest))
    }
}

/// As a UID, which differs in its first bytes.
fn pod(index: usize) -> String {
    format!("{index:08x}-pod")
}

fn name(guest: &Guest) -> GuestName {
    GuestName::namespaced(guest.group.namespace.as_str(), Arc::clone(&guest.name))
}

#[cfg(test)]
mod tests {
    use overcommit_core::sample::RunState;

    use super::*;
    use crate::scenario;

    fn plant(guest: &str) -> Plant {
        let text = format!(
            "shows: nothing\nlasts: 1m\nhost: {{memory: 4Gi}}\nguests: [{{name: a, size: 1Gi, demand: 100Mi, statistics: 1s, {guest}}}]"
        );
        Plant::new(&scenario::read(text.as_bytes()).unwrap())
    }

    fn pass(plant: &mut Plant, seconds: u32) {
        for _ in 0..seconds {
            plant.pass(Duration::from_secs(1));
        }
    }

    fn holds(plant: &Plant) -> Bytes {
        plant.guests[0].holds()
    }

    #[test]
    fn a_guest_that_was_ended_comes_back_as_another_process_and_says_nothing_until_it_has_booted() {
        let mut plant = plant("returns: 10s");
        pass(&mut plant, 5);
        let before = plant.read(Reading::Fresh).guests[0].incarnation;
        let now = plant.time();
        plant.guests[0].is_killed(now);
        pass(&mut plant, 9);
        assert!(plant.read(Reading::Fresh).guests.is_empty());
        pass(&mut plant, 2);
        let back = &plant.read(Reading::Fresh).guests[0];
        assert!(back.incarnation != before && back.balloon.unwrap().last_update.is_none());
        pass(&mut plant, 8);
        assert!(plant.read(Reading::Fresh).guests[0].balloon.unwrap().last_update.is_some());
    }

    #[test]
    fn after_a_reboot_the_device_says_what_the_last_kernel_held_until_the_new_one_inflates() {
        let mut plant = plant("events: [{at: 20s, what: Reboots}]");
        let half = Bytes::from_mib(512);
        plant.guests[0].set_target(half, Duration::ZERO);
        pass(&mut plant, 19);
        let said = plant.guests[0].balloon();
        assert_eq!((said.actual, holds(&plant)), (half, half));
        pass(&mut plant, 3);
        assert_eq!((plant.guests[0].balloon().actual, holds(&plant)), (half, Bytes::from_gib(1)));
        pass(&mut plant, 8);
        let again = plant.guests[0].balloon();
        assert_eq!((again.actual, holds(&plant)), (half, half));
        assert!(again.minor_faults < said.minor_faults, "its counters began anew");
    }

    #[test]
    fn a_host_whose_swap_is_full_kills_though_it_cannot_be_divided_to_the_last_byte() {
        let text = "shows: nothing\nlasts: 5m\nhost: {memory: 2Gi, swap: 100Mi, eviction: \"0\"}\n\
                    guests: [{name: a, count: 3, size: 1Gi, demand: 900Mi}]";
        let mut plant = Plant::new(&scenario::read(text.as_bytes()).unwrap());
        let killed = (0..200).any(|_| {
            pass(&mut plant, 1);
            plant.read(Reading::Fresh).guests.len() < 3
        });
        assert!(killed, "{:?}", plant.host);
    }

    #[test]
    fn one_that_is_migrated_here_is_paused_until_its_memory_has_come_and_runs_on_without_a_boot() {
        let mut plant = plant("files: 200Mi, starts: 5s, arrives: 10s");
        pass(&mut plant, 4);
        assert!(plant.read(Reading::Fresh).guests.is_empty());
        pass(&mut plant, 6);
        let half = plant.guests[0].resident();
        assert_eq!(plant.read(Reading::Fresh).guests[0].run_state, RunState::Paused);
        pass(&mut plant, 6);
        let seen = plant.read(Reading::Fresh).guests[0].clone();
        assert_eq!((seen.run_state, plant.guests[0].resident() > half), (RunState::Running, true));
        pass(&mut plant, 2);
        assert!(plant.guests[0].stamp().is_some() && !plant.guests[0].felt.distress);
        assert_eq!(plant.guests[0].glimpse().read, Bytes::ZERO, "its files came with it");
    }

    #[test]
    fn one_that_is_migrated_away_is_busy_until_it_is_gone_and_was_ended_by_nobody() {
        let mut plant = plant("events: [{at: 5s, what: Migrates, lasts: 10s}]");
        pass(&mut plant, 6);
        assert_eq!(plant.read(Reading::Fresh).guests[0].run_state, RunState::Busy);
        pass(&mut plant, 10);
        assert!(plant.read(Reading::Fresh).guests.is_empty());
        assert_eq!(plant.guests[0].moment().presence, crate::moment::Presence::Away);
    }

    #[test]
    fn one_that_is_frozen_while_it_boots_boots_on_afterwards() {
        let mut plant = plant("events: [{at: 20s, what: Reboots}, {at: 22s, what: Freezes, lasts: 10s}]");
        let half = Bytes::from_mib(512);
        plant.guests[0].set_target(half, Duration::ZERO);
        pass(&mut plant, 33);
        assert_eq!(holds(&plant), Bytes::from_gib(1), "no driver yet");
        pass(&mut plant, 8);
        assert_eq!(holds(&plant), half);
    }

    #[test]
    fn tempers_show_in_what_a_guest_holds_and_says() {
        let (half, all) = (Bytes::from_mib(512), Bytes::from_gib(1));
        for (temper, soon, late, said) in [
            ("Obeys", half, half, half),
            ("Deaf", all, all, all),
            ("Pretends", all, all, half),
            ("Deflates", half, all, all),
            ("Hoards", half, half, half),
        ] {
            let mut plant = plant(&format!("temper: {temper}"));
            plant.guests[0].set_target(half, Duration::ZERO);
            pass(&mut plant, 10);
            assert_eq!(holds(&plant), soon, "{temper}");
            pass(&mut plant, 30);
            let balloon = plant.guests[0].balloon();
            assert_eq!((holds(&plant), balloon.actual), (late, said), "{temper}");
            assert_eq!(balloon.usable.unwrap() < Bytes::from_mib(20), temper == "Hoards", "{temper}");
        }
    }

    #[test]
    fn one_that_falls_silent_or_freezes_says_nothing_new_and_goes_on_afterwards() {
        for what in ["FallsSilent", "Freezes"] {
            let mut plant = plant(&format!("events: [{{at: 10s, what: {what}, lasts: 20s}}]"));
            let stamps: Vec<Option<u64>> = [12, 16, 6]
                .into_iter()
                .map(|seconds| {
                    pass(&mut plant, seconds);
                    plant.stamp(0)
                })
                .collect();
            assert!(stamps[0] == stamps[1] && stamps[1] < stamps[2], "{what}: {stamps:?}");
        }
    }
}
