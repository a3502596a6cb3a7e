//! What a turn is given, and what it comes to.

use serde::{Deserialize, Serialize};

use crate::ksm::KsmPlan;
use crate::ledger::Ledger;
use crate::mom;
use crate::plan::{Command, Guarded, Plan};
use crate::policy::Policy;
use crate::roster::Roster;
use crate::sample::Sample;
use crate::stranger::Unlisted;
use crate::units::Bytes;
use crate::view::GuestView;

/// Why this turn is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    /// The control period is over: everything is decided.
    Tick,
    /// Something new is known: gives, and takes for those in distress.
    Relief,
    /// The host lost memory: everything is decided, out of schedule.
    Alarm,
    /// The loop goes away: spread what is spare, take nothing.
    Handover,
}

/// What may be done at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mandate {
    /// Take and give.
    Full,
    /// Nothing may be taken; giving goes on.
    GiveOnly,
    /// Everything is to be given back.
    Release,
}

/// What a turn needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The reading.
    pub sample: &'a Sample,
    /// The policy in force.
    pub policy: &'a Policy,
    /// The guests it covers.
    pub roster: &'a Roster,
    /// Why now.
    pub turn: Turn,
    /// What may be done at all.
    pub mandate: Mandate,
    /// Every guest that exists is in the sample; without that no release is over.
    pub complete: bool,
    /// The kubelet's eviction line.
    pub eviction: Bytes,
    /// A guest found with an inflated balloon keeps that as its ceiling (a host where others use balloons too);
    /// otherwise every guest may have its full size.
    pub keep_found: bool,
    /// Somebody reads what is known and decided of every guest. It is the same decision without.
    pub telling: bool,
}

/// What a turn decided. A recording compares all of it as it is serialized, so that sums of former builds hold: new fields are
/// left out while they say nothing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Decision {
    /// What to do; empty while observing.
    #[serde(rename = "moves")]
    pub plan: Plan<Guarded>,
    /// Statistics periods to set.
    pub periods: Vec<Command>,
    /// Targets to set once more, because their guests hold less: a command may have been lost, or come late.
    pub again: Vec<Command>,
    /// The account.
    pub ledger: Ledger,
    /// Every guest, with its reason; none where nobody reads of them.
    pub guests: Vec<GuestView>,
    /// Pods that look like guests and are not listed, as a sum.
    pub unlisted: Unlisted,
    /// How far a release has come; absent when none was asked for.
    pub release: Option<Release>,
    /// The plan was followed by shadow balloons only.
    pub observing: bool,
    /// The node is about to kill: floors are those of an emergency.
    pub emergency: bool,
    /// Guests need more than there is: some are served whole, and the others wait their turn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub turns: bool,
    /// What is done about merging equal pages.
    #[serde(skip_serializing_if = "KsmPlan::is_unasked")]
    pub ksm: KsmPlan,
    /// What became of the policy's program; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<mom::Told>,
}

/// How far a release has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    /// Everything was given back.
    Done,
    /// Guests still follow.
    Underway {
        /// What is still out.
        outstanding: Bytes,
    },
    /// The node lacks the memory to give it back.
    Blocked {
        /// What is missing.
        short: Bytes,
    },
}
