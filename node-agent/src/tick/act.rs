//! Carrying decisions out: gives at once, takes once the journal has them. The only caller of a writing port but for
//! the confirmation of an adopted target (`turn`) and what is given back without a decision (`panics`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overcommit_core::dealings::Force;
use overcommit_core::ksm::Write;
use overcommit_core::plan::{Command, Failed, Outcome};
use overcommit_core::sample::{GuestId, GuestSample, Incarnation, Sample};
use overcommit_core::step::{Decision, Turn};

use super::Loop;
use super::under_way::changes_what_was_found;
use crate::failpoint;
use crate::journal::Content;
use crate::report::{Action, Report};

/// Takes that the journal has held up for longer were decided on statistics of another time.
const STALE: Duration = Duration::from_secs(2);

/// Answers to one question come within this time, but for those of slow guests.
const TOGETHER: Duration = Duration::from_millis(50);

/// Takes that wait for the journal.
pub(super) struct Takes {
    commands: Vec<Command>,
    /// The kernel's for merging.
    knobs: Vec<Write>,
    decided: Instant,
}

/// Of targets that are set again a decision has no steps, which are told by themselves.
fn tell_again(decision: &Decision) {
    for command in &decision.again {
        let Command::SetTarget { id, to, .. } = command else { continue };
        let name = decision.guests.iter().find(|guest| guest.id == *id).map(|guest| &guest.name);
        if let Some(guest) = name {
            tracing::info!(%guest, target = %to, "its target is set again: it holds less, or nobody answered");
        }
    }
}

impl Loop {
    /// Sends what a decision wants. Giving needs no disk and waits for none.
    pub(super) fn act(&mut self, decision: &Decision, sample: &Sample) {
        for step in decision.plan.moves() {
            // Its target is known from here on.
            self.unconfirmed.remove(&step.id);
            self.moves.insert(step.id.clone(), step.clone());
        }
        self.forget_takes(|id| decision.plan.of(id).is_some_and(|step| !step.takes()));
        tell_again(decision);
        let again = decision.again.iter().chain(&decision.periods).cloned();
        let commands = decision.plan.commands().chain(again);
        let (takes, gives): (Vec<Command>, Vec<Command>) = commands.partition(changes_what_was_found);
        if !gives.is_empty() {
            self.parts.guests.send(&gives);
            failpoint::reach("gives-sent");
        }
        let knobs = self.set_knobs(&decision.ksm);
        if !takes.is_empty() || !knobs.is_empty() {
            self.take(takes, knobs, &sample.guests);
        }
    }

    /// Takes that wait for the journal are not made from guests of which `so` holds: what was decided since is worth more.
    pub(super) fn forget_takes(&mut self, so: impl Fn(&GuestId) -> bool) {
        if let Some(takes) = &mut self.takes {
            takes.commands.retain(|command| !so(command.id()));
        }
    }

    /// The same of the kernel's knobs.
    pub(super) fn forget_knobs(&mut self) {
        if let Some(takes) = &mut self.takes {
            takes.knobs.clear();
        }
    }

    pub(super) fn take(&mut self, commands: Vec<Command>, knobs: Vec<Write>, guests: &[GuestSample]) {
        let incarnations = guests.iter().map(|g| (g.id.clone(), g.incarnation)).collect();
        match self.write_ahead(&commands, &incarnations) {
            None => self.take_now(&commands, knobs),
            // One write at a time; what the disk holds up is decided anew on later statistics.
            Some(_) if self.takes.is_some() => {}
            Some(content) => {
                self.parts.scribe.write(content);
                self.takes = Some(Takes { commands, knobs, decided: Instant::now() });
                failpoint::reach("journal-asked");
            }
        }
    }

    fn take_now(&mut self, commands: &[Command], knobs: Vec<Write>) {
        if !knobs.is_empty() {
            failpoint::reach("before-knobs");
            self.parts.knobs.write(knobs);
            failpoint::reach("knobs-sent");
        }
        if !commands.is_empty() {
            self.under_way.sent(commands);
            self.parts.guests.send(commands);
        }
    }

    /// The journal as it has to be before `commands` are sent, while others are under way; absent if it is.
    fn write_ahead(
        &self,
        commands: &[Command],
        incarnations: &BTreeMap<GuestId, Option<Incarnation>>,
    ) -> Option<Content> {
        self.parts.journal.next(&self.state, incarnations, &self.lowered_by(commands))
    }

