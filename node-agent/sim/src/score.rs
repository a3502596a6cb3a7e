//! What a course was worth: counted from what happened in a plant, not from what the loop thought; of a recording, from what the
//! loop was told.

use std::collections::BTreeMap;
use std::time::Duration;

use overcommit_core::plan::Command;
use overcommit_core::reason::Reason;
use overcommit_core::sample::GuestId;
use overcommit_core::step::Decision;
use overcommit_core::units::{Bytes, Permille};
use serde::Serialize;

use crate::course::millis;
use crate::moment::{Moment, Presence};
use crate::plant::End;

/// A target that turns by less is no oscillation: dead bands and statistics wander.
const SWING: Permille = Permille::new(50);

/// What a guest did for so long is lost when it is ended: nobody writes down all that is in memory, and what is older is on a
/// disk.
const LOST: Duration = Duration::from_hours(1);

/// What one guest lived through.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GuestScore {
    /// Name.
    pub name: String,
    /// Full size, bytes.
    pub size: Bytes,
    /// Time in which it lacked memory that it needed.
    pub distress: Duration,
    /// The part of that in which its balloon held any.
    pub distress_squeezed: Duration,
    /// Time in which it was ended by the node and not back, and what it lost of the time before.
    pub gone: Duration,
    /// What its balloon held, on average over the scenario, bytes.
    pub reclaimed: Bytes,
    /// Targets that were set.
    pub commands: u64,
    /// Takes that were undone.
    pub undone: u64,
    /// How far a take went below what it needed then, at most, bytes.
    pub overshoot: Bytes,
    /// How often its target turned round, by a twentieth of its size at least.
    pub turns: u64,
    /// What its own kernel killed.
    pub killed_within: u64,
    /// The node's kernel killed it.
    pub killed: u64,
    /// The kubelet evicted it.
    pub evicted: u64,
    #[serde(skip)]
    held: u128,
    /// For how long it has lived since it began, or was ended.
    #[serde(skip)]
    lived: Duration,
    #[serde(skip)]
    swing: Swing,
}

/// What the node lived through.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeScore {
    /// Time in which all guests together were in distress.
    pub distress: Duration,
    /// The part of that in which balloons held memory of those in distress.
    pub distress_squeezed: Duration,
    /// Time in which guests were ended by the node and not back, and what they lost of the time before.
    pub gone: Duration,
    /// What balloons held, on average, bytes.
    pub reclaimed: Bytes,
    /// Guests that the node's kernel killed.
    pub killed: u64,
    /// Guests that the kubelet evicted.
    pub evicted: u64,
    /// What guests' own kernels killed.
    pub killed_within: u64,
    /// Time in which the host did nothing but look for memory.
    pub stalled: Duration,
    /// The most that was promised beyond the budget, bytes.
    pub shortfall: Bytes,
    /// For how long anything was.
    pub short: Duration,
    /// Time of declared emergencies.
    pub emergency: Duration,
    /// Targets that were set.
    pub commands: u64,
    /// Takes that were undone.
    pub undone: u64,
    /// The most that a take went below what its guest needed, in thousandths of its size.
    pub overshoot_permille: u64,
    /// How often targets turned round.
    pub turns: u64,
    /// Decisions that were made.
    pub decisions: u64,
    /// What merging of equal pages left the host, on average, bytes.
    pub merged: Bytes,
    /// CPU time that ksmd took for it.
    pub ksmd: Duration,
}

/// Counts as a scenario goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Score {
    pub(crate) node: NodeScore,
    pub(crate) guests: Vec<GuestScore>,
    time: Duration,
    shortfall: Bytes,
    emergency: bool,
    merged: u128,
}

/// A target's last turning point, and which way it went since.
#[derive(Clone, Debug, Default, PartialEq)]
struct Swing {
    extreme: Option<Bytes>,
    down: bool,
}

impl Score {
    /// For guests of these names and sizes.
    pub(crate) fn new(guests: impl Iterator<Item = (String, Bytes)>) -> Self {
        let guest = |(name, size)| GuestScore { name, size, ..GuestScore::default() };
        Self { guests: guests.map(guest).collect(), ..Self::default() }
    }

