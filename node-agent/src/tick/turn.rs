//! One turn: sample, decide, act, tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use overcommit_core::conduct::FOLLOW_TOLERANCE;
use overcommit_core::dealings::Original;
use overcommit_core::plan::Command;
use overcommit_core::ports::{Admission, Reading};
use overcommit_core::sample::{GuestId, GuestName, GuestSample, HostSample, Incarnation, Sample};
use overcommit_core::step::{Decision, Input, Mandate, Release, Turn};
use overcommit_core::troubles::Troubles;
use overcommit_core::units::{Bytes, Monotonic};
use overcommit_host::Root;

use super::panics::TOLD_FOR;
use super::{Known, Loop};
use crate::clock;
use crate::contact::Contact;
use crate::failpoint;
use crate::orders::Orders;
use crate::recording::Recording;
use crate::report::Report;

impl Loop {
    /// Decides on what is known now, and acts; false without orders or when the host cannot be read, for then nothing is
    /// decided.
    pub(super) fn turn(&mut self, turn: Turn) -> bool {
        let began = Instant::now();
        let Some(orders) = self.orders.clone() else { return false };
        if matches!(turn, Turn::Tick | Turn::Handover) {
            self.prepare_knobs();
        }
        // Fresh statistics alone are judged with the host as it was when all guests were last read: the two belong
        // together, or a guest's growth would pass for the node's own.
        let reading = if turn == Turn::Relief { Reading::Known } else { Reading::Fresh };
        let Some((host, host_at)) = self.host(reading, &orders) else { return false };
        let mut guests = self.parts.guests.sample(reading);
        self.parts.journal.name(&mut guests);
        let strangers = self.parts.guests.strangers();
        let at = clock::now();
        let sample = Sample { at, wall: clock::wall(), host_age: at.since(host_at), host, guests, strangers };
        failpoint::reach("sampled");
        self.adopt(&sample, turn);
        failpoint::reach("adopted");
        self.mend_journal();
        let decision = self.decide(&orders, &sample, turn);
        failpoint::reach("decided");
        self.act(&decision, &sample);
        failpoint::reach("acted");
        self.known = Some(Known { host: sample.host.clone(), at: host_at, ledger: decision.ledger });
        self.watch_squeezed();
        let api_failing_since = self.parts.contact.as_deref().and_then(Contact::failing_since);
        let report = Report::of(&orders, &sample, &decision, self.troubles(), began.elapsed());
        self.state.reuse(decision);
        if turn == Turn::Tick {
            self.failures.clear();
        }
        let waits_for =
            report.release.filter(|release| *release != Release::Done).and_then(|_| self.waits_for());
        // A hand-over writes the journal itself, last of all.
        if turn != Turn::Handover {
            self.record_given_back();
        }
        self.publish(Report { api_failing_since, waits_for, ..report });
        true
    }

    /// What does not work, but for what the orders and single guests' samples say.
    fn troubles(&self) -> Troubles {
        let mut troubles = Troubles::default();
        troubles.add_own(self.parts.journal.troubles());
        troubles.add_own(self.parts.scribe.troubles());
        troubles.add_own(self.parts.knobs.trouble());
        troubles.add_own(self.parts.recording.as_deref().and_then(Recording::trouble));
        let ordered = self.orders.as_ref().is_none_or(|orders| orders.missing_since().is_none());
        troubles.add_own(self.parts.contact.as_deref().into_iter().flat_map(|c| c.troubles(ordered)));
        troubles.add_own(self.former_failures());
        troubles.extend(self.parts.guests.troubles());
        troubles.add_of_guests(self.failures.iter().cloned());
        troubles
    }

