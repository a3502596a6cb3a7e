//! What a turn decided, as a recording keeps it: the moves and the account for people, a sum over everything for the
//! comparison.

use std::borrow::Cow;
use std::io;

use flate2::Crc;
use overcommit_core::ledger::Ledger;
use overcommit_core::plan::Move;
use overcommit_core::step::Decision;
use serde::{Deserialize, Serialize};

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided<'a> {
    /// CRC-32 of all of it, reasons and every guest's view included.
    sum: u32,
    /// What was to be done.
    pub moves: Cow<'a, [Move]>,
    /// The account.
    pub ledger: Ledger,
}

impl<'a> Decided<'a> {
    pub(crate) fn of(decision: &'a Decision) -> Self {
        let moves = Cow::Borrowed(decision.plan.moves());
        Self { sum: sum(decision), moves, ledger: decision.ledger }
    }

    /// The same, for longer than the decision.
    #[must_use]
    pub fn into_owned(self) -> Decided<'static> {
        Decided { sum: self.sum, moves: Cow::Owned(self.moves.into_owned()), ledger: self.ledger }
    }
}

fn sum(decision: &Decision) -> u32 {
    struct Summing(Crc);
    impl io::Write for Summing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut summing = Summing(Crc::new());
    let written = serde_json::to_writer(&mut summing, decision);
    // Of what cannot be JSON, on both sides the same part would be summed.
    debug_assert!(written.is_ok(), "{written:?}");
    summing.0.sum()
}
