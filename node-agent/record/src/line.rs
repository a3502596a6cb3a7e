//! The lines of a recording, each a JSON value: everything that changes the state, in the order in which it happened.

use std::borrow::Cow;
use std::time::Duration;

use overcommit_core::dealings::Original;
use overcommit_core::growth::Growth;
use overcommit_core::ksm::Held;
use overcommit_core::plan::Outcome;
use overcommit_core::policy::Policy;
use overcommit_core::reason::Pain;
use overcommit_core::roster::Roster;
use overcommit_core::sample::GuestId;
use overcommit_core::step::{Mandate, State, Turn};
use overcommit_core::units::{Bytes, Monotonic};
use serde::{Deserialize, Serialize};

use crate::decided::Decided;
use crate::delta::SampleDelta;
use crate::recorder::Before;

/// The format that this build writes and reads; another number is another format.
pub(crate) const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line<'a> {
    /// A stretch of lines without a gap begins.
    Begin(Box<Begin<'a>>),
    /// Everything but what was learned is forgotten: a turn had failed inside.
    Anew(Cow<'a, Growth>),
    /// What a predecessor learned.
    Recall(Cow<'a, Growth>),
    /// A guest and its target are taken over from the journal.
    Adopt(Adopted<'a>),
    /// The same, while nobody knows whether that target is in force.
    Suppose(Adopted<'a>),
    /// A guest of the journal is its owner's.
    Leave(Left<'a>),
    /// What is held of the kernel's knobs for merging is taken over from the journal.
    Knobs(Cow<'a, Held>),
    /// [`State::note_knobs`], where it changed.
    Writing(bool),
    /// A guest was seen to hurt from outside.
    Pain(Felt<'a>),
    /// What became of commands.
    Outcomes(Cow<'a, [Outcome]>),
    /// A turn is taken. If nothing follows, its decision never came.
    Turn(Box<Told<'a>>),
    /// What it decided.
    Decided(Decided<'a>),
    /// A line that could not be written, and why.
    Unwritten(String),
}

/// Both are compiled here, once: whoever asks serde compiles all of the engine's types anew.
impl Line<'_> {
    /// The line of this text.
    pub fn read(text: &[u8]) -> serde_json::Result<Line<'static>> {
        serde_json::from_slice(text)
    }

    /// Its text, with the end of the line.
    pub fn written(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// What was known when a stretch began: it can be played without the lines before it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begin<'a> {
    /// See [`FORMAT`].
    pub(crate) format: u32,
    /// Which build wrote it.
    pub version: Cow<'a, str>,
    /// The wall clock, since 1970.
    pub wall: Duration,
    /// What is before it.
    pub before: Before,
    pub(crate) state: Cow<'a, State>,
}

/// A guest that is taken over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Adopted<'a> {
    pub(crate) id: Cow<'a, GuestId>,
    pub(crate) original: Original,
    pub(crate) target: Bytes,
}

/// A guest that is left to its owner, and what it had.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left<'a> {
    pub(crate) id: Cow<'a, GuestId>,
    pub(crate) original: Original,
}

/// A guest's pain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Felt<'a> {
    pub(crate) id: Cow<'a, GuestId>,
    pub(crate) pain: Pain,
    pub(crate) at: Monotonic,
}

/// What a turn is decided on; what is absent is as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told<'a> {
    pub(crate) turn: Turn,
    pub(crate) mandate: Mandate,
    pub(crate) complete: bool,
    pub(crate) eviction: Bytes,
    pub(crate) keep_found: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<Cow<'a, Policy>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) roster: Option<Cow<'a, Roster>>,
    pub(crate) sample: SampleDelta<'a>,
}