    /// Who may be talked to: what the node's object lists, and those that are owed what was taken while they were listed.
    /// Without orders nothing is decided, and it stays as it was.
    pub(super) fn admit(&mut self) {
        let Some(roster) = self.orders.as_ref().and_then(|orders| orders.listed()) else { return };
        let listed: BTreeMap<Arc<str>, GuestName> =
            roster.pods().map(|(pod, name)| (Arc::clone(pod), name.clone())).collect();
        let owed = self.squeezed(|_| true);
        let pods = owed.into_iter().filter_map(GuestId::pod);
        let owed = pods.filter(|pod| !listed.contains_key(*pod)).map(Arc::from).collect();
        self.parts.guests.admit(Arc::new(Admission { listed, owed }));
    }

    /// Guests that hold less than they had because of an agent, as far as is known; those that the journal alone knows if
    /// their process `runs`.
    pub(super) fn squeezed(&self, runs: impl Fn(Incarnation) -> bool) -> BTreeSet<&GuestId> {
        let dealings = self.state.dealings().iter();
        let held = dealings.filter(|(_, dealing)| dealing.holds_anything()).map(|(id, _)| id);
        held.chain(self.parts.journal.squeezed(runs)).collect()
    }

    /// What failed inside of the agent lately: a person is to see it, also when it went on well.
    fn former_failures(&self) -> impl Iterator<Item = String> + use<> {
        let died = self.parts.restarted.as_ref().filter(|_| self.age() < TOLD_FOR);
        let died = died.map(|why| format!("the loop was started anew, for the former one failed: {why}"));
        let asked = self.release && self.stopping.is_none();
        let asked = asked.then(|| {
            "everything was asked back by `overcommit-agent release`: nothing is taken until the agent is started anew"
                .to_owned()
        });
        self.panics.trouble().into_iter().chain(died).chain(asked)
    }

    /// The host, and when it was so.
    fn host(&mut self, reading: Reading, orders: &Orders) -> Option<(HostSample, Monotonic)> {
        if let Some(known) = self.known.as_ref().filter(|_| reading == Reading::Known) {
            return Some((known.host.clone(), known.at));
        }
        let at = clock::now();
        match self.parts.host.sample() {
            Ok(host) => Some((host, at)),
            Err(error) => {
                self.publish(Report::unreadable(orders, &error));
                None
            }
        }
    }

    fn decide(&mut self, orders: &Orders, sample: &Sample, turn: Turn) -> Decision {
        let roster = orders.roster(sample);
        self.eviction = (self.parts.eviction)(sample.host.memory.total);
        let journal = &self.parts.journal;
        self.state.step(&Input {
            sample,
            policy: &orders.policy,
            roster: &roster,
            turn,
            mandate: match (
                orders.release || self.release,
                orders.paused || journal.is_behind() || self.panics.holds_takes(),
            ) {
                (true, _) => Mandate::Release,
                (false, true) => Mandate::GiveOnly,
                (false, false) => Mandate::Full,
            },
            complete: self.knows_what_is_owed(sample),
            eviction: self.eviction,
            keep_found: orders.is_standalone(),
            telling: true,
        })
    }

    /// What was never touched needs no release; without a journal nobody knows what was, nor of whom it is not judged yet, nor
    /// before what was sent is answered.
    fn knows_what_is_owed(&self, sample: &Sample) -> bool {
        let journal = &self.parts.journal;
        let known = !journal.misses_guests() && !journal.is_lost();
        known && self.under_way.is_empty() && !journal.doubts(&sample.guests, &self.state)
    }

