//! What turns are made with. After the first few a turn asks for no memory: what it needs for itself lies in an arena, what
//! it decides in what the last decision was made of, if that was given back ([`State::reuse`](crate::step::State::reuse)).

use bumpalo::Bump;

use crate::adaptive::Wish;
use crate::guard::Verdict;
use crate::sample::Sample;
use crate::step::Decision;

/// Empty between turns, but for what is overwritten as a whole.
#[derive(Debug, Default)]
pub(crate) struct Workshop {
    pub(crate) arena: Bump,
    pub(crate) wish: Wish,
    pub(crate) verdict: Verdict,
    pub(crate) decision: Decision,
    /// The last sample with shadow balloons.
    pub(crate) shown: Option<Sample>,
}

impl Workshop {
    /// The end of a turn.
    pub(crate) fn clear(&mut self) {
        self.arena.reset();
        self.wish.clear();
        self.verdict.plan.clear();
        self.verdict.dropped.clear();
        self.verdict.cut.clear();
    }
}
