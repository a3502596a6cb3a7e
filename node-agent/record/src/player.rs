//! Makes recorded decisions again.

use overcommit_core::policy::Policy;
use overcommit_core::roster::Roster;
use overcommit_core::sample::Sample;
use overcommit_core::step::{Decision, Input, State};

use crate::decided::Decided;
use crate::delta::Shown;
use crate::line::{FORMAT, Line, Told};
use crate::recorder::{Before, anew};

/// Why a line cannot be played.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPlayed {
    /// It stands before any beginning.
    #[error("no beginning stands before it: name the file that was written before this one, too, and first")]
    NoBeginning,
    /// Another format.
    #[error("format {0}, and this build plays format {FORMAT}: use the build that recorded it")]
    Format(u32),
    /// Its recorder could not write it.
    #[error("it could not be written: {0}")]
    Unwritten(String),
    /// It says only what differs from something that is not there.
    #[error("it rests on lines that are missing")]
    Missing,
}

/// What came of a line.
#[derive(Debug)]
pub enum Played {
    /// A stretch begins.
    Began {
        /// Which build recorded it.
        version: String,
        /// What is before it.
        before: Before,
        /// The state of the recording is the one that was played up to here, where it goes on from that.
        agrees: bool,
    },
    /// A decision was made again.
    Decided(Box<Made>),
    /// The state changed.
    Changed,
}

/// A decision that was made again.
#[derive(Debug)]
pub struct Made {
    /// The reading.
    pub sample: Sample,
    /// What was decided then.
    pub recorded: Decided<'static>,
    /// What is decided now.
    pub decision: Decision,
    /// The two are the same, bit by bit.
    pub agrees: bool,
    /// What another policy makes of the same situation, where one was asked for.
    pub instead: Option<Decision>,
}

/// Plays the lines of a recording one after the other.
#[derive(Debug, Default)]
pub struct Player {
    state: Option<State>,
    shown: Shown,
    /// The turn whose decision is to come.
    turn: Option<Turned>,
    instead: Option<Policy>,
}

#[derive(Debug)]
struct Turned {
    sample: Sample,
    decision: Decision,
    instead: Option<Decision>,
}

impl Player {
    /// Each situation is decided by `policy` besides; what follows is as it was recorded, for that is what guests did.
    pub fn instead(policy: Policy) -> Self {
        Self { instead: Some(policy), ..Self::default() }
    }

    /// Plays a line.
    ///
    /// # Errors
    /// When it cannot be played; the next beginning can.
    pub fn play(&mut self, line: Line<'_>) -> Result<Played, NotPlayed> {
        if let Line::Begin(begin) = line {
            if begin.format != FORMAT {
                return Err(NotPlayed::Format(begin.format));
            }
            let (version, before) = (begin.version.into_owned(), begin.before);
            // Of the older file before it nobody may have played anything.
            let played = self.state.as_ref().filter(|_| before == Before::Line);
            let agrees = played.is_none_or(|state| *state == *begin.state);
            self.state = Some(begin.state.into_owned());
            (self.shown, self.turn) = (Shown::default(), None);
            return Ok(Played::Began { version, before, agrees });
        }
        let state = self.state.as_mut().ok_or(NotPlayed::NoBeginning)?;
        match line {
            Line::Begin(_) => {}
            Line::Unwritten(why) => return Err(NotPlayed::Unwritten(why)),
            Line::Anew(learned) => *state = anew(learned.into_owned()),
            Line::Recall(learned) => state.recall(learned.into_owned()),
            Line::Adopt(guest) => state.adopt(&guest.id, guest.original, guest.target),
            Line::Suppose(guest) => state.suppose(&guest.id, guest.original, guest.target),
            Line::Leave(guest) => state.leave(&guest.id, guest.original),
            Line::Knobs(held) => state.adopt_knobs(held.into_owned()),
            Line::Writing(under_way) => state.note_knobs(under_way),
            Line::Pain(felt) => state.note_pain(&felt.id, felt.pain, felt.at),
            Line::Outcomes(outcomes) => state.note(&outcomes),
            Line::Turn(told) => self.turn(*told)?,
            Line::Decided(recorded) => {
                let Turned { sample, decision, instead } = self.turn.take().ok_or(NotPlayed::Missing)?;
                let recorded = recorded.into_owned();
                let agrees = Decided::of(&decision) == recorded;
                let made = Made { sample, recorded, decision, agrees, instead };
                return Ok(Played::Decided(Box::new(made)));
            }
        }
        Ok(Played::Changed)
    }

    fn turn(&mut self, told: Told<'_>) -> Result<(), NotPlayed> {
        let Told { turn, mandate, complete, eviction, keep_found, policy, roster, sample } = told;
        if let Some(policy) = policy {
            self.shown.policy = Some(policy.into_owned());
        }
        if let Some(roster) = roster {
            self.shown.roster = Some(roster.into_owned());
        }
        let sample = self.shown.apply(sample).ok_or(NotPlayed::Missing)?;
        let policy = self.shown.policy.as_ref().ok_or(NotPlayed::Missing)?;
        let roster = self.shown.roster.as_ref().ok_or(NotPlayed::Missing)?;
        let state = self.state.as_mut().ok_or(NotPlayed::NoBeginning)?;
        let telling = true;
        let input =
            Input { sample: &sample, policy, roster, turn, mandate, complete, eviction, keep_found, telling };
        let instead = self.instead.as_ref().map(|policy| state.clone().step(&Input { policy, ..input }));
        let decision = state.step(&input);
        self.turn = Some(Turned { sample, decision, instead });
        Ok(())
    }

    /// The guests that the policy in force covers; absent before the first turn.
    pub fn roster(&self) -> Option<&Roster> {
        self.shown.roster.as_ref()
    }
}
