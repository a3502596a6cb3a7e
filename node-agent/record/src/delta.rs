//! A reading as what differs from the one before: most turns are about one guest of a hundred.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use overcommit_core::policy::Policy;
use overcommit_core::roster::Roster;
use overcommit_core::sample::{GuestId, GuestSample, HostSample, Sample};
use overcommit_core::step::Input;
use overcommit_core::stranger::Stranger;
use overcommit_core::units::Monotonic;
use serde::{Deserialize, Serialize};

use crate::line::Told;

/// What differs from the reading before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SampleDelta<'a> {
    at: Monotonic,
    wall: Duration,
    host_age: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, HostSample>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    guests: Vec<Cow<'a, GuestSample>>,
    /// All guests in their order, when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<Vec<GuestId>>,
    /// How old the kernel's word is about each, in nanoseconds: it grows with every turn, and is nothing else's difference.
    ages: Vec<Option<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strangers: Option<Cow<'a, [Stranger]>>,
}

/// What was told last, on either side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) policy: Option<Policy>,
    pub(crate) roster: Option<Roster>,
    host: Option<HostSample>,
    guests: BTreeMap<GuestId, GuestSample>,
    order: Vec<GuestId>,
    strangers: Vec<Stranger>,
}

impl Shown {
    /// What differs, and is known from here on.
    pub(crate) fn differs<'a>(&mut self, input: &Input<'a>) -> Told<'a> {
        // Who records a decision reads all of it.
        let Input { sample, policy, roster, turn, mandate, complete, eviction, keep_found, telling: _ } =
            *input;
        Told {
            turn,
            mandate,
            complete,
            eviction,
            keep_found,
            policy: renewed(&mut self.policy, policy),
            roster: renewed(&mut self.roster, roster),
            sample: self.sample(sample),
        }
    }

    fn sample<'a>(&mut self, sample: &'a Sample) -> SampleDelta<'a> {
        let order: Vec<GuestId> = sample.guests.iter().map(|guest| guest.id.clone()).collect();
        let guests = sample.guests.iter().filter(|guest| {
            let same = self.guests.get(&guest.id).is_some_and(|known| same_but_for_age(known, guest));
            if !same {
                self.guests.insert(guest.id.clone(), (*guest).clone());
            }
            !same
        });
        let guests = guests.map(Cow::Borrowed).collect();
        let order = (order != self.order).then(|| {
            self.keep(&order);
            self.order.clone_from(&order);
            order
        });
        let strangers = (self.strangers != sample.strangers).then(|| {
            self.strangers.clone_from(&sample.strangers);
            Cow::Borrowed(sample.strangers.as_slice())
        });
        let nanos = |age: Duration| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        SampleDelta {
            at: sample.at,
            wall: sample.wall,
            host_age: sample.host_age,
            host: renewed(&mut self.host, &sample.host),
            guests,
            order,
            ages: sample.guests.iter().map(|guest| guest.facts_age.map(nanos)).collect(),
            strangers,
        }
    }

    /// Who is gone is forgotten.
    fn keep(&mut self, order: &[GuestId]) {
        let here: BTreeSet<&GuestId> = order.iter().collect();
        self.guests.retain(|id, _| here.contains(id));
    }

    /// The reading that `delta` tells; absent where it rests on what was never told.
    pub(crate) fn apply(&mut self, delta: SampleDelta<'_>) -> Option<Sample> {
        for guest in delta.guests {
            self.guests.insert(guest.id.clone(), guest.into_owned());
        }
        if let Some(order) = delta.order {
            self.keep(&order);
            self.order = order;
        }
        if let Some(strangers) = delta.strangers {
            self.strangers = strangers.into_owned();
        }
        if let Some(host) = delta.host {
            self.host = Some(host.into_owned());
        }
        let guest = |(id, age): (&GuestId, Option<u64>)| {
            let guest = self.guests.get(id)?.clone();
            Some(GuestSample { facts_age: age.map(Duration::from_nanos), ..guest })
        };
        let ages = delta.ages.into_iter().chain(std::iter::repeat(None));
        Some(Sample {
            at: delta.at,
            wall: delta.wall,
            host_age: delta.host_age,
            host: self.host.clone()?,
            guests: self.order.iter().zip(ages).map(guest).collect::<Option<_>>()?,
            strangers: self.strangers.clone(),
        })
    }
}

/// `now`, where it is not what was known.
fn renewed<'a, T: Clone + PartialEq>(known: &mut Option<T>, now: &'a T) -> Option<Cow<'a, T>> {
    if known.as_ref() == Some(now) {
        return None;
    }
    *known = Some(now.clone());
    Some(Cow::Borrowed(now))
}

fn same_but_for_age(one: &GuestSample, other: &GuestSample) -> bool {
    // Without `..`, so that a fact that is added is not forgotten here.
    let GuestSample { id, name, incarnation, config, run_state, balloon, facts, facts_age: _, trouble } = one;
    *id == other.id
        && *name == other.name
        && *incarnation == other.incarnation
        && *config == other.config
        && *run_state == other.run_state
        && *balloon == other.balloon
        && *facts == other.facts
        && *trouble == other.trouble
}