    /// A journal that could not be written is tried again each turn, so that it is known when the disk is well, whether
    /// or not anything is to be taken. And what was found after one was lost does not wait for a take.
    pub(super) fn mend_journal(&mut self) {
        if self.parts.journal.is_behind() || self.parts.journal.is_found_again() {
            self.record_all();
        }
    }

    /// The last word on disk: targets as they are in force.
    pub(super) fn record_all(&mut self) {
        let tracks = self.state.model().tracks();
        let incarnations = tracks.map(|t| (t.sample.id.clone(), t.sample.incarnation)).collect();
        if let Some(content) = self.write_ahead(&[], &incarnations)
            && self.takes.is_none()
        {
            self.parts.scribe.write(content);
            let (commands, knobs) = (Vec::new(), Vec::new());
            self.takes = Some(Takes { commands, knobs, decided: Instant::now() });
        }
    }

    /// Gives need no disk. But what was given back is written down soon, or a later agent would think that it is still owed.
    pub(super) fn record_given_back(&mut self) {
        if self.parts.journal.is_outdated(&self.state) {
            self.record_all();
        }
    }

    /// It was not written down yet, and could be.
    pub(super) fn is_to_be_recorded(&self) -> bool {
        self.parts.journal.is_outdated(&self.state) && !self.parts.journal.is_behind()
    }

    /// The journal is written, or cannot be.
    pub(super) fn recorded(&mut self, content: Content, result: std::io::Result<()>) {
        let written = self.parts.journal.wrote(content, result);
        let Some(takes) = self.takes.take() else { return };
        if written && takes.decided.elapsed() < STALE {
            failpoint::reach("before-takes");
            self.take_now(&takes.commands, takes.knobs);
            if !takes.commands.is_empty() {
                failpoint::reach("takes-sent");
            }
        } else {
            let refused = || "not taken: the journal cannot be written".into();
            let outcome = |command| Outcome { command, result: Err(refused()) };
            let refused: Vec<Outcome> = takes.commands.into_iter().map(outcome).collect();
            self.tell(&refused);
        }
    }

    /// Takes in what came from the guests, and from the kernel about them.
    pub(super) fn hear(&mut self) {
        let heard = self.parts.guests.hear();
        if !heard.outcomes.is_empty() {
            failpoint::reach("heard");
        }
        self.under_way.answered(&heard.outcomes);
        self.state.note(&heard.outcomes);
        self.tell(&heard.outcomes);
        self.glanced(&heard.glances);
        let targets = heard.outcomes.iter().filter(|o| matches!(o.command, Command::SetTarget { .. }));
        let mut in_doubt = false;
        for Outcome { command, result } in targets {
            in_doubt |= matches!(result, Err(Failed::Unanswered { .. }));
            // What was decided in the place of making sure of an adopted target was refused: that is still to be done.
            if self.state.dealings().of(command.id()).is_some_and(|dealing| dealing.force == Force::Supposed)
            {
                self.unconfirmed.entry(command.id().clone()).or_default();
            }
        }
        // Most answers to a tick's question come together, and the tick judges them.
        let tick_does = self.asked.is_some_and(|asked| asked.elapsed() < TOGETHER);
        if in_doubt && self.acts() {
            // Who hurts may have got nothing.
            self.turn(Turn::Relief);
        } else if heard.news.is_some() && !tick_does && self.acts() && !self.watched.is_empty() {
            self.turn(Turn::Relief);
        }
        self.answer_alarm(heard.host);
    }

    /// Publishes what was done since the last report.
    fn tell(&mut self, outcomes: &[Outcome]) {
        self.failures
            .extend(outcomes.iter().filter_map(|o| o.result.as_ref().err().map(ToString::to_string)));
        let actions: Vec<Action> = outcomes.iter().filter_map(|outcome| self.action(outcome)).collect();
        if let Some(last) = self.last.clone().filter(|_| !actions.is_empty()) {
            self.publish(Report { at: jiff::Timestamp::now(), actions, ..(*last).clone() });
        }
    }

    fn action(&mut self, outcome: &Outcome) -> Option<Action> {
        let Command::SetTarget { id, from, to } = &outcome.command else { return None };
        let step = self.moves.get(id).filter(|step| step.to == *to)?.clone();
        self.moves.remove(id);
        Some(Action::of(&step, *from, *to, outcome.result.as_ref().err().map(ToString::to_string)))
    }
}
