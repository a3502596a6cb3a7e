//! What the loop did to each guest, and what it found there: everything that an end of the loop has to give back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contest::Contest;
use crate::evidence::DEFAULT_PERIOD_SECONDS;
use crate::model::Model;
use crate::sample::{Balloon, GuestId, GuestSample, ProcessFacts, Sample};
use crate::step::SQUEEZED_PERIOD;
use crate::units::{Bytes, Monotonic};

/// What a guest had before the loop touched it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// Balloon target to give back.
    pub target: Bytes,
    /// Statistics period to restore, seconds; absent if unknown.
    pub period: Option<u32>,
}

impl Original {
    /// Of a guest that is found squeezed, and of which nobody knows what it had: its full size is `full`. A statistics period that
    /// the loop sets is taken for its doing, and for the one that KubeVirt sets (`memBalloonStatsPeriod`).
    pub fn of_unknown(full: Bytes, period: Option<u32>) -> Self {
        let hurried = period == Some(SQUEEZED_PERIOD);
        Self { target: full, period: if hurried { Some(DEFAULT_PERIOD_SECONDS) } else { period } }
    }
}

/// What a guest is known to hold beneath its shadow balloon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Beneath {
    /// By its balloon.
    pub actual: Bytes,
    /// By the host's kernel, as far as it ever said.
    pub facts: ProcessFacts,
}

/// Whether a target is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Force {
    /// It is: somebody said so.
    #[default]
    Known,
    /// It is a predecessor's: the guest is not judged by it before it was made sure of.
    Supposed,
    /// Nobody answered the last command: what is in force is less, if it is not this.
    InDoubt,
}

impl Force {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_known(&self) -> bool {
        *self == Self::Known
    }
}

/// What passed between the loop and one guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dealing {
    /// The target that was commanded last.
    pub target: Option<Bytes>,
    /// Whether that is the one in force.
    #[serde(default, skip_serializing_if = "Force::is_known")]
    pub force: Force,
    /// A larger target that it is being told: it may have that much before anybody answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Bytes>,
    /// The target of its shadow balloon.
    pub shadow: Option<Bytes>,
    /// What it really held while a shadow balloon hid it.
    pub beneath: Beneath,
    /// What it had before it was touched.
    pub original: Option<Original>,
    /// Its statistics period is the loop's doing.
    pub hurried: bool,
    /// When its target was set again last, for it held less.
    pub asked_again: Option<Monotonic>,
    /// Whether somebody else keeps lowering its balloon.
    #[serde(default)]
    pub contest: Contest,
    /// It must not be touched, and was seen to have all that it had: from then on its balloon is its owner's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub let_go: bool,
    /// It is in the sample that is being taken in.
    met: bool,
}

impl Dealing {
    /// True if it holds less than it had because of the loop, or may: nobody answered what it was told.
    pub fn holds_anything(&self) -> bool {
        self.force == Force::InDoubt
            || self.target.zip(self.original).is_some_and(|(target, original)| target < original.target)
    }

    /// With a guest that is its owner's.
    pub(crate) fn left(original: Original) -> Self {
        Self { original: Some(original), ..Self::default() }
    }

    /// It has all that it had, to the last page, and nothing of it is the loop's doing any more.
    pub fn is_undone(&self, guest: &GuestSample, balloon: &Balloon) -> bool {
        let has_all = |(target, original): (Bytes, Original)| {
            target >= original.target && guest.holds(balloon) >= original.target
        };
        let hurried = self.hurried && balloon.period == Some(SQUEEZED_PERIOD);
        let settled = self.force == Force::Known && self.asked.is_none() && !hurried;
        settled && self.target.zip(self.original).is_some_and(has_all)
    }

    fn meet(&mut self, guest: &GuestSample, found: impl Fn(&Balloon) -> Bytes) {
        self.met = true;
        self.beneath.facts = guest.facts.or(&self.beneath.facts);
        let Some(balloon) = guest.balloon else { return };
        self.beneath.actual = guest.holds(&balloon);
        let now = found(&balloon);
        let original = self.original.get_or_insert(Original { target: now, period: balloon.period });
        // Somebody's command may have been under way when it was first seen, or comes now: until it is touched it has what it holds.
        if self.target.is_none() && self.force != Force::Supposed {
            original.target = now;
        }
    }
}

/// Dealings with all guests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dealings {
    guests: BTreeMap<GuestId, Dealing>,
}

impl Dealings {
    /// Those with one guest.
    pub fn of(&self, id: &GuestId) -> Option<&Dealing> {
        self.guests.get(id)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, id: &GuestId) -> Option<&mut Dealing> {
        self.guests.get_mut(id)
    }

    /// With how many guests there are any.
    pub fn count(&self) -> usize {
        self.guests.len()
    }

    /// The same, to be changed; begun where there were none.
    pub fn with(&mut self, id: &GuestId) -> &mut Dealing {
        self.guests.entry(id.clone()).or_default()
    }

    /// All, in the order of the guests' identities.
    pub fn iter(&self) -> impl Iterator<Item = (&GuestId, &Dealing)> {
        self.guests.iter()
    }

    /// All, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Dealing> {
        self.guests.values_mut()
    }

    /// Guests that were given back all that they had, and from whom nothing is wanted, are as if they had never been touched:
    /// what somebody sets from now on is theirs, also once something is wanted of them again.
    pub(crate) fn let_rest(&mut self, sample: &Sample) {
        for guest in &sample.guests {
            let Some((dealing, balloon)) = self.guests.get_mut(&guest.id).zip(guest.balloon) else {
                continue;
            };
            if dealing.is_undone(guest, &balloon) {
                (dealing.target, dealing.hurried) = (None, false);
            }
        }
    }

    /// Remembers what a guest had when it was first seen, and forgets guests that are gone. A guest found with an inflated
    /// balloon keeps that as its ceiling if `keep_found`, else it may have its full size.
    pub fn meet(&mut self, sample: &Sample, model: &Model, keep_found: bool) {
        self.guests.values_mut().for_each(|dealing| dealing.met = false);
        for guest in &sample.guests {
            let dealing = self.with(&guest.id);
            if !model.is_same_process(guest) {
                // Another process under the same identity has a balloon of its own, at its full size.
                *dealing = Dealing::default();
            }
            let full = guest.config.full;
            dealing.meet(guest, |balloon| if keep_found { guest.holds(balloon) } else { full });
        }
        self.guests.retain(|_, dealing| dealing.met);
    }
}
