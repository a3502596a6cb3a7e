//! The only caller of the writing port: gives, then the journal, then takes.

use std::collections::BTreeMap;

use overcommit_core::plan::{Command, Outcome};
use overcommit_core::ports::GuestPort;
use overcommit_core::sample::{GuestId, Sample};
use overcommit_core::step::{Decision, State};

use crate::journal::Journal;

/// Carries a guarded plan out. Takes are dropped when the journal cannot be written; gives need no disk and do not wait
/// for it.
pub(crate) fn actuate(
    decision: &Decision,
    sample: &Sample,
    state: &State,
    journal: &mut Journal,
    port: &mut dyn GuestPort,
) -> Vec<Outcome> {
    let (takes, mut gives): (Vec<Command>, Vec<Command>) =
        decision.plan.commands().into_iter().partition(Command::takes);
    gives.extend(decision.again.iter().chain(&decision.periods).cloned());
    let mut outcomes = if gives.is_empty() { Vec::new() } else { port.apply(&gives) };
    if !takes.is_empty() && write_ahead(&takes, sample, state, journal).is_ok() {
        outcomes.extend(port.apply(&takes));
    }
    outcomes
}

/// Writes the journal as it will be after `commands`.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn write_ahead(
    commands: &[Command],
    sample: &Sample,
    state: &State,
    journal: &mut Journal,
) -> std::io::Result<()> {
    let incarnations = sample.guests.iter().map(|g| (g.id.clone(), g.incarnation)).collect();
    let about_to: BTreeMap<GuestId, _> = commands
        .iter()
        .filter_map(|command| match command {
            Command::SetTarget { id, to, .. } => Some((id.clone(), *to)),
            Command::SetPeriod { .. } => None,
        })
        .collect();
    journal.record(state, &incarnations, &about_to)
}
