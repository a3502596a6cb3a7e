//! The fast lane: what is looked at between two ticks, and what is done about it at once.

use std::time::{Duration, Instant};

use overcommit_core::cadence::Cadence;
use overcommit_core::lane::host_alarm;
use overcommit_core::sample::{GuestId, Incarnation};
use overcommit_core::step::Turn;
use overcommit_core::units::Monotonic;

use super::Loop;
use crate::clock;

/// A host that lost memory is not judged before the kernel has said how much of it guests hold, unless it takes longer.
pub(super) const WHOSE_MEMORY: Duration = Duration::from_millis(50);
/// An answer that has not come by then is not waited for before asking again.
const ANSWER: Duration = Duration::from_millis(300);

/// A squeezed guest.
#[derive(Default)]
pub(super) struct Watched {
    cadence: Cadence,
    period: Duration,
    process: Option<Incarnation>,
    asked: Option<Instant>,
}

impl Watched {
    fn is_due(&self, now: Monotonic) -> bool {
        self.asked.is_none_or(|asked| asked.elapsed() >= ANSWER) && self.cadence.due() <= now
    }
}

impl Loop {
    /// Squeezed guests are watched; others need no look between two ticks.
    pub(super) fn watch_squeezed(&mut self) {
        if !self.acts() {
            self.watched.clear();
            return;
        }
        let mut before = std::mem::take(&mut self.watched);
        for track in self.state.model().tracks().filter(|t| t.is_squeezed() && t.is_reachable()) {
            let id = &track.sample.id;
            let seconds = track.sample.balloon.and_then(|b| b.period).filter(|s| *s > 0).unwrap_or(1);
            let known = before.remove(id).unwrap_or_default();
            let period = Duration::from_secs(u64::from(seconds));
            let process = track.sample.incarnation;
            self.watched.insert(id.clone(), Watched { period, process, ..known });
        }
        let watched = &self.watched;
        self.lane.keep(|id| watched.contains_key(id));
        let processes: Vec<Incarnation> = watched.values().filter_map(|w| w.process).collect();
        self.parts.glimpses.keep(&processes);
    }

    /// Looks at the host and at the processes of squeezed guests.
    pub(super) fn poll(&mut self) {
        if !self.acts() {
            return;
        }
        let Some(known) = &self.known else { return };
        // A host that cannot be read now is told by the next tick.
        let Ok(now) = self.parts.host.sample() else { return };
        if self.alarm.is_none() && host_alarm(&known.host, &now, &known.ledger, self.eviction) {
            self.parts.guests.ask_host();
            self.alarm = Some(Instant::now());
        }
        if self.anybody_hurts() {
            self.turn(Turn::Relief);
        }
    }

    /// Decides on a host that lost memory, once the kernel has `said` whose it is or had its time.
    pub(super) fn answer_alarm(&mut self, said: bool) {
        if self.alarm.take_if(|since| said || since.elapsed() >= WHOSE_MEMORY).is_some() {
            self.turn(Turn::Alarm);
        }
    }

    fn anybody_hurts(&mut self) -> bool {
        let at = clock::now();
        let mut hurts = false;
        for (id, watched) in &self.watched {
            let glimpse = watched.process.and_then(|process| self.parts.glimpses.look(process));
            let Some((track, glimpse)) = self.state.model().track(id).zip(glimpse) else { continue };
            if let Some(felt) = self.lane.look(track, glimpse, at) {
                hurts |= felt.news;
                self.state.note_pain(id, felt.pain, at);
            }
        }
        hurts
    }

    /// When a squeezed guest's statistics are worth asking for next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let now = clock::now();
        let due = self.watched.values().map(|watched| match watched.asked {
            Some(asked) if asked.elapsed() < ANSWER => ANSWER.saturating_sub(asked.elapsed()),
            _ => watched.cadence.due().since(now),
        });
        due.min().map(|left| Instant::now() + left)
    }

    /// Asks squeezed guests whose statistics should have come.
    pub(super) fn look_at_due(&mut self) {
        let now = clock::now();
        for (id, watched) in self.watched.iter_mut().filter(|(_, w)| w.is_due(now)) {
            watched.asked = Some(Instant::now());
            self.parts.guests.ask_statistics(id);
        }
    }

    /// Statistics came that were asked for.
    pub(super) fn glanced(&mut self, glances: &[(GuestId, Option<u64>)]) {
        let now = clock::now();
        for (id, stamp) in glances {
            if let Some(watched) = self.watched.get_mut(id) {
                watched.asked = None;
                watched.cadence.looked(now, *stamp, watched.period);
            }
        }
    }
}