    /// Time passed, and this is how all guests are now.
    pub(crate) fn passed(
        &mut self,
        guests: impl Iterator<Item = Moment>,
        time: Duration,
        ended: Option<(usize, End)>,
    ) {
        self.time = self.time.saturating_add(time);
        for (score, guest) in self.guests.iter_mut().zip(guests) {
            match guest.presence {
                Presence::Here => score.lives(&guest, time),
                Presence::Ended => score.gone = score.gone.saturating_add(time),
                Presence::Away => {}
            }
        }
        if let Some((index, end)) = ended
            && let Some(score) = self.guests.get_mut(index)
        {
            let count = if end == End::Killed { &mut score.killed } else { &mut score.evicted };
            *count = count.saturating_add(1);
            score.gone = score.gone.saturating_add(std::mem::take(&mut score.lived).min(LOST));
        }
        let node = &mut self.node;
        for (so, counted) in
            [(!self.shortfall.is_zero(), &mut node.short), (self.emergency, &mut node.emergency)]
        {
            *counted = counted.saturating_add(if so { time } else { Duration::ZERO });
        }
    }

    /// The host did nothing but look for memory for so long.
    pub(crate) fn stalled(&mut self, time: Duration) {
        self.node.stalled = self.node.stalled.saturating_add(time);
    }

    /// Merging left the host so much for so long, and took that CPU time so far.
    pub(crate) fn merged(&mut self, (merged, cpu): (Bytes, Duration), time: Duration) {
        let merged = u128::from(merged.get()).saturating_mul(u128::from(millis(time)));
        self.merged = self.merged.saturating_add(merged);
        self.node.ksmd = cpu;
    }

    /// Targets were set; `find` says where each guest stands, and what it needs.
    pub(crate) fn commanded(
        &mut self,
        commands: impl IntoIterator<Item = Command>,
        find: impl Fn(&GuestId) -> Option<(usize, Bytes)>,
    ) {
        for command in commands {
            if let Command::SetTarget { id, to, .. } = &command
                && let Some((place, need)) = find(id)
                && let Some(score) = self.guests.get_mut(place)
            {
                score.commanded(*to, command.takes().then_some(need));
            }
        }
    }

    /// A decision was made; those of its targets are set that `count`. `find` as above.
    pub(crate) fn decided(
        &mut self,
        decision: &Decision,
        find: impl Fn(&GuestId) -> Option<(usize, Bytes)>,
        mut count: impl FnMut(&GuestId, Bytes) -> bool,
    ) {
        self.node.decisions = self.node.decisions.saturating_add(1);
        self.shortfall = decision.ledger.shortfall;
        self.emergency = decision.emergency;
        self.node.shortfall = self.node.shortfall.max(self.shortfall);
        // Who waits its turn is to lack something.
        let waits = |id: &GuestId| {
            let step = decision.plan.moves().iter().find(|step| step.id == *id);
            step.is_some_and(|step| step.reason == Reason::TakeTurn)
        };
        let needs =
            |id: &GuestId| find(id).map(|(at, need)| (at, if waits(id) { Bytes::ZERO } else { need }));
        let targets = decision.plan.commands().chain(decision.again.iter().cloned());
        let counted: Vec<Command> = targets
            .filter(|target| match target {
                Command::SetTarget { id, to, .. } => count(id, *to),
                Command::SetPeriod { .. } => false,
            })
            .collect();
        let undone = decision.plan.moves().iter().filter(|step| matches!(step.reason, Reason::Undo(_)));
        let is_counted = |id: &GuestId| counted.iter().any(|command| command.id() == id);
        for step in undone.filter(|step| is_counted(&step.id)) {
            if let Some(score) = find(&step.id).and_then(|(place, _)| self.guests.get_mut(place)) {
                score.undone = score.undone.saturating_add(1);
            }
        }
        self.commanded(counted, needs);
    }

