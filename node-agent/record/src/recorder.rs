//! The state of a loop, with all that changes it told to a tape.

use std::borrow::Cow;
use std::ops::Deref;
use std::time::Duration;

use overcommit_core::dealings::Original;
use overcommit_core::growth::Growth;
use overcommit_core::ksm::{Held, Knobs};
use overcommit_core::plan::Outcome;
use overcommit_core::reason::Pain;
use overcommit_core::sample::GuestId;
use overcommit_core::step::{Decision, Input, State};
use overcommit_core::units::{Bytes, Monotonic};
use serde::{Deserialize, Serialize};

use crate::decided::Decided;
use crate::delta::Shown;
use crate::line::{Adopted, Begin, FORMAT, Felt, Left, Line};

/// What takes the lines. It must not wait: the loop does.
pub trait Tape {
    /// What is before the next line, where that has to be one that can be played without it.
    fn wants_beginning(&mut self) -> Option<Before>;
    /// Takes a line; `begins` the one that was wanted.
    fn take(&mut self, line: Vec<u8>, begins: bool);
    /// The wall clock, since 1970.
    fn wall(&self) -> Duration;
}

/// What is before a beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Before {
    /// Nothing: the process has just started.
    Start,
    /// Lines that are lost.
    Loss,
    /// A line of the same process: what it made of the state is what begins here.
    Line,
}

/// The state, which nothing changes unrecorded: by its methods alone, for reading it is the state itself.
#[derive(Default)]
pub struct Recorder {
    state: State,
    tape: Option<Box<dyn Tape + Send>>,
    shown: Shown,
}

impl Deref for Recorder {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Recorder {
    /// A new state; without a tape nothing is recorded.
    pub fn new(tape: Option<Box<dyn Tape + Send>>) -> Self {
        Self { tape, ..Self::default() }
    }

    /// [`State::recall`].
    pub fn recall(&mut self, learned: Growth) {
        self.tell(|_| Line::Recall(Cow::Borrowed(&learned)));
        self.state.recall(learned);
    }

    /// Forgets everything but what was learned, after a turn that failed inside.
    pub fn begin_anew(&mut self) {
        let learned = self.state.learned().clone();
        self.tell(|_| Line::Anew(Cow::Borrowed(&learned)));
        self.state = anew(learned);
    }

    /// [`State::adopt`].
    pub fn adopt(&mut self, id: &GuestId, original: Original, target: Bytes) {
        self.tell(|_| Line::Adopt(Adopted { id: Cow::Borrowed(id), original, target }));
        self.state.adopt(id, original, target);
    }

    /// [`State::suppose`].
    pub fn suppose(&mut self, id: &GuestId, original: Original, target: Bytes) {
        self.tell(|_| Line::Suppose(Adopted { id: Cow::Borrowed(id), original, target }));
        self.state.suppose(id, original, target);
    }

    /// [`State::leave`].
    pub fn leave(&mut self, id: &GuestId, original: Original) {
        self.tell(|_| Line::Leave(Left { id: Cow::Borrowed(id), original }));
        self.state.leave(id, original);
    }

    /// [`State::adopt_knobs`].
    pub fn adopt_knobs(&mut self, held: Held) {
        self.tell(|_| Line::Knobs(Cow::Borrowed(&held)));
        self.state.adopt_knobs(held);
    }

    /// [`State::note_knobs`].
    pub fn note_knobs(&mut self, under_way: bool) {
        if under_way != self.state.merging().is_writing() {
            self.tell(|_| Line::Writing(under_way));
            self.state.note_knobs(under_way);
        }
    }

    /// [`State::confirm_knobs`]; no decision follows it that could be played.
    pub fn confirm_knobs(&mut self, now: &Knobs) {
        self.state.confirm_knobs(now);
    }

    /// [`State::note_pain`].
    pub fn note_pain(&mut self, id: &GuestId, pain: Pain, at: Monotonic) {
        self.tell(|_| Line::Pain(Felt { id: Cow::Borrowed(id), pain, at }));
        self.state.note_pain(id, pain, at);
    }

    /// [`State::note`].
    pub fn note(&mut self, outcomes: &[Outcome]) {
        if !outcomes.is_empty() {
            self.tell(|_| Line::Outcomes(Cow::Borrowed(outcomes)));
        }
        self.state.note(outcomes);
    }

    /// [`State::step`]. What it is decided on is told before: a decision that fails inside can be made again, too.
    pub fn step(&mut self, input: &Input<'_>) -> Decision {
        let input = &Input { telling: input.telling || self.tape.is_some(), ..*input };
        self.tell(|shown| Line::Turn(Box::new(shown.differs(input))));
        let decision = self.state.step(input);
        if let Some(tape) = &mut self.tape {
            write(&mut **tape, &Line::Decided(Decided::of(&decision)), false);
        }
        decision
    }

    /// [`State::reuse`], which is no change of the state.
    pub fn reuse(&mut self, decision: Decision) {
        self.state.reuse(decision);
    }

    fn tell<'a>(&mut self, line: impl FnOnce(&mut Shown) -> Line<'a>) {
        let Some(tape) = &mut self.tape else { return };
        if let Some(before) = tape.wants_beginning() {
            self.shown = Shown::default();
            let begin = Begin {
                format: FORMAT,
                version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
                wall: tape.wall(),
                before,
                state: Cow::Borrowed(&self.state),
            };
            write(&mut **tape, &Line::Begin(Box::new(begin)), true);
        }
        write(&mut **tape, &line(&mut self.shown), false);
    }
}

/// A state that knows nothing but what was learned.
pub(crate) fn anew(learned: Growth) -> State {
    let mut state = State::default();
    state.recall(learned);
    state
}

fn write(tape: &mut (dyn Tape + Send), line: &Line<'_>, begins: bool) {
    // What cannot be JSON is a slip of ours; the player tells it.
    let told = |error: serde_json::Error| Line::Unwritten(error.to_string()).written().unwrap_or_default();
    tape.take(line.written().unwrap_or_else(told), begins);
}
