//! The only caller of the writing port: journal first, then commands.

use std::collections::BTreeMap;

use overcommit_core::plan::{Command, Guarded, Outcome, Plan};
use overcommit_core::ports::GuestPort;
use overcommit_core::sample::{GuestId, Sample};
use overcommit_core::step::State;

use crate::journal::Journal;

/// Carries a guarded plan out. Takes are refused when the journal cannot be written; gives need no disk.
pub(crate) fn actuate(
    plan: &Plan<Guarded>,
    periods: &[Command],
    sample: &Sample,
    state: &State,
    journal: &mut Journal,
    port: &mut dyn GuestPort,
) -> Vec<Outcome> {
    let mut commands = plan.commands();
    let mut refused = Vec::new();
    if commands.iter().any(Command::takes) && write_ahead(&commands, sample, state, journal).is_err() {
        refused = commands.extract_if(.., |command| command.takes()).map(refusal).collect();
    }
    commands.extend_from_slice(periods);
    let mut outcomes = if commands.is_empty() { Vec::new() } else { port.apply(&commands) };
    outcomes.append(&mut refused);
    outcomes
}

fn refusal(command: Command) -> Outcome {
    Outcome { command, result: Err("not taken: the journal cannot be written".to_owned()) }
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