    /// The sums, once all is over.
    pub(crate) fn sum_up(mut self) -> (NodeScore, Vec<GuestScore>) {
        let node = &mut self.node;
        let whole = u128::from(millis(self.time).max(1));
        node.merged = Bytes::new(u64::try_from(self.merged / whole).unwrap_or(u64::MAX));
        for score in &mut self.guests {
            score.reclaimed = Bytes::new(u64::try_from(score.held / whole).unwrap_or(u64::MAX));
            node.reclaimed = node.reclaimed.plus(score.reclaimed);
            node.distress = node.distress.saturating_add(score.distress);
            node.distress_squeezed = node.distress_squeezed.saturating_add(score.distress_squeezed);
            node.gone = node.gone.saturating_add(score.gone);
            let overshoot = score.overshoot.scaled(1000, score.size.get()).get();
            node.overshoot_permille = node.overshoot_permille.max(overshoot);
            for (sum, part) in [
                (&mut node.killed, score.killed),
                (&mut node.evicted, score.evicted),
                (&mut node.killed_within, score.killed_within),
                (&mut node.commands, score.commands),
                (&mut node.undone, score.undone),
                (&mut node.turns, score.turns),
            ] {
                *sum = sum.saturating_add(part);
            }
        }
        (self.node, self.guests)
    }
}

impl NodeScore {
    /// Time in which guests did not have what they need: in distress, or ended and not back; and what was lost by that.
    pub fn suffering(&self) -> Duration {
        self.distress.saturating_add(self.gone)
    }

    /// Guests that the node ended, by its kernel or by its kubelet.
    pub fn ended(&self) -> u64 {
        self.killed.saturating_add(self.evicted)
    }
}

impl GuestScore {
    /// Time in which it did not have what it needs: in distress, or ended and not back; and what was lost by that.
    pub fn suffering(&self) -> Duration {
        self.distress.saturating_add(self.gone)
    }

    /// It ran for so long, like this.
    fn lives(&mut self, guest: &Moment, time: Duration) {
        self.lived = self.lived.saturating_add(time);
        let inflated = guest.inflated();
        let held = u128::from(inflated.get()).saturating_mul(u128::from(millis(time)));
        self.held = self.held.saturating_add(held);
        if guest.distress {
            self.distress = self.distress.saturating_add(time);
            if !inflated.is_zero() {
                self.distress_squeezed = self.distress_squeezed.saturating_add(time);
            }
        }
        self.killed_within = self.killed_within.saturating_add(u64::from(guest.killed_within));
    }

    /// A target was set; with what it `needs` where that takes.
    fn commanded(&mut self, to: Bytes, needs: Option<Bytes>) {
        self.commands = self.commands.saturating_add(1);
        if let Some(need) = needs {
            self.overshoot = self.overshoot.max(need.min(self.size).minus(to));
        }
        let turned = self.swing.follow(to, self.size.share(SWING));
        self.turns = self.turns.saturating_add(u64::from(turned));
    }
}

impl Swing {
    /// The target went to `to`; true if it turned round by `least` or more since its last turning point.
    fn follow(&mut self, to: Bytes, least: Bytes) -> bool {
        let Some(extreme) = self.extreme else {
            *self = Self { extreme: Some(to), down: true };
            return false;
        };
        let (on, back) = if self.down {
            (extreme.minus(to), to.minus(extreme))
        } else {
            (to.minus(extreme), extreme.minus(to))
        };
        if !on.is_zero() {
            self.extreme = Some(to);
        }
        let turned = back >= least && !back.is_zero();
        if turned {
            *self = Self { extreme: Some(to), down: !self.down };
        }
        turned
    }
}

/// Scores by name, for tests and readers.
pub fn by_name(guests: &[GuestScore]) -> BTreeMap<&str, &GuestScore> {
    guests.iter().map(|score| (score.name.as_str(), score)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_turns_round_where_it_goes_back_far_enough() {
        let mut swing = Swing::default();
        let course = [900, 800, 810, 700, 720, 760, 1000, 990, 940];
        let turned: Vec<bool> =
            course.iter().map(|mib| swing.follow(Bytes::from_mib(*mib), Bytes::from_mib(50))).collect();
        assert_eq!(turned, [false, false, false, false, false, true, false, false, true]);
    }
}
