//! No panic stops the loop. What a turn had begun is dropped, and the next begins from the journal as a new process would;
//! if that fails too, what was taken is given back without any decision.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use overcommit_core::fallback::{self, Held};
use overcommit_core::ports::Reading;
use overcommit_core::sample::{GuestId, GuestSample, HostSample};
use overcommit_core::units::Bytes;

use super::{Loop, SOON};
use crate::journal::Entry;

/// What failed inside is told for so long: longer than a status takes to be written and looked at.
pub(super) const TOLD_FOR: Duration = Duration::from_mins(5);
/// A loop that adopted guests, be it after a panic or as a new process, takes nothing for so long: which statistics the last
/// takes from them rested on is forgotten.
const CAREFUL: Duration = Duration::from_secs(10);
/// So many turns in a row that failed: the next would fail too.
const PERSISTENT: u32 = 2;

/// Panics so far.
#[derive(Debug, Default)]
pub(super) struct Panics {
    in_a_row: u32,
    last: Option<(Instant, String)>,
    adopted: Option<Instant>,
}

impl Panics {
    /// A turn went well.
    pub(super) fn over(&mut self) {
        self.in_a_row = 0;
    }

    /// Decisions fail again and again.
    pub(super) fn persist(&self) -> bool {
        self.in_a_row >= PERSISTENT
    }

    /// Guests were adopted.
    pub(super) fn adopted(&mut self) {
        self.adopted = Some(Instant::now());
    }

    /// Nothing is to be taken.
    pub(super) fn holds_takes(&self) -> bool {
        let panicked = self.last.as_ref().map(|(at, _)| *at);
        panicked.into_iter().chain(self.adopted).any(|at| at.elapsed() < CAREFUL)
    }

    /// What failed, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        let (_, why) = self.last.as_ref().filter(|(at, _)| at.elapsed() < TOLD_FOR)?;
        Some(if self.persist() {
            format!(
                "decisions fail inside ({why}): nothing is taken, and what was taken is given back as there is memory"
            )
        } else {
            format!("a decision failed inside ({why}): it was begun anew from the journal")
        })
    }

    fn note(&mut self, why: String) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = Some((Instant::now(), why));
    }
}

impl Loop {
    /// Does `work`; a panic in it is a failure of this turn alone.
    pub(super) fn isolated(&mut self, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            self.begin_anew(words(panic.as_ref()));
        }
    }

    fn begin_anew(&mut self, why: String) {
        tracing::error!(why, "a turn failed inside; the next begins from the journal");
        self.panics.note(why);
        self.state.begin_anew();
        self.parts.journal.forget_adoptions();
        self.unconfirmed.clear();
        // What is being written is no receipt of what is decided next.
        self.forget_takes(|_| true);
        self.forget_knobs();
        self.moves.clear();
        self.watched.clear();
        self.lane = overcommit_core::lane::Lane::default();
        let host = self.known.take().map(|known| known.host);
        (self.asked, self.asked_host, self.alarm) = (None, false, None);
        self.next_tick = Instant::now() + SOON;
        if self.panics.persist() || self.stopping.is_some() {
            match catch_unwind(AssertUnwindSafe(|| self.fall_back(host))) {
                Ok(true) => self.gave_back(),
                Ok(false) => {}
                Err(_) => tracing::error!("giving back without a decision failed too"),
            }
        }
        // The last report is of another time; a person who asks is to see that.
        if let Some(last) = self.last.clone() {
            let mut report = (*last).clone();
            report.troubles.add_own(self.panics.trouble());
            if catch_unwind(AssertUnwindSafe(|| self.publish(report))).is_err() {
                tracing::error!("telling of it failed too");
            }
        }
    }

    /// Gives back what the journal knows to be taken; false if nobody knows what the host has.
    pub(super) fn fall_back(&mut self, known: Option<HostSample>) -> bool {
        self.restore_knobs();
        let Some(host) = self.parts.host.sample().ok().or(known) else { return false };
        let entries: BTreeMap<GuestId, Entry> =
            self.parts.journal.entries().map(|(id, entry)| (id.clone(), entry.clone())).collect();
        let guests = self.parts.guests.sample(Reading::Known);
        let held = guests.iter().filter_map(|guest| {
            let entry = entries.get(&guest.id).filter(|entry| guest.may_be(entry.incarnation))?;
            let holds = guest.balloon.map_or(Bytes::ZERO, |b| b.actual).max(entry.target);
            Some(Held { id: guest.id.clone(), original: entry.original.target, holds })
        });
        let held: Vec<Held> = held.collect();
        let untouched = |guest: &GuestSample| {
            let told = held.iter().find(|h| h.id == guest.id).map_or(Bytes::ZERO, |h| h.holds);
            let may_touch = guest.balloon.map_or(guest.config.full, |b| b.actual).max(told);
            may_touch.plus(guest.config.plugged).minus(guest.facts.resident.unwrap_or_default())
        };
        let untouched = guests.iter().map(untouched).sum();
        let commands = fallback::give_back(&held, &host.memory, untouched, self.eviction);
        if !commands.is_empty() {
            tracing::warn!(guests = commands.len(), "given back without a decision");
            self.parts.guests.send(&commands);
        }
        true
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}