    /// On the first sight of a guest: take over what the journal knows. The target that QEMU has cannot be read, so it
    /// is set again, to no less than what the guest holds, once that is known.
    fn adopt(&mut self, sample: &Sample, turn: Turn) {
        let root = Root::default();
        let runs = |process| overcommit_host::runs(&root, process);
        for (guest, entry) in self.parts.journal.adopt(&sample.guests, &self.state, runs) {
            let target = entry.target.min(entry.original.target);
            // What it has beyond what it had somebody else gave it.
            let holds = guest.balloon.map_or(Bytes::ZERO, |balloon| guest.holds(&balloon));
            let original = Original { target: entry.original.target.max(holds), ..entry.original };
            if entry.whole {
                // It was seen to have all that it had: what it holds by now somebody else has set.
                self.state.leave(&guest.id, original);
                continue;
            }
            tracing::info!(guest = %guest.name, %target, original = %original.target, "adopted");
            self.state.suppose(&guest.id, original, target);
            self.unconfirmed.insert(guest.id.clone(), None);
            self.panics.adopted();
        }
        for (guest, original) in self.parts.journal.restored(&sample.guests, &self.state) {
            let holds = guest.balloon.map_or(original.target, |balloon| guest.holds(&balloon));
            tracing::info!(guest = %guest.name, %holds, original = %original.target, "restored with the balloon that it was saved with");
            self.state.adopt(&guest.id, original, holds);
            self.panics.adopted();
        }
        if let Some(held) = self.parts.journal.adopt_knobs() {
            self.state.adopt_knobs(held);
        }
        if let Some(lost_at) = self.parts.journal.lost_at() {
            self.find_squeezed(&sample.guests, lost_at);
        }
        // While decisions fail, what was given back without one must not be taken back by this.
        if self.panics.persist() || turn != Turn::Tick {
            return;
        }
        let again: Vec<Command> = sample.guests.iter().filter_map(|guest| self.confirmation(guest)).collect();
        if !again.is_empty() {
            self.parts.guests.send(&again);
        }
    }

    /// Nobody knows who took what a guest lacks that ran when the journal was lost: it is owed its full size. Once the
    /// balloon of each of them was seen, whatever is owed is in the state.
    fn find_squeezed(&mut self, guests: &[GuestSample], lost_at: Monotonic) {
        let ran_before = |guest: &GuestSample| guest.incarnation.is_none_or(|p| p.started() < lost_at);
        let known = |guest: &GuestSample| {
            self.state.dealings().of(&guest.id).is_some_and(|dealing| dealing.original.is_some())
        };
        let found: Vec<_> = guests.iter().filter(|guest| ran_before(guest) && !known(guest)).collect();
        for guest in found {
            let Some(balloon) = guest.balloon.filter(|b| b.actual < guest.config.full) else { continue };
            tracing::warn!(guest = %guest.name, holds = %balloon.actual, full = %guest.config.full, "found squeezed");
            let original = Original::of_unknown(guest.config.full, balloon.period);
            self.state.adopt(&guest.id, original, balloon.actual);
            self.panics.adopted();
        }
        let was_seen =
            |guest: &GuestSample| guest.balloon.is_some() || !guest.config.has_balloon || !ran_before(guest);
        if self.parts.guests.unseen() == 0 && guests.iter().all(was_seen) {
            self.parts.journal.saw_all();
        }
    }

    /// The command that makes sure of an adopted target, once its balloon rests; nothing while the guest is out of reach.
    fn confirmation(&mut self, guest: &GuestSample) -> Option<Command> {
        let holds = guest.balloon?.actual;
        let last = self.unconfirmed.get_mut(&guest.id)?;
        // What the last agent sent may still be under way.
        if last.replace(holds) != Some(holds) {
            return None;
        }
        self.unconfirmed.remove(&guest.id);
        let dealing = self.state.dealings().of(&guest.id)?;
        let (original, target) = dealing.original.zip(dealing.target)?;
        if holds.plus(FOLLOW_TOLERANCE) < target && target < original.target {
            tracing::warn!(guest = %guest.name, %holds, %target, "somebody else set its balloon since: what it is owed is given from there");
            self.state.adopt(&guest.id, original, holds);
            return None;
        }
        // Also where somebody else gave it more than it had: this command is not to take anything.
        let to = target.max(holds);
        self.state.adopt(&guest.id, original, to);
        Some(Command::SetTarget { id: guest.id.clone(), from: to, to })
    }

    pub(super) fn publish(&mut self, report: Report) {
        let report = Arc::new(report);
        self.last = Some(Arc::clone(&report));
        self.parts.reporter.publish(report);
        failpoint::reach("published");
    }
}
