//! When the loop decides: the agent's own rhythm (`node-agent/src/tick`) on a clock that a plant drives. What is decided, and
//! what is worth a turn, are the same functions of the core that run on a node; nothing of them is here.
//!
//! What arrives within one step is judged by one turn, in the order tick, alarm, pain that is seen from outside, new
//! statistics. Commands take effect before the next step: a journal that is slow and a libvirt that hangs are not simulated.

use std::collections::BTreeMap;
use std::time::Duration;

use overcommit_core::cadence::Cadence;
use overcommit_core::lane::{Lane, host_alarm};
use overcommit_core::ledger::Ledger;
use overcommit_core::plan::{Command, Outcome};
use overcommit_core::policy::Mode;
use overcommit_core::ports::Reading;
use overcommit_core::roster::Roster;
use overcommit_core::sample::{GuestId, HostSample};
use overcommit_core::step::{Decision, Input, Mandate, Turn};
use overcommit_core::units::Bytes;
use overcommit_record::{Recorder, Tape};

use crate::orders::Orders;
use crate::plant::Plant;

/// The loop of one node.
pub(crate) struct Clockwork<'a> {
    orders: &'a Orders,
    roster: Roster,
    state: Recorder,
    lane: Lane,
    eviction: Bytes,
    next_tick: Duration,
    /// The host as it was read last, and the account made of it.
    known: Option<(HostSample, Ledger)>,
    /// Squeezed guests.
    watched: BTreeMap<GuestId, Watched>,
}

struct Watched {
    cadence: Cadence,
    period: Duration,
    /// Where it is in the plant.
    place: usize,
    seen: bool,
}

impl<'a> Clockwork<'a> {
    /// What it decides on, and decides, goes onto the tape.
    pub(crate) fn new(orders: &'a Orders, plant: &Plant, tape: Option<Box<dyn Tape + Send>>) -> Self {
        Self {
            orders,
            roster: orders.roster(plant),
            state: Recorder::new(tape),
            lane: Lane::default(),
            eviction: plant.host.eviction,
            next_tick: Duration::ZERO,
            known: None,
            watched: BTreeMap::new(),
        }
    }

    /// Does what is due by now; the decision, if there was one.
    pub(crate) fn work(&mut self, plant: &mut Plant) -> Option<Decision> {
        if plant.time() >= self.next_tick {
            self.next_tick = self.next_tick.saturating_add(self.orders.policy.interval);
            return Some(self.turn(plant, Turn::Tick));
        }
        if self.orders.policy.mode != Mode::Enforce {
            return None;
        }
        let (host, ledger) = self.known.as_ref()?;
        if host_alarm(host, &plant.host(), ledger, self.eviction) {
            return Some(self.turn(plant, Turn::Alarm));
        }
        let hurts = self.anybody_hurts(plant);
        let news = self.look_at_due(plant);
        (hurts || news).then(|| self.turn(plant, Turn::Relief))
    }

    /// The last decision is of no more use.
    pub(crate) fn reuse(&mut self, decision: Decision) {
        self.state.reuse(decision);
    }

    fn turn(&mut self, plant: &mut Plant, turn: Turn) -> Decision {
        // Fresh statistics alone are judged with the host as it was when all guests were last read.
        let reading = if turn == Turn::Relief { Reading::Known } else { Reading::Fresh };
        let sample = plant.read(reading);
        let decision = self.state.step(&Input {
            sample,
            policy: &self.orders.policy,
            roster: &self.roster,
            turn,
            mandate: Mandate::Full,
            complete: true,
            eviction: self.eviction,
            keep_found: false,
            // Of a recording each decision is read as a whole, and the recorder asks for that.
            telling: false,
        });
        match &mut self.known {
            Some((_, ledger)) if reading == Reading::Known => *ledger = decision.ledger,
            known => *known = Some((sample.host.clone(), decision.ledger)),
        }
        self.carry_out(plant, &decision);
        self.watch_squeezed(plant);
        decision
    }

    fn carry_out(&mut self, plant: &mut Plant, decision: &Decision) {
        let further = decision.again.iter().chain(&decision.periods).cloned();
        let commands: Vec<Command> = decision.plan.commands().chain(further).collect();
        for command in &commands {
            plant.carry_out(command);
        }
        for write in &decision.ksm.writes {
            plant.write(*write);
        }
        let done = |command| Outcome { command, result: Ok(()) };
        self.state.note(&commands.into_iter().map(done).collect::<Vec<Outcome>>());
    }

    /// Squeezed guests are watched; others need no look between two ticks.
    fn watch_squeezed(&mut self, plant: &Plant) {
        if self.orders.policy.mode != Mode::Enforce {
            return;
        }
        self.watched.values_mut().for_each(|watched| watched.seen = false);
        for track in self.state.model().tracks().filter(|t| t.is_squeezed() && t.is_reachable()) {
            let seconds = track.sample.balloon.and_then(|b| b.period).filter(|s| *s > 0).unwrap_or(1);
            let (id, period) = (&track.sample.id, Duration::from_secs(u64::from(seconds)));
            if let Some(watched) = self.watched.get_mut(id) {
                (watched.period, watched.seen) = (period, true);
            } else if let Some(place) = plant.place(id) {
                let watched = Watched { cadence: Cadence::default(), period, place, seen: true };
                self.watched.insert(id.clone(), watched);
            }
        }
        self.watched.retain(|_, watched| watched.seen);
        let watched = &self.watched;
        self.lane.keep(|id| watched.contains_key(id));
    }

    fn anybody_hurts(&mut self, plant: &Plant) -> bool {
        let at = plant.clock();
        let mut felt = Vec::new();
        // Both stand in the order of their identities: a week of looking each up would be most of the week.
        let mut tracks = self.state.model().tracks();
        for (id, watched) in &self.watched {
            let track = tracks.find(|track| track.sample.id == *id);
            let Some((track, glimpse)) = track.zip(plant.glimpse(watched.place)) else { continue };
            if let Some(felt_now) = self.lane.look(track, glimpse, at) {
                felt.push((id.clone(), felt_now));
            }
        }
        drop(tracks);
        let hurts = felt.iter().any(|(_, felt)| felt.news);
        for (id, felt) in felt {
            self.state.note_pain(&id, felt.pain, at);
        }
        hurts
    }

    /// Asks squeezed guests whose statistics should have come; true if any are new.
    fn look_at_due(&mut self, plant: &Plant) -> bool {
        let now = plant.clock();
        let mut news = false;
        for (id, watched) in self.watched.iter_mut().filter(|(_, watched)| watched.cadence.due() <= now) {
            let stamp = plant.stamp(watched.place);
            watched.cadence.looked(now, stamp, watched.period);
            let known = || self.state.model().track(id).and_then(|track| track.last_update);
            news = news || (stamp.is_some() && stamp != known());
        }
        news
    }
}
