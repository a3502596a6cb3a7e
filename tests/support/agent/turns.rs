//! An agent's turns, read from what it prints.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// One turn of the loop, as the agent prints it with `--output json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Turn {
    /// When it was told.
    pub at: jiff::Timestamp,
    /// Every guest.
    pub guests: Vec<Told>,
    /// How long it took.
    pub took: Duration,
    /// What was done.
    pub actions: Vec<Action>,
    /// What does not work.
    pub troubles: Vec<String>,
    /// The account; absent when the host could not be read.
    pub ledger: Option<Account>,
}

/// Of a turn's account; sizes in bytes.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    /// How much what is promised exceeds the budget.
    pub shortfall: u64,
    /// What is kept for memory that is no guest's to grow.
    pub non_guest_growth: u64,
    /// From the moment at which memory is gone until guests have given as much.
    pub reaction: Duration,
}

/// One guest in a turn.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    name: Name,
    /// How old its last statistics were.
    statistics_age: Option<Duration>,
}

#[derive(Clone, Debug, Deserialize)]
struct Name {
    name: String,
}

impl Turn {
    /// All that is promised is there: what is taken then is for somebody who needs it.
    pub fn is_short_of_nothing(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.shortfall == 0)
    }

    /// When the last statistics of a guest were first seen.
    pub fn statistics_came(&self, guest: &str) -> Option<jiff::Timestamp> {
        let age = self.guests.iter().find(|told| told.name.name == guest)?.statistics_age?;
        self.at.checked_sub(jiff::SignedDuration::try_from(age).ok()?).ok()
    }
}

/// One balloon command.
#[derive(Clone, Debug, Deserialize)]
pub struct Action {
    /// When.
    pub at: jiff::Timestamp,
    /// The guest's name.
    pub guest: String,
    /// Target before, in bytes.
    pub from: u64,
    /// Target after, in bytes.
    pub to: u64,
    /// Why, in one word.
    pub reason: String,
    /// It undoes a take that failed: what an event tells of.
    pub undoes: bool,
    /// Why it failed; absent when done.
    pub failed: Option<String>,
}

/// Reads an agent's turns as they come.
#[derive(Debug)]
pub struct Turns {
    log: PathBuf,
    read: u64,
}

impl Turns {
    pub(super) fn of(log: &Path) -> Self {
        Self { log: log.to_owned(), read: 0 }
    }

    /// The turns since the last call.
    ///
    /// # Errors
    /// When the log cannot be read or holds a turn of another form.
    pub fn fresh(&mut self) -> Result<Vec<Turn>> {
        let mut file = File::open(&self.log).with_context(|| self.log.display().to_string())?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // The last line may be half written.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        text.truncate(whole);
        self.read += whole as u64;
        // Between them are lines for people.
        let lines = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{"));
        lines.map(|line| Ok(serde_json::from_slice(line)?)).collect()
    }
}
