//! What lasts of a program from cycle to cycle: samples, and what it remembers of the host and of each guest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use overcommit_policy::World;
use overcommit_policy::world::{HISTORY, Table};
use serde::{Deserialize, Serialize};

use super::fields::{self, Counters, Row};
use super::kept::{self, Variables};
use super::told::Told;
use super::{Refusal, seen, world};
use crate::apart::Apart;
use crate::guard::Scene;
use crate::ksm::Asked;
use crate::model::Track;
use crate::reason::Reason;
use crate::sample::{Faults, GuestId, Sample};
use crate::units::Monotonic;
use crate::view::GuestView;

/// What lasts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub(super) host: Subject,
    pub(super) guests: BTreeMap<GuestId, Subject>,
    counters: Option<Counters>,
    pub(super) told: Told,
    /// What the last evaluation saw and proposed; a predecessor's is of no use.
    #[serde(skip)]
    pub(super) last: Apart<Option<World>>,
    /// What it asks of merging.
    #[serde(default)]
    pub(super) asked: Asked,
}

/// What lasts of the host, or of a guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Subject {
    /// When that life of the guest began: another one has nothing of it.
    alive_since: Option<Monotonic>,
    /// Oldest first.
    pub(super) history: VecDeque<Row>,
    /// What its process's faults were in the last sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    faults: Option<Faults>,
    pub(super) variables: Variables,
    /// What was refused of it in the last cycle, and why.
    pub(super) refused: Option<Refusal>,
}

impl Memory {
    /// Nothing is known; then it is not written either.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What the last evaluation asks of merging.
    pub(crate) fn asked(&self) -> Asked {
        self.asked
    }

    /// The end of the program.
    pub(super) fn forget(&mut self) {
        // Nothing is known before the host was looked at once, and a policy without a program asks for no memory here.
        if self.counters.is_some() {
            *self = Self::default();
        }
    }

    /// What the program saw in its last cycle, and what it said.
    pub fn seen(&self) -> Option<seen::Seen> {
        Some(seen::of(self.last.0.clone()?, self))
    }

    /// What was refused of a guest.
    pub(super) fn reason_of(&self, track: &Track) -> Option<Reason> {
        self.guests.get(&track.sample.id)?.refused.as_ref().map(|(reason, _)| *reason)
    }

    /// A guest with the words for what was refused of it.
    pub(crate) fn with_words(&self, view: GuestView) -> GuestView {
        let refused = self.guests.get(&view.id).and_then(|guest| guest.refused.as_ref());
        GuestView { program: refused.map(|(_, words)| Arc::clone(words)), ..view }
    }

    /// One sample of the host, and of each guest that the program may see.
    pub(super) fn take_in(&mut self, scene: &Scene<'_>, sample: &Sample) {
        let (now, page) = (Counters::of(sample), fields::page(sample));
        self.host.push(fields::host_row(scene, sample, self.counters.as_ref(), &now));
        self.counters = Some(now);
        self.guests.retain(|id, _| scene.model.track(id).is_some());
        for (track, class) in world::shown(scene) {
            let guest = self.guests.entry(track.sample.id.clone()).or_default();
            if guest.alive_since != Some(track.alive_since) {
                *guest = Subject { alive_since: Some(track.alive_since), ..Subject::default() };
            }
            guest.push(fields::guest_row(track, class, page, guest.faults));
            guest.faults = track.sample.facts.faults.or(guest.faults);
        }
        for (id, guest) in &mut self.guests {
            // Whom the program does not see it cannot fail on.
            if !scene.model.track(id).is_some_and(|track| world::is_shown(track, scene)) {
                guest.refused = None;
            }
        }
    }
}

impl Subject {
    fn push(&mut self, row: Row) {
        while self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(row);
    }

    /// Keeps what lasts; says if not all does.
    pub(super) fn remember(&mut self, table: Table) -> Option<String> {
        let (variables, lost) = kept::keep(table);
        self.variables = variables;
        let most = kept::MOST;
        (lost > 0).then(|| format!("variables do not all last: {most} numbers and short texts do"))
    }
}
